package bridge

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

// hostile is an MCU that acknowledges everything, takes every offer and sends
// what its function says, one packet every pause of virtual time.
type hostile struct {
	packet func(n int) []byte
	pause  time.Duration
}

// run talks on end until it is closed.
func (h hostile) run(end io.ReadWriteCloser, done chan<- struct{}) {
	defer close(done)
	acks := make(chan byte, 64)
	go func() {
		defer close(acks)
		for r := tlv.NewReader(end); ; {
			f, err := r.Next()
			if err != nil {
				return
			}
			if f.Type == tlv.FrameData && len(acks) < cap(acks) {
				acks <- f.Seq
			}
		}
	}()
	var seq tlv.Lollipop
	next := time.NewTicker(h.pause)
	defer next.Stop()
	for n := 0; ; {
		f := tlv.Frame{Type: tlv.FrameAck}
		var open bool
		select {
		case f.Seq, open = <-acks:
			if !open {
				return
			}
		case <-next.C:
			f = tlv.Frame{Type: tlv.FrameData, Seq: seq.Next(), Payload: h.packet(n)}
			n++
		}
		b, err := tlv.AppendFrame(nil, f)
		if err != nil {
			panic(err)
		}
		_, _ = end.Write(b) // a line that is closed ends the reader, and that this
	}
}

// attack puts h in the place of a device's MCU.
func (w *world) attack(device string, h hostile) {
	w.halt[device]()
	end, done := w.lines[device].MCU(), make(chan struct{})
	go h.run(end, done)
	w.halt[device] = func() {
		_ = end.Close()
		<-done
		delete(w.halt, device)
	}
}

func text(name, value string) []byte {
	b, _, err := tlv.AppendSendText(nil, 7, name, value, 0)
	if err != nil {
		panic(err)
	}
	return b
}

// An MCU may say what it wants: the service hears valid messages, few of them,
// and the neighbour is updated. (The service of these tests fails a test on any
// payload that is not valid.)
func TestHostileMCU(t *testing.T) {
	long := strings.Repeat("<", schemas.MaxVersionLength)
	for name, packet := range map[string]func(n int) []byte{
		"changes its version all the time": func(n int) []byte { return text(versionProperty, fmt.Sprint("1.", n)) },
		"distinct properties":              func(n int) []byte { return text(fmt.Sprint("p", n), "1.0") },
		"control characters":               func(n int) []byte { return text(versionProperty, fmt.Sprintf("1.0\x00\x1b%c", n%32)) },
		"versions that grow in JSON":       func(n int) []byte { return text(versionProperty, long[:200+n%50]) },
		"refuses with every code":          func(n int) []byte { return tlv.AppendStat(nil, 1, tlv.Code(n)) },
		"go and no more":                   func(int) []byte { return tlv.AppendGo(nil, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 3_000, []string{"bad", pump}, func(w *world) {
				w.attack("bad", hostile{packet, 25 * time.Millisecond})
				time.Sleep(20 * time.Second)
				if n := w.service.helloCount("bad"); n < 1 || n > 20 {
					t.Errorf("%d hellos in 20 s", n)
				}
				bad := w.theOffer()
				bad.Execution, bad.Host.AnswerTimeoutMS = "ex-bad", 20_000
				w.service.offer("bad", bad)
				w.service.offer(pump, w.theOffer())
				w.wantSuccess(pump)
				if st := w.awaitEnd("ex-bad"); st.State == schemas.StateSucceeded {
					t.Errorf("%s with version %q", st.State, st.HostVersion)
				}
			})
		})
	}
}

// A service that repeats one chunk for ever makes no progress.
func TestDoubledChunksAreNoProgress(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		var first []byte
		w.service.chunk = func(n int, b []byte) []byte {
			if n == 1 {
				first = b
				return b
			}
			w.service.send(topicOf(pump, schemas.KindChunk), first)
			return nil
		}
		began := time.Now()
		w.service.offer(pump, w.theOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseNetwork)
		if took := time.Since(began); took > time.Hour {
			t.Errorf("given up after %v", took)
		}
	})
}
