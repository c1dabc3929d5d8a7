package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var updateVectors = flag.Bool("update-vectors", false, "write testdata/vectors/manifests.json anew")

const vectorsFile = "testdata/vectors/manifests.json"

// vectors are signed manifests with what has to be said of them, as data that
// another language can run.
type vectors struct {
	Comment     string       `json:"comment"`
	PublicKey   string       `json:"public_key"`
	DeviceType  string       `json:"device_type"`
	Counter     uint64       `json:"counter"`
	Now         time.Time    `json:"now"`
	Offered     vectorOffer  `json:"offered"`
	Signatures  string       `json:"signatures"`
	Manifests   []vectorCase `json:"manifests"`
	ImageBase64 []byte       `json:"image"`
}

type vectorOffer struct {
	ImageType string `json:"image_type"`
	Version   string `json:"version"`
	Size      uint64 `json:"size"`
	SHA256    string `json:"sha256"`
}

// vectorCase is one manifest; without signatures of its own it has those of the
// file. Want is "" if the manifest is accepted; BadBlocks are the blocks of the
// image that it then refuses.
type vectorCase struct {
	Name       string `json:"name"`
	Text       string `json:"text"`
	Signatures string `json:"signatures,omitempty"`
	Want       Reason `json:"want"`
	BadBlocks  []int  `json:"bad_blocks,omitempty"`
}

func (v *vectors) check(t *testing.T, c vectorCase) (Reason, []int) {
	t.Helper()
	policy := Policy{Pinned: KeySet{[]PublicKey{mustKey(t, v.PublicKey)}, 1}, DeviceType: v.DeviceType, Counter: v.Counter, Now: v.Now, Offered: Offered(v.Offered)}
	signatures := c.Signatures
	if signatures == "" {
		signatures = v.Signatures
	}
	verified, err := policy.Check(Signed{[]byte(c.Text), []byte(signatures)})
	var reason Reason
	if errors.As(err, &reason) {
		return reason, nil
	}
	var bad []int
	for i := range verified.Blocks() {
		r := verified.Range(i)
		if verified.Check(i, v.ImageBase64[r.Offset:r.End()]) != nil {
			bad = append(bad, i)
		}
	}
	return "", bad
}

// TestVectors holds this implementation against the data. The first signature
// there was made by the stock minisign.
func TestVectors(t *testing.T) {
	if *updateVectors {
		writeVectors(t)
	}
	var v vectors
	if err := json.Unmarshal(read(t, vectorsFile), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Manifests) < 60 {
		t.Errorf("only %d vectors", len(v.Manifests))
	}
	for _, c := range v.Manifests {
		if got, bad := v.check(t, c); got != c.Want || !slices.Equal(bad, c.BadBlocks) {
			t.Errorf("%s: %q, bad blocks %v; want %q, %v", c.Name, got, bad, c.Want, c.BadBlocks)
		}
	}
	all, err := ParseSignatures([]byte(v.Signatures))
	if err != nil || !strings.HasPrefix(all[0].TrustedComment, "timestamp:") {
		t.Errorf("not a signature by the stock tool: %v, %v", all, err)
	}
}

// writeVectors makes them from the table of mutations: each as it is under the
// old signature, and signed anew.
func writeVectors(t *testing.T) {
	t.Helper()
	key, err := ParsePrivateKey(read(t, "testdata/vectors/stock.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	image := mutatedImage()
	m := build(t, image, terms())
	text := encode(t, m)
	v := vectors{
		Comment:   "Signed manifests; written by go test ./trust -run TestVectors -update-vectors from the table in mutation_test.go.",
		PublicKey: key.Public().String(), DeviceType: "pump", Counter: m.Counter, Now: today, ImageBase64: image,
		Offered: vectorOffer{m.ImageType, m.Version, m.Size, m.SHA256},
	}
	minisign, manifest := stock(t), write(t, t.TempDir(), "fw.manifest", text)
	secret := write(t, t.TempDir(), "stock.key", read(t, "testdata/vectors/stock.key"))
	if out, err := minisign("", "-S", "-s", secret, "-m", manifest); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.Signatures = string(read(t, manifest+".minisig"))
	v.Manifests = append(v.Manifests, vectorCase{Name: "as it was signed", Text: string(text)})
	for _, field := range slices.Sorted(maps.Keys(mutations)) {
		for _, mut := range mutations[field] {
			c := vectorCase{Name: field + ": " + mut.name, Text: string(mut.apply(t, text))}
			c.Signatures = string(sign(t, []byte(c.Text), key).Signatures)
			c.Want, c.BadBlocks = v.check(t, c)
			v.Manifests = append(v.Manifests, c)
		}
	}
	v.Manifests = append(v.Manifests, vectorCase{Name: "changed after it was signed", Text: strings.Replace(string(text), `"counter": 7`, `"counter": 9`, 1), Want: ErrBadSignature})
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
