package afero

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

// chunk is how many bytes of the image the tests with a scripted peer have in a
// message.
const chunk = 8

// bench is a session on a line with a scripted MCU at the far end, in virtual
// time.
type bench struct {
	*peer
	*dialecttest.Recorder
	line    *sim.Line
	session dialect.Session
	image   []byte
	update  dialect.Update
	said    *dialogue
}

// virtual runs f on a bench whose image has size bytes.
func virtual(t *testing.T, size int, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, size)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.session.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			_ = b.line.MCU().Close()
		}()
		f(b)
	})
}

func newBench(t *testing.T, size int) *bench {
	line := sim.NewLine(sim.LineConfig{Baud: defaultBaud, BitsPerByte: bitsPerByte, NoFlowControl: true})
	said := &dialogue{began: time.Now()}
	b := &bench{
		peer: newPeer(t, &witness{line.MCU(), fromMCU, said}), Recorder: dialecttest.NewRecorder(),
		line: line, image: make([]byte, size), said: said,
	}
	for i := range b.image {
		b.image[i] = byte(i*i>>3 + i + 0x30) // ready bytes and syncs among them
	}
	b.session = Dialect{}.NewSession(&witness{line.Module(), fromASR, said}, dialect.Config{VersionProperties: []string{property}}, b.Recorder)
	ready := make(chan struct{})
	close(ready)
	b.update = dialect.Update{
		Version: "2.1.0", VersionID: newID, NumericType: firmwareType, AttributeSize: 4 + chunk,
		Size: uint64(size), SHA256: sha256.Sum256(b.image), Image: bytes.NewReader(b.image), Ready: ready, Reporter: b.Recorder,
	}
	return b
}

