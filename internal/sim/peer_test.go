package sim

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"davit/schemas/tlv"
)

// peer is the smallest module that can drive an MCU: stop and wait with the
// reference's timer, nothing adaptive. It belongs to the test's goroutine.
type peer struct {
	t       *testing.T
	rw      io.ReadWriteCloser
	frames  chan tlv.Frame
	tx      tlv.Lollipop
	rx      tlv.Receiver
	parts   *tlv.Assembler
	req     uint16
	inbox   []tlv.Packet
	props   map[string]string
	restart int // sequence restarts of the MCU
	retries int
}

func newPeer(t *testing.T, rw io.ReadWriteCloser) *peer {
	p := &peer{t: t, rw: rw, frames: make(chan tlv.Frame), props: map[string]string{}, parts: tlv.NewAssembler(4096)}
	go func() {
		defer close(p.frames)
		in := tlv.NewReader(rw)
		for {
			f, err := in.Next()
			if errors.Is(err, tlv.ErrFrame) {
				continue
			}
			if err != nil {
				return
			}
			f.Payload = bytes.Clone(f.Payload)
			p.frames <- f
		}
	}()
	return p
}

func (p *peer) close() {
	_ = p.rw.Close()
	for range p.frames {
	}
}

// ackTimeout is the reference module's.
const ackTimeout = 5 * time.Second

var errNoAck = errors.New("no ack")

// send sends a packet and waits for its ack, three times at most.
func (p *peer) send(packet []byte) error {
	seq := p.tx.Next()
	frame, err := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet})
	if err != nil {
		return err
	}
	for try := range 3 {
		if try > 0 {
			p.retries++
		}
		if _, err := p.rw.Write(frame); err != nil {
			return err
		}
		timeout := time.After(ackTimeout)
		for waiting := true; waiting; {
			select {
			case f, ok := <-p.frames:
				if !ok {
					return io.ErrClosedPipe
				}
				if f.Type == tlv.FrameAck && f.Seq == seq {
					return nil
				}
				p.take(f)
			case <-timeout:
				waiting = false
			}
		}
	}
	return errNoAck
}

func (p *peer) mustSend(packet []byte, err error) {
	p.t.Helper()
	if err == nil {
		err = p.send(packet)
	}
	if err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// take acknowledges a data frame and keeps what it says.
func (p *peer) take(f tlv.Frame) {
	if f.Type != tlv.FrameData {
		return
	}
	ack, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameAck, Seq: f.Seq})
	_, _ = p.rw.Write(ack)
	switch p.rx.Accept(f.Seq) {
	case tlv.Repeated:
		return
	case tlv.Restarted:
		p.restart++
	}
	packet, err := tlv.ParsePacket(f.Payload)
	if err != nil {
		p.t.Errorf("the MCU sent a bad packet: %v", err)
		return
	}
	if packet.Op == tlv.OpSendTLV {
		prop, err := tlv.ParseProp(packet)
		if err != nil {
			p.t.Errorf("the MCU sent a bad property: %v", err)
			return
		}
		// A part whose forerunner was given up is no fault of the MCU's.
		if whole, done, err := p.parts.Add(packet.Req, prop); err == nil && done {
			p.props[whole.Name] = string(whole.Value)
		}
	}
	p.inbox = append(p.inbox, packet)
}

// await returns the next packet of one of the operations; others are dropped.
func (p *peer) await(limit time.Duration, ops ...tlv.Op) (tlv.Packet, error) {
	timeout := time.After(limit)
	for {
		for i, packet := range p.inbox {
			for _, op := range ops {
				if packet.Op == op {
					p.inbox = p.inbox[i+1:]
					return packet, nil
				}
			}
		}
		p.inbox = nil
		select {
		case f, ok := <-p.frames:
			if !ok {
				return tlv.Packet{}, io.ErrClosedPipe
			}
			p.take(f)
		case <-timeout:
			return tlv.Packet{}, fmt.Errorf("no %v within %v", ops, limit)
		}
	}
}

