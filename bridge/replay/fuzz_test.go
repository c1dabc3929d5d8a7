package replay_test

import (
	"encoding/binary"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/recording"
	"davit/bridge/replay"
)

// FuzzFile: whatever a file holds, a replay ends with a report or a sentence.
func FuzzFile(f *testing.F) {
	for _, b := range recordings(f) {
		f.Add(b[:min(len(b), 3000)], false)
		f.Add(b[:min(len(b), 1000)], true)
	}
	f.Fuzz(func(t *testing.T, b []byte, strict bool) { ends(t, b, replay.Options{Strict: strict}) })
}

// FuzzLine: whatever passed on a line, and in whatever pieces. Of each piece, two
// bytes say side and length, and how many milliseconds after the one before it came.
func FuzzLine(f *testing.F) {
	for name, b := range recordings(f) {
		_, all := taken(f, b)
		var flat []byte
		var last time.Duration
		for _, p := range all[:min(len(all), 60)] {
			n := min(len(p.bytes), 127)
			flat = append(flat, byte(p.from-1)|byte(n)<<1, byte(min((p.at-last)/time.Millisecond, 255)))
			flat = append(flat, p.bytes[:n]...)
			last = p.at
		}
		f.Add(flat, name[1] == 'y', false)
	}
	f.Fuzz(func(t *testing.T, flat []byte, isAyla, strict bool) {
		h := recording.Header{Dialect: afero.Name, Device: "lab-1", Baud: 9600, Parity: "none"}
		if isAyla {
			h.Dialect = ayla.Name
		}
		var all []piece
		var at time.Duration
		for len(flat) > 2 {
			head := binary.BigEndian.Uint16(flat)
			n := min(len(flat)-2, int(head>>9))
			at += time.Duration(head&0xff) * time.Millisecond
			if n > 0 {
				all = append(all, piece{at, recording.Side(head>>8&1) + 1, flat[2 : 2+n]})
			}
			flat = flat[2+n:]
		}
		ends(t, put(t, h, all), replay.Options{Strict: strict})
	})
}

func ends(t *testing.T, b []byte, o replay.Options) {
	r, err := run(b, o)
	switch {
	case err != nil && err.Error() == "":
		t.Error("an error without words")
	case err == nil && (r.Frames > r.Total || r.Difference == nil && r.Frames != r.Total):
		t.Errorf("%+v", r)
	case err == nil && r.Difference != nil && (r.Difference.Why == "" || r.Difference.Frame < 1):
		t.Errorf("%+v", r.Difference)
	}
}
