package trust

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aead.dev/minisign"
)

// Bounds of signatures.
const (
	// MaxSignatures is how many signatures one text may have.
	MaxSignatures = 16
	// MaxComment is the longest comment of a signature in bytes.
	MaxComment = 1 << 10
	// MaxSignaturesSize is the longest text of signatures in bytes.
	MaxSignaturesSize = MaxSignatures * (2*MaxComment + 256)
)

// Signature is one minisign signature. That it was parsed says nothing about
// whether it is right.
type Signature struct {
	// KeyID says by which key it claims to be.
	KeyID KeyID
	// TrustedComment is covered by the signature, and says only what its signer
	// wanted to say: nothing is decided by it, so that signatures that the stock
	// tool made with its own comment are as good as ours.
	TrustedComment string
	// UntrustedComment is covered by nothing.
	UntrustedComment string

	file string // the four lines
}

// String is the signature as a minisign signature file of four lines.
func (s Signature) String() string { return s.file }

// EncodeSignatures puts signatures one after the other, which is how a text with
// several of them is signed. The stock minisign verifies the first one.
func EncodeSignatures(all []Signature) []byte {
	var b bytes.Buffer
	for _, s := range all {
		b.WriteString(s.file)
	}
	return b.Bytes()
}

// ParseSignatures reads one or more minisign signature files, one after the
// other. Errors are ErrMalformed, or ErrUnsigned if the text is empty.
func ParseSignatures(text []byte) ([]Signature, error) {
	if len(text) == 0 {
		return nil, refuse(ErrUnsigned, "there is no signature")
	}
	if len(text) > MaxSignaturesSize {
		return nil, refuse(ErrMalformed, "the signatures have %d bytes, at most %d are allowed", len(text), MaxSignaturesSize)
	}
	var all []Signature
	for len(text) > 0 {
		if len(all) == MaxSignatures {
			return nil, refuse(ErrMalformed, "there are more than %d signatures", MaxSignatures)
		}
		end := signatureEnd(text)
		if end < 0 {
			return nil, refuse(ErrMalformed, "signature %d is cut off: a minisign signature has four lines, each with its end", len(all)+1)
		}
		s, err := parseSignature(text[:end])
		if err != nil {
			return nil, err
		}
		all, text = append(all, s), text[end:]
	}
	return all, nil
}

// signatureEnd is where the fourth line of text ends, or -1.
func signatureEnd(text []byte) int {
	end := 0
	for range 4 {
		n := bytes.IndexByte(text[end:], '\n')
		if n < 0 {
			return -1
		}
		end += n + 1
	}
	return end
}

// parseSignature reads a signature of four lines. The library reads more than
// one text as the same signature; here there is one.
//
// Only prehashed signatures (ED) are taken. The algorithm's name is not covered
// by the signature, so with the older kind (Ed) beside it one signature would be
// good for two messages; minisign makes the new kind since version 0.10.
func parseSignature(file []byte) (Signature, error) {
	var s minisign.Signature
	if err := s.UnmarshalText(file); err != nil {
		return Signature{}, refuse(ErrMalformed, "a signature is malformed: %s", strings.TrimPrefix(err.Error(), "minisign: "))
	}
	for _, comment := range []string{s.TrustedComment, s.UntrustedComment} {
		if len(comment) > MaxComment || !utf8.ValidString(comment) || strings.ContainsFunc(comment, unprintable) {
			return Signature{}, refuse(ErrMalformed, "a signature's comment is no line of at most %d bytes of printable text", MaxComment)
		}
	}
	if s.Algorithm != minisign.HashEdDSA {
		return Signature{}, refuse(ErrMalformed, "the signature by key %v is of the older kind, which does not hash first; sign with minisign 0.10 or newer, without -l", KeyID(s.KeyID))
	}
	if s.String() != string(file) {
		return Signature{}, refuse(ErrMalformed, "the signature by key %v is not in minisign's own form", KeyID(s.KeyID))
	}
	return Signature{KeyID: KeyID(s.KeyID), TrustedComment: s.TrustedComment, UntrustedComment: s.UntrustedComment, file: string(file)}, nil
}

