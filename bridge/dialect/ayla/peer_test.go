package ayla

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim" // a line with a clock; the peers on it are scripted here
	"davit/schemas"
	"davit/schemas/tlv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a scripted host MCU: it acknowledges and sends what the test says.
type peer struct {
	line   *sim.Line
	end    io.ReadWriter
	frames chan tlv.Frame // data frames that are new
	acks   chan byte
	seq    tlv.Lollipop
	rx     tlv.Receiver
	// mute keeps back the ack of a frame when it returns true.
	mute  func(tlv.Frame) bool
	mu    sync.Mutex
	bytes []byte // everything that arrived
}

func newPeer(line *sim.Line) *peer {
	p := &peer{line: line, end: line.MCU(), frames: make(chan tlv.Frame, 512), acks: make(chan byte, 64)}
	go p.read()
	return p
}

func (p *peer) read() {
	defer close(p.frames)
	r := tlv.NewReader(io.TeeReader(p.end, p))
	for {
		f, err := r.Next()
		if errors.Is(err, tlv.ErrFrame) {
			continue
		}
		if err != nil {
			return
		}
		if f.Type == tlv.FrameAck {
			select {
			case p.acks <- f.Seq:
			default: // more than any test counts
			}
			continue
		}
		f.Payload = bytes.Clone(f.Payload)
		if !p.muted(f) {
			p.ack(f.Seq)
		}
		if f.Seq != 0 && p.rx.Accept(f.Seq) == tlv.Repeated {
			continue
		}
		p.frames <- f
	}
}

func (p *peer) muted(f tlv.Frame) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute != nil && p.mute(f)
}

// hush sets what is not acknowledged.
func (p *peer) hush(mute func(tlv.Frame) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
}

// Write keeps a copy of what is read.
func (p *peer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes = append(p.bytes, b...)
	return len(b), nil
}

// heard returns the frames that arrived, in hex, each with both flags.
func (p *peer) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return split(p.bytes)
}

func split(b []byte) []string {
	var out []string
	for part := range bytes.SplitSeq(b, []byte{0x7e}) {
		if len(part) > 0 {
			out = append(out, fmt.Sprintf("7e%x7e", part))
		}
	}
	return out
}

// settle waits until the line has been at rest for a while.
func (p *peer) settle() {
	time.Sleep(200 * time.Millisecond) // virtual
	synctest.Wait()
}

// drain drops the frames that have arrived.
func (p *peer) drain(t *testing.T) {
	t.Helper()
	for len(p.frames) > 0 {
		p.next(t, time.Second)
	}
}

// passLoads waits for the next offer, whatever LOADs are still under way.
func (p *peer) passLoads(t *testing.T) {
	t.Helper()
	for p.next(t, time.Minute).Op != tlv.OpOTA {
	}
}

// rewound waits for the LOAD at offset 0.
func (p *peer) rewound(t *testing.T) {
	t.Helper()
	for {
		if l, err := tlv.ParseLoad(p.want(t, tlv.OpOTALoad)); err == nil && l.Offset == 0 {
			return
		}
	}
}

func (p *peer) ack(seq byte) { p.raw(tlv.Frame{Type: tlv.FrameAck, Seq: seq}) }

func (p *peer) raw(f tlv.Frame) {
	b, err := tlv.AppendFrame(nil, f)
	if err != nil {
		panic(err)
	}
	_, _ = p.end.Write(b) // a line that is closed has no test left to tell
}

// send sends a data frame without waiting for its ack.
func (p *peer) send(packet []byte) {
	p.raw(tlv.Frame{Type: tlv.FrameData, Seq: p.seq.Next(), Payload: packet})
}

// restart makes the next frame one with sequence number 0.
func (p *peer) restart() { p.seq = tlv.Lollipop{} }