func (p *peer) nextReq() uint16 { p.req++; return p.req }

// statError is a STAT that ended the update.
type statError struct{ code tlv.Code }

func (e statError) Error() string { return "STAT " + e.code.String() }

func (p *peer) offer(version string, size int) error {
	packet, err := tlv.AppendOffer(nil, p.nextReq(), version, uint64(size))
	if err != nil {
		return err
	}
	if err := p.send(packet); err != nil {
		return err
	}
	answer, err := p.await(2*time.Minute, tlv.OpOTA, tlv.OpOTAStat)
	if err != nil {
		return err
	}
	if answer.Op == tlv.OpOTA {
		return tlv.ParseEmpty(answer)
	}
	return p.asError(answer)
}

func (p *peer) asError(stat tlv.Packet) error {
	code, err := tlv.ParseStat(stat)
	if err != nil {
		return err
	}
	if code != tlv.CodeOK {
		return statError{code}
	}
	return nil
}

// load sends the image and returns as soon as the MCU says that it failed.
func (p *peer) load(image []byte) error {
	for off := 0; off < len(image); off += tlv.MaxLoad {
		packet, err := tlv.AppendLoad(nil, p.nextReq(), uint64(off), image[off:min(off+tlv.MaxLoad, len(image))])
		if err != nil {
			return err
		}
		if err := p.send(packet); err != nil {
			return err
		}
		for _, in := range p.inbox {
			if in.Op == tlv.OpOTAStat {
				p.inbox = nil
				return p.asError(in)
			}
		}
		p.inbox = nil
	}
	return nil
}

// update carries an image through the whole flow and returns the version that
// the MCU reports in the end.
func (p *peer) update(version string, image []byte) (string, error) {
	if err := p.offer(version, len(image)); err != nil {
		return "", err
	}
	if err := p.load(image); err != nil {
		return "", err
	}
	if stat, err := p.await(2*time.Second, tlv.OpOTAStat); err == nil {
		if err := p.asError(stat); err != nil {
			return "", err
		}
	}
	return p.boot(version)
}

func (p *peer) boot(version string) (string, error) {
	delete(p.props, DefaultVersionProperty)
	packet, err := tlv.AppendBoot(nil, p.nextReq(), version)
	if err != nil {
		return "", err
	}
	if err := p.send(packet); err != nil {
		return "", err
	}
	if stat, err := p.await(10*time.Second, tlv.OpOTAStat, tlv.OpSendTLV); err == nil && stat.Op == tlv.OpOTAStat {
		if err := p.asError(stat); err != nil {
			return "", err
		}
	}
	return p.version()
}

// version asks for the version unless it has been reported.
func (p *peer) version() (string, error) {
	for range 3 {
		if v, ok := p.props[DefaultVersionProperty]; ok {
			return v, nil
		}
		packet, err := tlv.AppendSendProp(nil, p.nextReq(), DefaultVersionProperty)
		if err != nil {
			return "", err
		}
		if err := p.send(packet); err != nil {
			return "", err
		}
		_, _ = p.await(10*time.Second, tlv.OpSendTLV)
	}
	return "", errors.New("no version reported")
}

// rig is an MCU that runs on a line with a peer at the other end.
type rig struct {
	*peer
	mcu    *MCU
	line   *Line
	cancel context.CancelFunc
	ended  chan error
}

// newRig must be called in a bubble and closed in it.
func newRig(t *testing.T, mc MCUConfig, lc LineConfig) *rig {
	r := &rig{mcu: NewMCU(mc), line: NewLine(lc)}
	r.peer = newPeer(t, r.line.Module())
	r.powerOn()
	return r
}

func (r *rig) powerOn() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan error, 1)
	end := r.line.MCU()
	go func() { r.ended <- r.mcu.Run(ctx, end) }()
}

func (r *rig) powerOff() {
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

func (r *rig) close() {
	r.powerOff()
	r.peer.close()
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
