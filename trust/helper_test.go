package trust

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	made  = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	today = made.AddDate(0, 0, 25)
	ends  = made.AddDate(1, 0, 0)
)

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeys(t testing.TB, n int) []PrivateKey {
	t.Helper()
	keys := make([]PrivateKey, n)
	for i := range keys {
		keys[i] = newKey(t)
	}
	return keys
}

func publics(keys ...PrivateKey) []PublicKey {
	var all []PublicKey
	for _, k := range keys {
		all = append(all, k.Public())
	}
	return all
}

func sign(t testing.TB, text []byte, keys ...PrivateKey) Signed {
	t.Helper()
	var all []Signature
	for _, k := range keys {
		s, err := k.Sign(text, "test")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return Signed{text, EncodeSignatures(all)}
}

// randomImage is the same for the same size.
func randomImage(size int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func terms() Terms {
	return Terms{ImageType: "mcu", DeviceTypes: []string{"heater", "pump"}, Version: "2.1.0", Counter: 7, BlockSize: MinBlockSize, Created: made, Expires: ends}
}

func build(t testing.TB, image []byte, terms Terms) *Manifest {
	t.Helper()
	m, err := Build(bytes.NewReader(image), terms)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t testing.TB, m interface{ Encode() ([]byte, error) }) []byte {
	t.Helper()
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// policyFor lets m pass for a pump, if one of the keys signed it.
func policyFor(m *Manifest, keys ...PrivateKey) Policy {
	return Policy{
		Pinned: KeySet{publics(keys...), 1}, DeviceType: "pump", Counter: m.Counter, Now: today,
		Offered: Offered{m.ImageType, m.Version, m.Size, m.SHA256},
	}
}

func verified(t testing.TB, image []byte, terms Terms) *Verified {
	t.Helper()
	m, key := build(t, image, terms), newKey(t)
	v, err := policyFor(m, key).Check(sign(t, encode(t, m), key))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refused checks that err has the reason and a sentence.
func refused(t testing.TB, err error, want ...Reason) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal of %v", err, want)
	}
	if !slices.Contains(want, r.Reason) || !slices.Contains(Reasons(), r.Reason) {
		t.Fatalf("refused with %s, want %v: %v", r.Reason, want, err)
	}
	if len(r.Text) < 20 || len(r.Text) > 600 {
		t.Errorf("not a sentence that a person reads: %q", r.Text)
	}
}
