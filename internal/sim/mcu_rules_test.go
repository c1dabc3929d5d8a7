package sim

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/tlv"
)

// TestMCURefusesPiecesOutOfPlace: each with its code, which ends the update.
func TestMCURefusesPiecesOutOfPlace(t *testing.T) {
	piece := func(off uint64, n int) []byte {
		b, err := tlv.AppendLoad(nil, 1, off, make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	boot := func(version string) []byte {
		b, err := tlv.AppendBoot(nil, 1, version)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		name  string
		offer bool
		send  [][]byte
		want  tlv.Code
	}{
		{name: "nothing offered", send: [][]byte{piece(0, 10)}, want: tlv.CodeInvalidReq},
		{name: "does not begin at 0", offer: true, send: [][]byte{piece(10, 10)}, want: tlv.CodeInvalidOffset},
		{name: "gap", offer: true, send: [][]byte{piece(0, 100), piece(101, 10)}, want: tlv.CodeInvalidOffset},
		{name: "twice", offer: true, send: [][]byte{piece(0, 100), piece(0, 100)}, want: tlv.CodeInvalidOffset},
		{name: "past the end", offer: true, send: [][]byte{piece(0, 250), piece(250, 51)}, want: tlv.CodeLength},
		{name: "boot without an image", send: [][]byte{boot("2.0.0")}, want: tlv.CodeChecksum},
		{name: "boot of another version", offer: true, send: [][]byte{piece(0, 250), piece(250, 50), nil, boot("2.0.1")}, want: tlv.CodeInvalidReq},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, MCUConfig{NoVerdict: true}, LineConfig{})
				defer r.close()
				if tc.offer {
					if err := r.offer("2.0.0", 300); err != nil {
						t.Fatal(err)
					}
				}
				for _, packet := range tc.send {
					if packet == nil {
						time.Sleep(time.Second) // the MCU checks the image
						continue
					}
					r.mustSend(packet, nil)
				}
				stat, err := r.await(time.Second, tlv.OpOTAStat)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.asError(stat); !errors.Is(err, statError{tc.want}) {
					t.Errorf("%v, want STAT %v", err, tc.want)
				}
				if r.mcu.Boots() != 1 {
					t.Error("it booted")
				}
			})
		})
	}
}

// TestMCUAnswersAStrayPieceOnce: a module that has not noticed a reset gets one
// STAT, not one for every piece.
func TestMCUAnswersAStrayPieceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, MCUConfig{}, LineConfig{})
		defer r.close()
		for i := range 5 {
			r.mustSend(tlv.AppendLoad(nil, 1, uint64(i*10), make([]byte, 10)))
		}
		if _, err := r.await(time.Second, tlv.OpOTAStat); err != nil {
			t.Error(err)
		}
		if _, err := r.await(time.Minute, tlv.OpOTAStat); err == nil {
			t.Error("a second STAT for stray pieces")
		}
	})
}

// TestMCURepeatsAsTheReferenceDoes: a frame without an ack is sent three times
// in all, 5 s apart, and then dropped for the next one.
func TestMCURepeatsAsTheReferenceDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{})
		module := l.Module()
		m := NewMCU(MCUConfig{Traffic: time.Hour})
		r := &rig{mcu: m, line: l, peer: &peer{t: t}}
		begin := time.Now()
		r.powerOn()
		defer r.powerOff()
		in := tlv.NewReader(module)
		for i := range 3 {
			f, err := in.Next()
			if err != nil || f.Seq != 0 {
				t.Fatalf("seq %d, %v", f.Seq, err)
			}
			if after := time.Since(begin); after < time.Duration(i)*5*time.Second || after > time.Duration(i)*5*time.Second+100*time.Millisecond {
				t.Errorf("sent %d times after %v", i+1, after)
			}
		}
		f, err := in.Next() // the property an hour later
		if err != nil || f.Seq != 1 || time.Since(begin) < time.Hour {
			t.Errorf("seq %d after %v, %v", f.Seq, time.Since(begin), err)
		}
		if s := m.Stats(); s.Dropped != 1 || s.Retries != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestMCUForgetsWhatIsInFlightWhenItsPeerRestarts.
func TestMCUForgetsWhatIsInFlightWhenItsPeerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{})
		module := l.Module()
		r := &rig{mcu: NewMCU(MCUConfig{}), line: l, peer: &peer{t: t}}
		r.powerOn()
		defer r.powerOff()
		time.Sleep(time.Second) // its report is in flight and not acknowledged
		first, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: 0, Payload: tlv.AppendPing(nil, 1)})
		if _, err := module.Write(first); err != nil {
			t.Fatal(err)
		}
		in := tlv.NewReader(module)
		var heard []tlv.FrameType
		var last byte
		for range 3 { // report, ack, and then the ping's echo rather than the report once more
			f, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			heard, last = append(heard, f.Type), f.Seq
		}
		if heard[1] != tlv.FrameAck || heard[2] != tlv.FrameData || last != 1 {
			t.Errorf("heard %v, the last with number %d", heard, last)
		}
	})
}

// TestMCUReportsAfterUpdates: in that mode a plain start says nothing.
func TestMCUReportsAfterUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, MCUConfig{Report: ReportAfterUpdate}, LineConfig{})
		defer r.close()
		if p, err := r.await(time.Minute, tlv.OpSendTLV); err == nil {
			t.Errorf("after a plain start: %v", p)
		}
		image := BuildDemoImage("2.0.0", 3000, 1)
		if err := errors.Join(r.offer("2.0.0", len(image)), r.load(image)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.await(time.Second, tlv.OpOTAStat); err != nil {
			t.Fatal(err)
		}
		r.mustSend(tlv.AppendBoot(nil, r.nextReq(), "2.0.0"))
		if _, err := r.await(10*time.Second, tlv.OpSendTLV); err != nil || r.props[DefaultVersionProperty] != "2.0.0" {
			t.Errorf("after an update: %q, %v", r.props[DefaultVersionProperty], err)
		}
	})
}
