package trust

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"
)

// mutation changes one field of a manifest's text to another value; want are the
// reasons for which the text is refused when a trusted key has signed it anew.
// Without a reason such a text is another manifest that is as good as the first,
// and the mutation says what is different then.
type mutation struct {
	name   string
	change func(*manifestText)
	want   []Reason
	then   func(t *testing.T, v *Verified, image []byte)
}

func malformed(name string, change func(*manifestText)) mutation {
	return mutation{name: name, change: change, want: []Reason{ErrMalformed}}
}

// mutateBlocks changes the hashes themselves.
func mutateBlocks(f func([]byte) []byte) func(*manifestText) {
	return func(m *manifestText) {
		b, err := base64.StdEncoding.DecodeString(m.Blocks)
		if err != nil {
			panic(err)
		}
		m.Blocks = base64.StdEncoding.EncodeToString(f(b))
	}
}

// badBlocks says that the image does not pass any more.
func badBlocks(t *testing.T, v *Verified, image []byte) {
	bad := 0
	for i := range v.Blocks() {
		r := v.Range(i)
		if err := v.Check(i, image[r.Offset:r.End()]); err != nil {
			refused(t, err, ErrBlock)
			bad++
		}
	}
	if bad == 0 {
		t.Error("all blocks pass")
	}
}

// mutations by the name of the field in the JSON.
var mutations = map[string][]mutation{
	"v": {
		malformed("0", func(m *manifestText) { m.V = 0 }),
		malformed("2", func(m *manifestText) { m.V = 2 }),
		malformed("-1", func(m *manifestText) { m.V = -1 }),
	},
	"image": {
		malformed("another", func(m *manifestText) { m.Image = imagePrefix + strings.Repeat("0", 64) }),
		malformed("no prefix", func(m *manifestText) { m.Image = m.SHA256 }),
		malformed("another hash's name", func(m *manifestText) { m.Image = "sha512:" + m.SHA256 }),
		malformed("empty", func(m *manifestText) { m.Image = "" }),
	},
	"image_type": {
		{name: "another", change: func(m *manifestText) { m.ImageType = "radio" }, want: []Reason{ErrImageType}},
		{name: "other letters", change: func(m *manifestText) { m.ImageType = "MCU" }, want: []Reason{ErrImageType}},
		malformed("empty", func(m *manifestText) { m.ImageType = "" }),
		malformed("a path", func(m *manifestText) { m.ImageType = "../mcu" }),
	},
	"device_types": {
		{name: "others", change: func(m *manifestText) { m.DeviceTypes = []string{"heater"} }, want: []Reason{ErrDeviceType}},
		{name: "longer", change: func(m *manifestText) { m.DeviceTypes = []string{"heater", "pump2"} }, want: []Reason{ErrDeviceType}},
		malformed("none", func(m *manifestText) { m.DeviceTypes = []string{} }),
		malformed("null", func(m *manifestText) { m.DeviceTypes = nil }),
		malformed("twice", func(m *manifestText) { m.DeviceTypes = []string{"pump", "pump"} }),
		malformed("order", func(m *manifestText) { m.DeviceTypes = []string{"pump", "heater"} }),
		malformed("a wildcard", func(m *manifestText) { m.DeviceTypes = []string{"*"} }),
	},
	"version": {
		{name: "another", change: func(m *manifestText) { m.Version = "2.1.1" }, want: []Reason{ErrMismatch}},
		malformed("empty", func(m *manifestText) { m.Version = "" }),
		malformed("control characters", func(m *manifestText) { m.Version = "2.1.0\x00" }),
	},
	"counter": {
		{name: "lower", change: func(m *manifestText) { m.Counter-- }, want: []Reason{ErrRollback}},
		{name: "zero", change: func(m *manifestText) { m.Counter = 0 }, want: []Reason{ErrRollback}},
		{name: "higher", change: func(m *manifestText) { m.Counter++ }, then: func(t *testing.T, v *Verified, _ []byte) {
			if got := v.Manifest().Counter; got != 8 {
				t.Errorf("counter %d", got)
			}
		}},
		malformed("over the limit", func(m *manifestText) { m.Counter = MaxCounter + 1 }),
	},
	"size": {
		malformed("one less, in another block", func(m *manifestText) { m.Size = 2 * MinBlockSize }),
		{name: "one less, in the same block", change: func(m *manifestText) { m.Size-- }, want: []Reason{ErrMismatch}},
		{name: "one more", change: func(m *manifestText) { m.Size++ }, want: []Reason{ErrMismatch}},
		malformed("zero", func(m *manifestText) { m.Size = 0 }),
		malformed("huge", func(m *manifestText) { m.Size = 1<<64 - 1 }),
	},
	"sha256": {
		malformed("without the image's id", func(m *manifestText) { m.SHA256 = strings.Repeat("0", 64) }),
		{name: "with the image's id", change: func(m *manifestText) {
			m.SHA256 = strings.Repeat("0", 64)
			m.Image = imagePrefix + m.SHA256
		}, want: []Reason{ErrMismatch}},
		malformed("upper case", func(m *manifestText) { m.SHA256 = strings.ToUpper(m.SHA256); m.Image = imagePrefix + m.SHA256 }),
		malformed("cut", func(m *manifestText) { m.SHA256 = m.SHA256[:62]; m.Image = imagePrefix + m.SHA256 }),
		malformed("longer", func(m *manifestText) { m.SHA256 += "00"; m.Image = imagePrefix + m.SHA256 }),
		malformed("empty", func(m *manifestText) { m.SHA256 = ""; m.Image = imagePrefix }),
	},
	"created": {
		{name: "in the future", change: func(m *manifestText) { m.Created = today.AddDate(0, 0, 2) }, want: []Reason{ErrNotYetValid}},
		malformed("after the end", func(m *manifestText) { m.Created = m.Expires.Add(time.Second) }),
		malformed("never", func(m *manifestText) { m.Created = time.Time{} }),
	},
	"expires": {
		{name: "past", change: func(m *manifestText) { m.Expires = today.Add(-time.Second) }, want: []Reason{ErrExpired}},
		{name: "now", change: func(m *manifestText) { m.Expires = today }, want: []Reason{ErrExpired}},
		malformed("before the beginning", func(m *manifestText) { m.Expires = m.Created.Add(-time.Second) }),
		malformed("never", func(m *manifestText) { m.Expires = time.Time{} }),
	},
	"block_size": {
		malformed("doubled", func(m *manifestText) { m.BlockSize *= 2 }),
		malformed("halved", func(m *manifestText) { m.BlockSize /= 2 }),
		malformed("zero", func(m *manifestText) { m.BlockSize = 0 }),
		malformed("negative", func(m *manifestText) { m.BlockSize = -m.BlockSize }),
		malformed("one more", func(m *manifestText) { m.BlockSize++ }),
		malformed("huge", func(m *manifestText) { m.BlockSize = 1 << 40 }),
	},
	"blocks": {
		{name: "a hash changed", change: mutateBlocks(func(b []byte) []byte { b[40] ^= 1; return b }), then: badBlocks},
		{name: "reordered", change: mutateBlocks(func(b []byte) []byte { return append(append(b[32:64:64], b[:32]...), b[64:]...) }), then: badBlocks},
		{name: "the first repeated", change: mutateBlocks(func(b []byte) []byte { copy(b[32:64], b[:32]); return b }), then: badBlocks},
		{name: "shifted by a byte", change: mutateBlocks(func(b []byte) []byte { return append(b[1:], b[0]) }), then: badBlocks},
		malformed("one left out", mutateBlocks(func(b []byte) []byte { return b[32:] })),
		malformed("one doubled", mutateBlocks(func(b []byte) []byte { return append(b, b[:32]...) })),
		malformed("cut within a hash", mutateBlocks(func(b []byte) []byte { return b[:len(b)-1] })),
		malformed("a byte more", mutateBlocks(func(b []byte) []byte { return append(b, 0) })),
		malformed("none", func(m *manifestText) { m.Blocks = "" }),
		malformed("the URL alphabet", func(m *manifestText) { m.Blocks = "_" + m.Blocks[1:] }),
		malformed("no padding", func(m *manifestText) { m.Blocks = strings.TrimRight(m.Blocks, "=") }),
		malformed("other spare bits", func(m *manifestText) {
			n := len(m.Blocks) - 3
			m.Blocks = m.Blocks[:n] + nextLetter(m.Blocks[n]) + "=="
			if !strings.HasSuffix(m.Blocks, "==") {
				panic("no spare bits")
			}
		}),
	},
}

