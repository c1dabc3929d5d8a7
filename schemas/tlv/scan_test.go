package tlv

import "testing"

// first is plainRun byte by byte.
func first(b []byte) int {
	for i, c := range b {
		if c == 0x7d || c == 0x7e {
			return i
		}
	}
	return len(b)
}

// TestPlainRunOfNeighbours: in each place of a word, every byte in front of and behind every other. A borrow between
// the bytes of a word, or a byte behind the slice, would show.
func TestPlainRunOfNeighbours(t *testing.T) {
	for start := range 8 {
		var room [32]byte
		for n := range 18 {
			b := room[start : start+n]
			for at := range n {
				for c := range 256 {
					for i := range room {
						room[i] = 0x7e // what is not b's has a meaning
					}
					clear(b)
					b[at] = byte(c)
					for _, beside := range []byte{0x00, 0x01, 0x5d, 0x5e, 0x7c, 0x7d, 0x7e, 0x7f, 0x80, 0xfd, 0xfe, 0xff} {
						if at > 0 {
							b[at-1] = beside
						}
						if at+1 < n {
							b[at+1] = beside
						}
						if got, want := plainRun(b), first(b); got != want {
							t.Fatalf("% x: %d, want %d", b, got, want)
						}
					}
				}
			}
		}
	}
}
