package afpro

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func readDocument(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "afero-wire.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// TestDocument reads every complete sync message and message that
// docs/afero-wire.md shows, encodes it again, and finds it among the vectors.
func TestDocument(t *testing.T) {
	known := map[string]bool{}
	for _, v := range readVectors[syncVector](t, "sync.json") {
		known[v.Bytes] = v.Want != nil
	}
	for _, v := range readVectors[messageVector](t, "messages.json") {
		known[v.Bytes] = v.Want != nil
	}
	for _, v := range readVectors[otaVector](t, "ota.json") {
		known[v.Message] = v.Want != nil && v.Canonical
	}
	shown := regexp.MustCompile("`[0-9a-f]{2}( [0-9a-f]{2}){5,}`").FindAllString(readDocument(t), -1)
	if len(shown) != 7+11+9 {
		t.Errorf("%d messages, want the 27 of section 7", len(shown))
	}
	for _, s := range shown {
		s = strings.Trim(s, "`")
		again, err := readAgain(unhex(t, s))
		if err != nil || !bytes.Equal(again, unhex(t, s)) {
			t.Errorf("%s became % x, %v", s, again, err)
		}
		if !known[s] {
			t.Errorf("%s is not a good vector", s)
		}
	}
}

// readAgain reads a sync message or a message, with what is tunnelled in it, and
// encodes what it read.
func readAgain(raw []byte) ([]byte, error) {
	if len(raw) == SyncSize && raw[0]&^1 == byte(SyncCounts) {
		s, err := ParseSync(raw)
		return AppendSync(nil, s), err
	}
	m, err := ParseMessage(raw)
	if err != nil {
		return nil, err
	}
	if m.Attribute != ChannelToMCU && m.Attribute != ChannelToASR {
		return AppendMessage(nil, m)
	}
	attribute, value, err := ParseTunnel(m.Value)
	switch {
	case err != nil:
		return nil, err
	case attribute == OTAInfo:
		i, err := ParseInfo(value)
		if err != nil {
			return nil, err
		}
		return AppendInfo(nil, m.Attribute, i)
	case m.Attribute == ChannelToMCU:
		offset, data, err := ParseTransfer(value)
		if err != nil {
			return nil, err
		}
		return AppendTransfer(nil, offset, data)
	}
	next, err := ParseNext(value)
	if err != nil {
		return nil, err
	}
	return AppendNext(nil, next)
}

// TestDocumentedSizes holds the tables of sections 5 and 6: the sizes of chunks
// and messages, the cost of a chunk, and what a line carries with it.
func TestDocumentedSizes(t *testing.T) {
	doc := strings.ReplaceAll(readDocument(t), ",", "")
	for _, attribute := range []int{253, 510, 2046} {
		chunk, message := ChunkSize(attribute), MaxMessage(attribute)
		next, err := AppendNext(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		// Either transaction has three sync messages; the ASR's has four ready
		// bytes, the MCU's three.
		cost := 3*SyncSize + 4 + message + 3*SyncSize + 3 + len(next)
		rate := func(baud float64) float64 { return baud / 10 * float64(chunk) / float64(cost) }
		for _, row := range []string{
			fmt.Sprintf("\n| %d | %d | %d |\n", attribute, chunk, message),
			fmt.Sprintf("\n| %d | %d | %.1f B/s | %.0f B/s |\n", attribute, cost, rate(9600), rate(115200)),
		} {
			if !strings.Contains(doc, row) {
				t.Errorf("the document lacks the row %q", row)
			}
		}
	}
}