// uint16le and uint64le are values as the wire has them.
func uint16le(v uint16) []byte { return binary.LittleEndian.AppendUint16(nil, v) }
func uint64le(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// wants takes the next message and checks how it reads.
func (b *bench) wants(say string) afpro.Message {
	b.Helper()
	m := b.hear(patient)
	if got := describe(m); got != say {
		b.Fatalf("the bridge said %q, want %q", got, say)
	}
	return m
}

// What the bridge says in the start-up, and the offer of the bench's update.
const (
	saysProtocol    = "UPDATE ASR protocol version: 2 (module rebooted)"
	saysEcho        = "UPDATE MCU protocol version: 2 (answer to an MCU SET)"
	saysApplication = "UPDATE application version: 65536 (module rebooted)"
	saysLinked      = "UPDATE ASR state: linked (module rebooted)"
	saysInitialized = "UPDATE ASR state: initialized (module rebooted)"
	saysFail        = "UPDATE channel to MCU: OTA info FAIL"
	saysApply       = "UPDATE channel to MCU: OTA info APPLY version 7"
)

// startsUp goes through the start-up.
func (b *bench) startsUp() {
	b.Helper()
	b.wants(saysProtocol)
	b.tells(afpro.MCUProtocol, uint16le(2)...)
	b.wants(saysEcho)
	b.linked()
}

// linked hears the rest of the start-up, behind the exchange of protocol versions.
func (b *bench) linked() {
	b.Helper()
	for _, say := range []string{saysApplication, saysLinked, saysInitialized} {
		b.wants(say)
	}
}

// asked takes the GET of the version, and returns its request id.
func (b *bench) asked() byte {
	b.Helper()
	m := b.hear(patient)
	if m.Type != afpro.Get || m.Attribute != afpro.VersionAttribute(firmwareType) {
		b.Fatalf("the bridge said %q, want a GET of the version", describe(m))
	}
	return m.Request
}

// answers takes the GET of the version and answers it.
func (b *bench) answers(id uint64) { b.Helper(); b.answer(b.asked(), id) }

// answer answers a GET of the version.
func (b *bench) answer(request byte, id uint64) {
	b.Helper()
	b.says(afpro.Message{
		Type: afpro.Update, Request: request, Attribute: afpro.VersionAttribute(firmwareType), Reason: afpro.ReasonGet, Value: uint64le(id),
	})
}

// unknown takes the GET of the version and answers that there is no such attribute.
func (b *bench) unknown() {
	b.Helper()
	b.doesNotSay(afpro.Message{Request: b.asked(), Attribute: afpro.VersionAttribute(firmwareType)})
}

// doesNotSay answers a GET that there is no such attribute.
func (b *bench) doesNotSay(get afpro.Message) {
	b.Helper()
	b.says(afpro.Message{Type: afpro.Update, Request: get.Request, Attribute: get.Attribute, State: afpro.StateUnknownAttribute, Reason: afpro.ReasonGet})
}

// reports says which version runs, of the MCU's own accord.
func (b *bench) reports(id uint64) {
	b.Helper()
	b.tells(afpro.VersionAttribute(firmwareType), uint64le(id)...)
}

// up goes through the start-up and lets the bridge know what runs.
func (b *bench) up(id uint64) {
	b.Helper()
	b.startsUp()
	b.answers(id)
	b.answers(id)
}

// begin is the offer as it was made.
func (b *bench) begin() afpro.Info {
	return afpro.Info{State: afpro.InfoBegin, Type: firmwareType, Size: uint32(len(b.image)), Version: b.update.VersionID}
}

// offered takes an offer.
func (b *bench) offered() {
	b.Helper()
	if _, i := b.tunnelled(); i != b.begin() {
		b.Fatalf("offered %+v, want %+v", i, b.begin())
	}
}

// tunnelled takes an OTA info of the bridge.
func (b *bench) tunnelled() (say string, i afpro.Info) {
	b.Helper()
	m := b.hear(patient)
	_, value, err := afpro.ParseTunnel(m.Value)
	if err == nil {
		i, err = afpro.ParseInfo(value)
	}
	if err != nil {
		b.Fatalf("the bridge said %q, want an OTA info: %v", describe(m), err)
	}
	return describe(m), i
}

// accepts starts the update and takes the offer.
func (b *bench) accepts() {
	b.Helper()
	b.session.Start(b.update)
	b.offered()
	b.info(b.begin())
}

// chunkAt takes the chunk at an offset, and checks its bytes.
func (b *bench) chunkAt(offset int) {
	b.Helper()
	m := b.hear(patient)
	_, value, err := afpro.ParseTunnel(m.Value)
	if err != nil {
		b.Fatalf("the bridge said %q, want a chunk: %v", describe(m), err)
	}
	at, data, err := afpro.ParseTransfer(value)
	want := b.image[offset:min(offset+chunk, len(b.image))]
	if err != nil || int(at) != offset || !bytes.Equal(data, want) {
		b.Fatalf("the bridge said %q, want the %d bytes at %d (%v)", describe(m), len(want), offset, err)
	}
}

// loads takes the image from an offset up to another one, and wants what
// comes then.
func (b *bench) loads(from, to int) {
	b.Helper()
	for at := from; at < to; {
		b.chunkAt(at)
		at = min(at+chunk, len(b.image))
		if at == len(b.image) {
			b.next(afpro.StopOffset)
			return
		}
		b.next(uint32(at))
	}
}

// loaded takes all of the image, from the offer to the verdict.
func (b *bench) loaded() {
	b.Helper()
	b.accepts()
	b.loads(0, len(b.image))
	b.verify()
}

// verify says the SHA-256 of the image.
func (b *bench) verify() {
	b.Helper()
	b.info(afpro.Info{State: afpro.InfoVerify, SHA256: b.update.SHA256})
}

func (b *bench) idle() { b.Helper(); b.info(afpro.Info{State: afpro.InfoIdle}) }

func (b *bench) fail() { b.Helper(); b.info(afpro.Info{State: afpro.InfoFail}) }

// reboots is an MCU that has restarted and has the ASR reboot too.
func (b *bench) reboots() {
	b.Helper()
	request := b.nextRequest()
	b.says(afpro.Message{Type: afpro.Set, Request: request, Attribute: afpro.SystemCommand, Value: []byte{afpro.CommandReboot, 0, 0, 0}})
	if m := b.wants("UPDATE system command: 01 00 00 00 (answer to an MCU SET)"); m.Request != request {
		b.Fatalf("the answer has request id %d, want %d", m.Request, request)
	}
}

// ends waits for the end of the update, with an MCU that says nothing meanwhile.
func (b *bench) ends(state schemas.State, cause schemas.Cause) dialect.Result {
	b.Helper()
	select {
	case r := <-b.Done:
		if r.State != state || r.Cause != cause {
			b.Fatalf("ended %s, cause %q (%s), want %s, %q; %v", r.State, r.Cause, r.Detail, state, cause, b.Said())
		}
		if state != schemas.StateSucceeded && r.Detail == "" {
			b.Error("a failure without a word")
		}
		if state == schemas.StateSucceeded && r.HostVersion != property7 {
			b.Errorf("succeeded with version %q", r.HostVersion)
		}
		return r
	case <-time.After(time.Hour):
		b.Fatalf("the update does not end; so far %v", b.Said())
	}
	panic("unreachable")
}

// property7 is the image's version id as the MCU's property has it.
const property7 = "7"

// goesOn fails the test if the update has ended.
func (b *bench) goesOn(why string) {
	b.Helper()
	synctest.Wait()
	if len(b.Done) > 0 {
		b.Fatalf("%s, and the update ended: %+v", why, <-b.Done)
	}
}

// toldLast fails the test unless this was told last.
func (b *bench) toldLast(want string) {
	b.Helper()
	synctest.Wait()
	if said := b.Said(); len(said) == 0 || said[len(said)-1] != want {
		b.Errorf("told %q, want %q in the end", said, want)
	}
}

// toldStates fails the test unless these states were reported.
func (b *bench) toldStates(want ...string) {
	b.Helper()
	if got := slices.DeleteFunc(b.Said(), func(s string) bool { return s[0] < 'a' }); !slices.Equal(got, want) {
		b.Errorf("reported %q, want %q", got, want)
	}
}
