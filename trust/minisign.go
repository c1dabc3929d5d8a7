package trust

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

// KeyID is the number by which a signature names its key. It is a hint and
// nothing more: any key can be given any id.
type KeyID uint64

// String is the id as minisign writes it, 16 hexadecimal digits.
func (id KeyID) String() string { return fmt.Sprintf("%016X", uint64(id)) }

// ParseKeyID reads what String wrote.
func ParseKeyID(s string) (KeyID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || KeyID(n).String() != s {
		return 0, refuse(ErrMalformed, "%.40q is no key id; it has 16 upper-case hexadecimal digits", s)
	}
	return KeyID(n), nil
}

// PublicKey is a minisign public key: its id and its 32 bytes. It is comparable;
// whether two are the same key is decided by SameKey.
type PublicKey struct {
	ID  KeyID
	key [32]byte
}

// SameKey says whether a and b are one key, whatever their ids are.
func (a PublicKey) SameKey(b PublicKey) bool { return a.key == b.key }

// publicKeySize is algorithm, id and key.
const publicKeySize = 2 + 8 + 32

// publicAlgorithm begins every public key of minisign.
const publicAlgorithm = "Ed"

// String is the key as one word in base64, as minisign -P takes it.
func (a PublicKey) String() string {
	b := append(make([]byte, 0, publicKeySize), publicAlgorithm...)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.ID))
	return base64.StdEncoding.EncodeToString(append(b, a.key[:]...))
}

// File is the key as a file that minisign -p takes.
func (a PublicKey) File() []byte {
	return []byte(untrusted + "minisign public key " + a.ID.String() + "\n" + a.String() + "\n")
}

const (
	untrusted = "untrusted comment: "
	trusted   = "trusted comment: "
)

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 4 << 10

// ParsePublicKey reads a key from one word in base64 or from a public key file.
// Errors do not show the text: it may be a secret key that somebody took for it.
func ParsePublicKey(text string) (PublicKey, error) {
	if len(text) > maxKeyFile {
		return PublicKey{}, refuse(ErrMalformed, "a public key has %d bytes, at most %d are allowed", len(text), maxKeyFile)
	}
	word := strings.TrimSpace(text)
	if comment, rest, ok := strings.Cut(word, "\n"); ok && strings.HasPrefix(comment, untrusted) {
		word = strings.TrimSpace(rest)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(word)
	if err != nil || len(b) != publicKeySize || string(b[:2]) != publicAlgorithm {
		return PublicKey{}, refuse(ErrMalformed, "this is no minisign public key; one is a word of 56 characters that begins with RW, or a file with it in its second line")
	}
	k := PublicKey{ID: KeyID(binary.LittleEndian.Uint64(b[2:10])), key: [32]byte(b[10:])}
	if k.String() != word {
		return PublicKey{}, refuse(ErrMalformed, "this is a minisign public key, but not in its one form")
	}
	if k.weak() {
		return PublicKey{}, refuse(ErrMalformed, "key %v is no key: anybody can make signatures that agree with it", k.ID)
	}
	return k, nil
}

// PrivateKey is a minisign secret key. It prints as its id only.
type PrivateKey struct{ key minisign.PrivateKey }

// GenerateKey makes a new key from the system's randomness.
func GenerateKey() (PrivateKey, error) {
	_, key, err := minisign.GenerateKey(nil)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make a key: %w", err)
	}
	return PrivateKey{key}, nil
}

// Format implements fmt.Formatter, so that no verb prints the secret.
func (k PrivateKey) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "secret key %s", KeyID(k.key.ID()))
}

// Public returns the public half.
func (k PrivateKey) Public() PublicKey {
	public, err := ParsePublicKey(k.key.Public().(minisign.PublicKey).String())
	if err != nil {
		panic(err) // a key of the library that it cannot write
	}
	return public
}

// File is the key as a file that minisign -s takes, encrypted with the passphrase
// unless that is empty. Encryption takes seconds and 1 GiB of memory, which is
// what it costs whoever tries passphrases.
func (k PrivateKey) File(passphrase string) ([]byte, error) {
	encode := k.key.MarshalText
	if passphrase != "" {
		encode = func() ([]byte, error) { return minisign.EncryptKey(passphrase, k.key) }
	}
	text, err := encode()
	if err != nil {
		return nil, fmt.Errorf("write the key: %w", err)
	}
	return append(text, '\n'), nil
}

// NeedsPassphrase says whether a secret key file is encrypted.
func NeedsPassphrase(file []byte) bool {
	return len(file) <= maxKeyFile && minisign.IsEncrypted(file)
}

// ParsePrivateKey reads a secret key file; the passphrase is used only if the
// file is encrypted. Errors do not show what is in the file.
func ParsePrivateKey(file []byte, passphrase string) (PrivateKey, error) {
	if len(file) > maxKeyFile {
		return PrivateKey{}, refuse(ErrMalformed, "a secret key file has %d bytes, at most %d are allowed", len(file), maxKeyFile)
	}
	var k PrivateKey
	var err error
	if minisign.IsEncrypted(file) {
		if k.key, err = minisign.DecryptKey(passphrase, file); err != nil {
			return PrivateKey{}, refuse(ErrMalformed, "the secret key cannot be decrypted; the passphrase is another one, or the file is damaged")
		}
	} else if err = k.key.UnmarshalText(file); err != nil {
		return PrivateKey{}, refuse(ErrMalformed, "this is no minisign secret key file")
	}
	// Without a passphrase the file has no checksum; a key whose halves do not belong
	// together would give signatures that tell its secret.
	probe := []byte("davit key check")
	if !minisign.Verify(k.key.Public().(minisign.PublicKey), probe, minisign.SignWithComments(k.key, probe, "", "")) {
		return PrivateKey{}, refuse(ErrMalformed, "the secret key is damaged: its two halves do not belong together")
	}
	return k, nil
}

// Sign signs a text; the trusted comment, one line of printable characters, is
// signed with it.
func (k PrivateKey) Sign(text []byte, comment string) (Signature, error) {
	r := minisign.NewReader(bytes.NewReader(text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return Signature{}, fmt.Errorf("sign: %w", err)
	}
	return parseSignature(r.SignWithComments(k.key, comment, "signature from davit with key "+KeyID(k.key.ID()).String()))
}
