package tlv

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocument decodes every complete frame that docs/wire.md shows and encodes
// it again.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "wire.md"))
	if err != nil {
		t.Fatal(err)
	}
	frames := regexp.MustCompile("`7e( [0-9a-f]{2}){4,} 7e`").FindAllString(string(doc), -1)
	if len(frames) != 9 {
		t.Errorf("%d frames, want the example of section 2 and the eight of section 7", len(frames))
	}
	for _, s := range frames {
		raw := unhex(t, strings.Trim(s, "`"))
		var d Decoder
		d.Feed(raw)
		if !d.Next() {
			t.Errorf("no frame in %s", s)
			continue
		}
		f, err := d.Frame()
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if again, err := AppendFrame(nil, f); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s became % x, %v", s, again, err)
		}
	}
}
