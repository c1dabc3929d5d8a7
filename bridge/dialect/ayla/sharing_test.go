package ayla

import (
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

func TestSharing(t *testing.T) {
	var s sharing
	take := func(n int, shared bool, tries int) {
		for range n {
			s.acked(shared, tries)
		}
	}
	expect := func(when string, wanted bool) {
		t.Helper()
		if s.wanted() != wanted {
			t.Errorf("%s: wanted is %v", when, !wanted)
		}
	}
	take(healthy-1, false, 1)
	expect("too early", false)
	take(1, false, 2)
	take(healthy-1, false, 1)
	expect("one failed", false)
	take(1, false, 1)
	expect("healthy", true)
	take(1, true, 2)
	expect("refused once", false)
	take(healthy, false, 1)
	expect("asked again", true)
	take(1, true, 1)
	take(missed-1, true, 2)
	expect("noise", true)
	take(1, true, 2)
	expect("garbage between the frames", false)
	take(healthy, false, 1)
	expect("garbage is over", true)
	take(1, true, 1)
	s.restarted()
	expect("after a restart", false)

	s = sharing{}
	for range refusals {
		take(healthy, false, 1)
		expect("asked", true)
		take(1, true, 2)
	}
	take(100, false, 1)
	expect("a peer that never took one", false)
}

// The image's frames leave without an opening flag once the peer has shown that it can do without: each has one flag
// on the line. A peer that needs both costs two frames sent again and is left alone.
func TestFlagsAreSharedWherePossible(t *testing.T) {
	for name, c := range map[string]struct {
		mcu    sim.MCUConfig
		again  int
		shared bool
	}{
		"shared":     {sim.MCUConfig{}, 0, true},
		"both flags": {sim.MCUConfig{DoubleFlags: true}, refusals, false},
	} {
		t.Run(name, func(t *testing.T) {
			const pieces = 200
			onRig(t, sim.LineConfig{}, c.mcu, pieces*tlv.MaxLoad, func(r *dialecttest.Rig) {
				l := r.TimeLoad()
				r.Ends(schemas.StateSucceeded, "")
				if n := l.Retried(); n != c.again {
					t.Errorf("%d frames sent again while the image was loaded, want %d", n, c.again)
				}
				both := int64(ceiling(r.Image, sim.DefaultBaud, false) / r.Line.ByteTime())
				// Give or take what the request numbers and checksums of this session take for stuffing.
				if saved := both - l.Bytes(); c.shared && (saved-(pieces-healthy))/10 != 0 {
					t.Errorf("%d bytes fewer than with both flags on %d pieces, want %d", saved, pieces, pieces-healthy)
				}
			})
		})
	}
}

// Garbage between the frames spoils those that have no opening flag, and no others.
func TestGarbageBetweenFrames(t *testing.T) {
	rec := dialecttest.NewRecorder()
	l := newLink(115_200, rec.Counted)
	now := time.Unix(1000, 0)
	sent := map[bool]int{}
	for range 400 {
		l.encode(kindLoad, 1, 0, []byte{0, 0x0e, 0, 1})
		b := l.write(now)
		l.written(now)
		bare := b[0] != 0x7e
		sent[bare]++
		if bare { // the garbage before it has no end
			now = l.due()
			if b = l.write(now); b[0] != 0x7e {
				t.Fatal("sent again without its opening flag")
			}
			l.written(now)
		}
		if _, ok := l.acked(l.flights[l.cur].seq, now); !ok {
			t.Fatal("the ack ends nothing")
		}
	}
	if sent[true] != refusals {
		t.Errorf("%d frames were sent without an opening flag to a peer that never took one, want %d", sent[true], refusals)
	}
	if n := rec.Count(dialect.FramesRetried); n != refusals {
		t.Errorf("%d frames sent again", n)
	}
}
