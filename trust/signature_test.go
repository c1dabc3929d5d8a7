package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
)

var signedText = []byte("a text that is signed\n")

func verifies(keys KeySet, s Signed) error {
	_, err := keys.signers("text", s, bystanders{})
	return err
}

func TestThreshold(t *testing.T) {
	k := newKeys(t, 4)
	trusted := publics(k[:3]...)
	all := KeySet{trusted, 2}
	for name, c := range map[string]struct {
		keys KeySet
		by   []PrivateKey
		want error
	}{
		"two of three":               {all, k[:2], nil},
		"in another order":           {all, []PrivateKey{k[2], k[0]}, nil},
		"three of three":             {all, k[:3], nil},
		"with a stranger":            {all, []PrivateKey{k[3], k[0], k[1]}, nil},
		"one":                        {all, k[:1], ErrThreshold},
		"one, twice":                 {all, []PrivateKey{k[0], k[0]}, ErrThreshold},
		"one, sixteen times":         {all, slices.Repeat(k[:1], MaxSignatures), ErrThreshold},
		"one and a stranger":         {all, []PrivateKey{k[0], k[3]}, ErrThreshold},
		"strangers":                  {all, k[3:], ErrUnknownKey},
		"nobody":                     {all, nil, ErrUnsigned},
		"a threshold of zero":        {KeySet{trusted, 0}, k, ErrPolicy},
		"a negative threshold":       {KeySet{trusted, -1}, k, ErrPolicy},
		"over the number of keys":    {KeySet{trusted, 4}, k, ErrPolicy},
		"no keys":                    {KeySet{nil, 0}, k, ErrPolicy},
		"a key twice":                {KeySet{append(trusted[:2:2], trusted[0]), 2}, k[:1], ErrPolicy},
		"more signatures than fit":   {all, slices.Repeat(k[:2], MaxSignatures/2+1), ErrMalformed},
		"as many as fit, right last": {KeySet{trusted[:1], 1}, append(slices.Repeat(k[3:], MaxSignatures-1), k[0]), nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := verifies(c.keys, sign(t, signedText, c.by...))
			if c.want != nil {
				refused(t, err, c.want.(Reason))
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestOneKeyUnderTwoIDs: an id is a name that anybody can give a key, so two of
// them do not make two keys; and an id does not make another key the trusted one.
func TestOneKeyUnderTwoIDs(t *testing.T) {
	k := newKeys(t, 2)
	alias := k[0].Public()
	alias.ID++
	refused(t, verifies(KeySet{[]PublicKey{k[0].Public(), alias}, 2}, sign(t, signedText, k[0])), ErrPolicy)

	// The signature of another key under the id of a trusted one.
	s := sign(t, signedText, k[1])
	s.Signatures = []byte(withID(t, string(s.Signatures), k[0].Public().ID))
	refused(t, verifies(KeySet{publics(k[0]), 1}, s), ErrBadSignature)
	// The right signature under another id.
	s = sign(t, signedText, k[0])
	s.Signatures = []byte(withID(t, string(s.Signatures), k[0].Public().ID+1))
	refused(t, verifies(KeySet{publics(k[0]), 1}, s), ErrUnknownKey)
	// A trusted key and a forgery of the same key do not make two; nor does the
	// forgery take away what is right.
	forged := append(bytes.Clone(s.Signatures[:0]), withID(t, string(sign(t, signedText, k[1]).Signatures), k[0].Public().ID)...)
	both := Signed{signedText, append(forged, sign(t, signedText, k[0]).Signatures...)}
	if err := verifies(KeySet{publics(k[0]), 1}, both); err != nil {
		t.Error(err)
	}
	refused(t, verifies(KeySet{publics(k...), 2}, both), ErrBadSignature)
}

// withID gives a signature another key id.
func withID(t *testing.T, file string, id KeyID) string {
	t.Helper()
	return rewrite(t, file, func(s *minisign.Signature) { s.KeyID = uint64(id) })
}

// rewrite changes a signature.
func rewrite(t *testing.T, file string, change func(*minisign.Signature)) string {
	t.Helper()
	var s minisign.Signature
	if err := s.UnmarshalText([]byte(file)); err != nil {
		t.Fatal(err)
	}
	change(&s)
	return s.String()
}

// TestEveryPartOfASignatureCounts changes each of them; the untrusted comment
// alone is nobody's word.
func TestEveryPartOfASignatureCounts(t *testing.T) {
	k := newKeys(t, 2)
	keys, good := KeySet{publics(k[0]), 1}, sign(t, signedText, k[0])
	other := sign(t, []byte("another text\n"), k[0])
	for name, c := range map[string]struct {
		change func(*minisign.Signature)
		want   Reason
	}{
		"the signature":           {func(s *minisign.Signature) { s.Signature[0] ^= 1 }, ErrBadSignature},
		"its last byte":           {func(s *minisign.Signature) { s.Signature[63] ^= 0x80 }, ErrBadSignature},
		"all zero":                {func(s *minisign.Signature) { s.Signature = [64]byte{} }, ErrBadSignature},
		"the trusted comment":     {func(s *minisign.Signature) { s.TrustedComment += "x" }, ErrBadSignature},
		"no trusted comment":      {func(s *minisign.Signature) { s.TrustedComment = "" }, ErrBadSignature},
		"the comment's signature": {func(s *minisign.Signature) { s.CommentSignature[5] ^= 4 }, ErrBadSignature},
		"the halves exchanged": {func(s *minisign.Signature) {
			s.Signature, s.CommentSignature = s.CommentSignature, s.Signature
		}, ErrBadSignature},
		"another text's comment": {func(s *minisign.Signature) {
			var o minisign.Signature
			if err := o.UnmarshalText(other.Signatures); err != nil {
				t.Fatal(err)
			}
			s.TrustedComment, s.CommentSignature = o.TrustedComment, o.CommentSignature
		}, ErrBadSignature},
		"the algorithm":       {func(s *minisign.Signature) { s.Algorithm = minisign.EdDSA }, ErrMalformed},
		"another algorithm":   {func(s *minisign.Signature) { s.Algorithm = 0x1234 }, ErrMalformed},
		"a control character": {func(s *minisign.Signature) { s.UntrustedComment = "\x1b[2J" }, ErrMalformed},
		"a long comment":      {func(s *minisign.Signature) { s.UntrustedComment = strings.Repeat("x", MaxComment+1) }, ErrMalformed},
		"no UTF-8":            {func(s *minisign.Signature) { s.UntrustedComment = "\xff" }, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, verifies(keys, Signed{signedText, []byte(rewrite(t, string(good.Signatures), c.change))}), c.want)
		})
	}
	refused(t, verifies(keys, Signed{signedText, other.Signatures}), ErrBadSignature)
	if err := verifies(keys, Signed{signedText, []byte(rewrite(t, string(good.Signatures), func(s *minisign.Signature) { s.UntrustedComment = "anything" }))}); err != nil {
		t.Errorf("the untrusted comment changed: %v", err)
	}
}

// TestOlderKindOfSignature: with it one signature would be good for two texts,
// so it is refused however right it is.
func TestOlderKindOfSignature(t *testing.T) {
	k := newKey(t)
	legacy := minisign.SignWithComments(k.key, signedText, "t", "u")
	if !minisign.Verify(k.key.Public().(minisign.PublicKey), signedText, legacy) {
		t.Fatal("the signature is not even right")
	}
	err := verifies(KeySet{publics(k), 1}, Signed{signedText, legacy})
	refused(t, err, ErrMalformed)
	if !strings.Contains(err.Error(), "older kind") {
		t.Errorf("it does not say why: %v", err)
	}
}

func TestTruncatedSignatures(t *testing.T) {
	k := newKeys(t, 2)
	s := sign(t, signedText, k...)
	one := len(sign(t, signedText, k[0]).Signatures)
	keys := KeySet{publics(k...), 2}
	for n := range s.Signatures {
		err := verifies(keys, Signed{signedText, s.Signatures[:n]})
		switch n {
		case 0:
			refused(t, err, ErrUnsigned)
		case one:
			refused(t, err, ErrThreshold)
		default:
			refused(t, err, ErrMalformed)
		}
	}
}

// TestOneTextForOneSignature: the library reads what it would not write; here
// that is refused.
func TestOneTextForOneSignature(t *testing.T) {
	k := newKey(t)
	file := string(sign(t, signedText, k).Signatures)
	lines := strings.SplitAfter(file, "\n")
	keys := KeySet{publics(k), 1}
	for name, other := range map[string]string{
		"no end of the last line": strings.TrimSuffix(file, "\n"),
		"an empty line after it":  file + "\n",
		"line ends of Windows":    strings.ReplaceAll(file, "\n", "\r\n"),
		"only one of them":        strings.Replace(file, "\n", "\r\n", 1),
		"a space in base64":       strings.Replace(file, lines[1], " "+lines[1], 1),
		"spare bits":              strings.Replace(file, lines[3], lines[3][:85]+nextLetter(lines[3][85])+"==\n", 1),
		"no first comment":        strings.Join(lines[1:], ""),
		"comments exchanged":      lines[2] + lines[1] + lines[0] + lines[3],
		"lines exchanged":         lines[0] + lines[3] + lines[2] + lines[1],
		"only comments":           lines[0] + lines[0] + lines[2] + lines[2],
		"a short signature":       lines[0] + base64.StdEncoding.EncodeToString([]byte("ED12345678")) + "\n" + lines[2] + lines[3],
		"rubbish":                 "x\ny\nz\n!\n",
		"too long":                strings.Repeat("x", MaxSignaturesSize+1),
	} {
		if err := verifies(keys, Signed{signedText, []byte(other)}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	k := newKey(t).Public()
	word := k.String()
	for name, text := range map[string]string{"a word": word, "with a newline": word + "\n", "a file": string(k.File()), "a file of Windows": strings.ReplaceAll(string(k.File()), "\n", "\r\n")} {
		if got, err := ParsePublicKey(text); err != nil || got != k {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	raw, _ := base64.StdEncoding.DecodeString(word)
	for name, text := range map[string]string{
		"empty": "", "half": word[:28], "one letter less": word[:55], "two": word + word, "with a newline inside": word[:20] + "\n" + word[20:],
		"another algorithm": base64.StdEncoding.EncodeToString(append([]byte("ED"), raw[2:]...)), "a comment only": untrusted + "x\n",
		"a secret key": string(secretFile(t, newKey(t), "")), "long": strings.Repeat("x", maxKeyFile+1), "two files": string(k.File()) + string(k.File()),
	} {
		_, err := ParsePublicKey(text)
		refused(t, err, ErrMalformed)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if id, err := ParseKeyID(k.ID.String()); err != nil || id != k.ID {
		t.Errorf("key id %v: %v, %v", k.ID, id, err)
	}
	for _, s := range []string{"", "0", "00000000000000zz", "abcdefabcdefabcd", "+0000000000000FF", "00000000000000FFF"} {
		if id, err := ParseKeyID(s); err == nil {
			t.Errorf("%q is key id %v", s, id)
		}
	}
}

func secretFile(t *testing.T, k PrivateKey, passphrase string) []byte {
	t.Helper()
	file, err := k.File(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSecretKeys(t *testing.T) {
	k := newKey(t)
	file := secretFile(t, k, "")
	back, err := ParsePrivateKey(file, "")
	if err != nil || back.Public() != k.Public() || NeedsPassphrase(file) {
		t.Fatalf("%v, %v", back, err)
	}
	// Without a passphrase nothing but the halves of the key protects against damage.
	head, body, _ := strings.Cut(strings.TrimSpace(string(file)), "\n")
	raw, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	for at := 62; at < 62+64; at++ {
		damaged := bytes.Clone(raw)
		damaged[at] ^= 1
		_, err := ParsePrivateKey([]byte(head+"\n"+base64.StdEncoding.EncodeToString(damaged)+"\n"), "")
		refused(t, err, ErrMalformed)
	}
	for _, text := range []string{"", "x", head, string(k.Public().File()), strings.Repeat("x", maxKeyFile+1)} {
		_, err := ParsePrivateKey([]byte(text), "")
		refused(t, err, ErrMalformed)
	}
}

// TestSecretsDoNotPrint: whatever the verb.
func TestSecretsDoNotPrint(t *testing.T) {
	k := newKey(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		for _, v := range []any{k, &k, []PrivateKey{k}, struct{ K PrivateKey }{k}} {
			if got := fmt.Sprintf(verb, v); len(got) > 80 {
				t.Errorf("%s of a %T: %s", verb, v, got)
			}
		}
	}
	_, err := ParsePrivateKey([]byte("untrusted comment: x\nsecret-material\n"), "secret-passphrase")
	if strings.Contains(err.Error(), "secret-") {
		t.Errorf("the error shows it: %v", err)
	}
}

func TestSignRefusesCommentsOfSeveralLines(t *testing.T) {
	for _, comment := range []string{"a\nb", "a\rb", strings.Repeat("x", MaxComment+1), "\xff"} {
		_, err := newKey(t).Sign(signedText, comment)
		refused(t, err, ErrMalformed)
	}
}