// unprintable is what a comment may not have. Tabs it may: minisign puts them
// into its own.
func unprintable(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// KeySet are keys of which Threshold have to sign.
type KeySet struct {
	Keys      []PublicKey
	Threshold int
}

// MaxKeys is how many keys a key set or a key list may have.
const MaxKeys = 64

// Validate says whether the set can decide anything: a threshold that can be
// reached, and no key twice, under whatever id. Errors are ErrPolicy.
func (k KeySet) Validate() error {
	if len(k.Keys) > MaxKeys {
		return refuse(ErrPolicy, "there are %d keys, at most %d are allowed", len(k.Keys), MaxKeys)
	}
	if i := slices.IndexFunc(k.Keys, PublicKey.weak); i >= 0 {
		return refuse(ErrPolicy, "key %v is no key: anybody can make signatures that agree with it; name the key that was meant", k.Keys[i].ID)
	}
	if a, b, twice := repeated(k.Keys); twice {
		return refuse(ErrPolicy, "keys %v and %v are the same key, or have the same id; name each once", a.ID, b.ID)
	}
	if k.Threshold < 1 || k.Threshold > len(k.Keys) {
		return refuse(ErrPolicy, "the threshold is %d with %d keys; it has to be from 1 to the number of keys", k.Threshold, len(k.Keys))
	}
	return nil
}

// repeated finds two keys of which one would count for the other.
func repeated(keys []PublicKey) (a, b PublicKey, found bool) {
	for i, a := range keys {
		for _, b := range keys[:i] {
			if a.SameKey(b) || a.ID == b.ID {
				return b, a, true
			}
		}
	}
	return a, b, false
}

// bystanders are keys that do not count for a decision, and are known so that a
// refusal can say why.
type bystanders struct {
	revoked []PublicKey
	scoped  []PublicKey // trusted for something else
}

// signers returns the keys of the set that signed the text, at least as many as
// its threshold. A key counts once, however many signatures it gave; signatures
// that are wrong or by others count for nothing.
func (k KeySet) signers(what string, s Signed, other bystanders) ([]PublicKey, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	signatures, err := ParseSignatures(s.Signatures)
	if err != nil {
		return nil, err
	}
	r := minisign.NewReader(bytes.NewReader(s.Text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	signed := make([]bool, len(k.Keys))
	wrong := KeyID(0)
	anyWrong := false
	for _, sig := range signatures {
		i := slices.IndexFunc(k.Keys, func(key PublicKey) bool { return key.ID == sig.KeyID })
		if i < 0 {
			continue
		}
		if k.Keys[i].verify(r, sig) {
			signed[i] = true
		} else {
			wrong, anyWrong = sig.KeyID, true
		}
	}
	var by []PublicKey
	for i, ok := range signed {
		if ok {
			by = append(by, k.Keys[i])
		}
	}
	switch {
	case len(by) >= k.Threshold:
		return by, nil
	case anyWrong:
		return nil, refuse(ErrBadSignature, "the signature of the %s by key %v is wrong: the text or the signature was changed, or they do not belong together; get both anew", what, wrong)
	case len(by) > 0:
		return nil, refuse(ErrThreshold, "the %s is signed by %d of %d trusted keys, %d have to sign; have others sign it", what, len(by), len(k.Keys), k.Threshold)
	}
	return nil, other.unknown(what, signatures)
}

// unknown says why none of the signatures is by a key that counts.
func (o bystanders) unknown(what string, signatures []Signature) error {
	for _, sig := range signatures {
		is := func(key PublicKey) bool { return key.ID == sig.KeyID }
		if slices.ContainsFunc(o.revoked, is) {
			return refuse(ErrRevokedKey, "the %s is signed by key %v, which has been revoked; sign it with another", what, sig.KeyID)
		}
		if slices.ContainsFunc(o.scoped, is) {
			return refuse(ErrKeyScope, "the %s is signed by key %v, which is trusted, but not for this; sign it with a key for it, or have the key list allow this one", what, sig.KeyID)
		}
	}
	return refuse(ErrUnknownKey, "the %s is signed by key %v, which is not trusted here; sign it with a trusted key, or make that one trusted", what, signatures[0].KeyID)
}

// verify says whether the signature of what r has read is the key's.
func (a PublicKey) verify(r *minisign.Reader, s Signature) bool {
	var key minisign.PublicKey
	return key.UnmarshalText([]byte(a.String())) == nil && r.Verify(key, []byte(s.file))
}
