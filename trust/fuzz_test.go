package trust

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzManifest: what decodes is within the bounds and encodes to the same bytes;
// nothing is verified without a signature.
func FuzzManifest(f *testing.F) {
	key := newKey(f)
	for _, size := range []int{1, MinBlockSize, 2*MinBlockSize + 1} {
		m := build(f, randomImage(size), terms())
		text := encode(f, m)
		f.Add(text)
		for field, all := range mutations {
			if size != MinBlockSize || field == "blocks" {
				continue
			}
			for _, mut := range all {
				f.Add(mut.apply(f, text))
			}
		}
	}
	wrong := sign(f, []byte("another text"), key).Signatures
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := DecodeManifest(text)
		if err != nil {
			refused(t, err, ErrMalformed)
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%v\n%q\n%q", err, text, again)
		}
		if m.Blocks() < 1 || m.Blocks() > MaxBlocks || len(m.hashes) != 32*m.Blocks() || len(m.hashes) > len(text) {
			t.Fatalf("%d blocks, %d bytes of hashes", m.Blocks(), len(m.hashes))
		}
		if v, err := policyFor(m, key).Check(Signed{text, wrong}); v != nil || err == nil {
			t.Fatal("verified without a signature")
		}
	})
}

// FuzzKeyList: what decodes encodes to the same bytes, has keys that can be told
// apart, and thresholds that can be reached.
func FuzzKeyList(f *testing.F) {
	k := newKeys(f, 5)
	l := listOf(3, k[:2], k[2:4])
	f.Add(encode(f, l))
	l.Keys[2].DeviceTypes = []string{"heater", "pump"}
	l.Revoked = publics(k[4])
	f.Add(encode(f, l))
	f.Add(bytes.Replace(encode(f, l), []byte(`"root"`), []byte(`"images"`), 1))
	f.Add(encode(f, listOf(1, k[:1], nil)))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := DecodeKeyList(text)
		if err != nil {
			refused(t, err, ErrMalformed)
			return
		}
		if again, err := l.Encode(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%v\n%q\n%q", err, text, again)
		}
		if err := (KeySet{l.role(RoleRoot), l.RootThreshold}).Validate(); err != nil {
			t.Fatal(err)
		}
		if images := l.role(RoleImages); len(images) > 0 {
			if err := (KeySet{images, l.ImagesThreshold}).Validate(); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range l.Keys {
			if l.revoked(key.Key) {
				t.Fatal("a key is revoked and trusted")
			}
		}
	})
}

// FuzzSignature: what is parsed is written as the same bytes, one signature for
// each four lines.
func FuzzSignature(f *testing.F) {
	k := newKeys(f, 2)
	s := sign(f, signedText, k...).Signatures
	f.Add(s)
	f.Add(s[:len(s)/2])
	f.Add(s[:len(s)/2-1])
	f.Add(bytes.ReplaceAll(s, []byte("\n"), []byte("\r\n")))
	f.Add([]byte(strings.Replace(string(s), "RU", "RW", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ParseSignatures(text)
		if err != nil {
			refused(t, err, ErrMalformed, ErrUnsigned)
			return
		}
		if again := EncodeSignatures(all); !bytes.Equal(again, text) {
			t.Fatalf("%q\n%q", text, again)
		}
		if n := bytes.Count(text, []byte("\n")); n != 4*len(all) || len(all) > MaxSignatures {
			t.Fatalf("%d signatures in %d lines", len(all), n)
		}
	})
}

// FuzzKeys: a public key has one word, and nothing that is read as a key file
// brings the program down. Decryption is left out, because it is slow by design.
func FuzzKeys(f *testing.F) {
	k := newKey(f)
	secret, err := k.File("")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(secret))
	f.Add(string(k.Public().File()))
	f.Add(k.Public().String())
	f.Add(base64.StdEncoding.EncodeToString(make([]byte, 42)))
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := ParsePublicKey(text); err == nil {
			if again, err := ParsePublicKey(key.String()); err != nil || again != key || !strings.Contains(text, key.String()) {
				t.Fatalf("%v, %v", again, err)
			}
		} else {
			refused(t, err, ErrMalformed)
		}
		if NeedsPassphrase([]byte(text)) {
			return
		}
		if key, err := ParsePrivateKey([]byte(text), ""); err == nil {
			s, err := key.Sign(signedText, "")
			if err != nil || verifies(KeySet{publics(key), 1}, Signed{signedText, []byte(s.String())}) != nil {
				t.Fatalf("a key that cannot sign: %v", err)
			}
		}
	})
}
