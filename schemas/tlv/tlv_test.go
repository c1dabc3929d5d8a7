package tlv

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// unhex reads hex with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex in the test %q: %v", s, err)
	}
	return b
}

// TestGolden is the example of docs/wire.md section 2, in both directions.
func TestGolden(t *testing.T) {
	want := unhex(t, "7e 02 01 7a 7b 7c 7d 5d 7d 5e 9f fa 7e")
	payload := []byte{0x7a, 0x7b, 0x7c, 0x7d, 0x7e}
	got, err := AppendFrame(nil, Frame{Type: FrameAck, Seq: 1, Payload: payload})
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("AppendFrame = % x, %v; want % x", got, err, want)
	}
	var d Decoder
	d.Feed(want)
	if !d.Next() {
		t.Fatal("no frame")
	}
	f, err := d.Frame()
	if err != nil || f.Type != FrameAck || f.Seq != 1 || !bytes.Equal(f.Payload, payload) {
		t.Fatalf("Frame = %+v, %v", f, err)
	}
	if d.Next() {
		t.Fatal("a second frame")
	}
}
