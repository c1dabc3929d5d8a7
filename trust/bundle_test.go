package trust

import (
	"bytes"
	"testing"
)

// A bundle is text and signatures, whichever are missing, and comes apart as it was
// put together.
func TestBundle(t *testing.T) {
	for _, c := range []struct{ name, text, signatures string }{
		{"both", "{\n}\n", "untrusted comment: a\nx\ntrusted comment: b\ny\n"},
		{"two signatures", "{\n}\n", "untrusted comment: a\nx\ntrusted comment: b\ny\nuntrusted comment: a\nx\ntrusted comment: b\ny\n"},
		{"no signature", "{\n}\n", ""},
		{"empty", "", ""},
	} {
		s := Signed{Text: []byte(c.text), Signatures: []byte(c.signatures)}
		got := ParseBundle(s.Bundle())
		if !bytes.Equal(got.Text, s.Text) || !bytes.Equal(got.Signatures, s.Signatures) {
			t.Errorf("%s: %q and %q", c.name, got.Text, got.Signatures)
		}
	}
}
