package sniff

import (
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode"

	"davit/bridge/recording"
)

// FuzzDecoders: whatever passes on a line, and in whatever pieces, what is said of
// it can be printed on a terminal, and is of bounded length.
func FuzzDecoders(f *testing.F) {
	files, err := filepath.Glob("testdata/*" + recording.Suffix)
	if err != nil || len(files) == 0 {
		f.Fatalf("recordings %q, %v", files, err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 2000)], uint8(16))
	}
	f.Add([]byte("\x7e\x01\x00\x01\x09\x00\x10\x01\x02\x1b[\x7e\x31\x05\x00\x05\x00\x3b"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		emit := func(p Packet) {
			if len(p.Text) > 8<<10 {
				t.Errorf("a text of %d bytes", len(p.Text))
			}
			for _, r := range p.String() {
				if !unicode.IsPrint(r) {
					t.Errorf("%q is not fit for a terminal", p.Text)
				}
			}
		}
		for _, d := range []Decoder{NewAyla(), NewAfero(0)} {
			side, at := recording.FromModule, time.Duration(0)
			for rest := b; len(rest) > 0; side, at = 3-side, at+600*time.Millisecond {
				n := min(len(rest), int(piece)+1)
				d.Decode(at, side, rest[:n], emit)
				rest = rest[n:]
			}
			d.Break(at, emit)
		}
	})
}