func nextLetter(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return string(alphabet[strings.IndexByte(alphabet, c)+1])
}

// TestEveryFieldMutated changes each field of a manifest, one at a time. With the
// old signature all of that is refused as not signed; signed anew by a trusted
// key it is refused for what it is. A field without a mutation fails the test.
func TestEveryFieldMutated(t *testing.T) {
	image := mutatedImage()
	m, key := build(t, image, terms()), newKey(t)
	policy, text := policyFor(m, key), encode(t, m)
	signed := sign(t, text, key)
	known := map[string]bool{}
	fields := reflect.TypeFor[manifestText]()
	for i := range fields.NumField() {
		field := fields.Field(i).Tag.Get("json")
		known[field] = true
		if len(mutations[field]) < 2 {
			t.Errorf("the field %s has fewer than two mutations", field)
		}
		for _, mut := range mutations[field] {
			t.Run(field+"/"+mut.name, func(t *testing.T) {
				changed := mut.apply(t, text)
				_, err := policy.Check(Signed{changed, signed.Signatures})
				refused(t, err, ErrBadSignature)
				v, err := policy.Check(sign(t, changed, key))
				if mut.then == nil {
					refused(t, err, mut.want...)
				} else if err != nil {
					t.Fatal(err)
				} else {
					mut.then(t, v, image)
				}
			})
		}
	}
	for field := range mutations {
		if !known[field] {
			t.Errorf("there is no field %s", field)
		}
	}
}

// mutatedImage has four blocks, of which the hashes are 128 bytes, so that base64
// has spare bits.
func mutatedImage() []byte { return randomImage(4*MinBlockSize - 100) }

// apply is the mutation of a manifest's text.
func (m mutation) apply(t testing.TB, text []byte) []byte {
	t.Helper()
	var other manifestText
	if err := decodeText("manifest", text, MaxManifestSize, manifestV, &other); err != nil {
		t.Fatal(err)
	}
	m.change(&other)
	changed, err := encodeText(other)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}