// next returns the next new packet, which has to come within limit.
func (p *peer) next(t *testing.T, limit time.Duration) tlv.Packet {
	t.Helper()
	select {
	case f, ok := <-p.frames:
		if !ok {
			t.Fatal("the line is closed")
		}
		packet, err := tlv.ParsePacket(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return packet
	case <-time.After(limit):
		t.Fatalf("nothing came for %v", limit)
	}
	panic("unreachable")
}

// want returns the next packet of one of ops, passing over the greeting.
func (p *peer) want(t *testing.T, op tlv.Op) tlv.Packet {
	t.Helper()
	for {
		packet := p.next(t, 3*time.Minute)
		if packet.Op == op {
			return packet
		}
		if packet.Op != tlv.OpConnect && packet.Op != tlv.OpSendProp {
			t.Fatalf("got %v, want %v", packet.Op, op)
		}
	}
}

// load takes LOADs until the whole of image is there.
func (p *peer) load(t *testing.T, image []byte) {
	t.Helper()
	p.loadFrom(t, image, 0, len(image))
}

func (p *peer) loadFrom(t *testing.T, image []byte, at, end int) {
	t.Helper()
	for at < end {
		l, err := tlv.ParseLoad(p.want(t, tlv.OpOTALoad))
		if err != nil {
			t.Fatal(err)
		}
		if int(l.Offset) != at || !bytes.Equal(l.Data, image[at:at+len(l.Data)]) {
			t.Fatalf("LOAD of %d bytes at %d, want offset %d and the image's bytes", len(l.Data), l.Offset, at)
		}
		at += len(l.Data)
	}
}

func (p *peer) version(version string) {
	b, _, err := tlv.AppendSendText(nil, 7, DefaultVersionProperty, version, 0)
	if err != nil {
		panic(err)
	}
	p.send(b)
}

func (p *peer) goAhead()         { p.send(tlv.AppendGo(nil, 0x10)) }
func (p *peer) stat(c tlv.Code)  { p.send(tlv.AppendStat(nil, 0x11, c)) }
func (p *peer) listenEnable()    { p.send(tlv.AppendListenEnable(nil, 0x12)) }
func (p *peer) bootsTo(v string) { p.restart(); p.listenEnable(); p.version(v) }

// bench is a session on a line with a peer at the far end, in virtual time.
type bench struct {
	*testing.T
	*peer
	*dialecttest.Recorder
	session dialect.Session
	image   []byte
	update  dialect.Update
	stop    func()
}

// newVersion is what the tests update to.
const newVersion = dialecttest.NewVersion

func newBench(t *testing.T, cfg sim.LineConfig, image []byte) *bench {
	t.Helper()
	line := sim.NewLine(cfg)
	b := &bench{T: t, peer: newPeer(line), Recorder: dialecttest.NewRecorder(), image: image}
	b.session = Dialect{}.NewSession(line.Module(), dialect.Config{Baud: cfg.Baud, VersionProperties: []string{DefaultVersionProperty}}, b.Recorder)
	ready := make(chan struct{})
	close(ready)
	b.update = dialect.Update{Version: newVersion, Size: uint64(len(image)), Image: bytes.NewReader(image), Ready: ready, Reporter: b.Recorder}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.session.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = line.MCU().Close()
	}
	return b
}

// result waits for the end of the update.
func (b *bench) result() dialect.Result {
	b.Helper()
	select {
	case r := <-b.Done:
		return r
	case <-time.After(time.Hour):
		b.Fatalf("the update does not end; so far %v", b.Said())
	}
	panic("unreachable")
}

func (b *bench) wantEnd(state schemas.State, cause schemas.Cause, code tlv.Code) dialect.Result {
	b.Helper()
	r := b.result()
	if r.State != state || r.Cause != cause || r.Code != int(code) {
		b.Errorf("ended %s, cause %q, code %#x (%s); want %s, %q, %#x", r.State, r.Cause, r.Code, r.Detail, state, cause, byte(code))
	}
	if state == schemas.StateSucceeded && r.HostVersion != b.update.Version {
		b.Errorf("succeeded with version %q", r.HostVersion)
	}
	if state != schemas.StateSucceeded && r.Detail == "" {
		b.Error("a failure without a word")
	}
	return r
}

// virtual runs f in virtual time with a session on a clean line.
func virtual(t *testing.T, size int, f func(b *bench)) {
	t.Helper()
	virtualOn(t, sim.LineConfig{}, size, f)
}

func virtualOn(t *testing.T, cfg sim.LineConfig, size int, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		image := make([]byte, size)
		for i := range image {
			image[i] = byte(i*i>>3 + i)
		}
		b := newBench(t, cfg, image)
		defer b.stop()
		f(b)
	})
}
