package trust

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stock finds the minisign program; the test is skipped without it, and fails
// under DAVIT_TEST_FULL=1.
func stock(t *testing.T) func(input string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("minisign")
	if err != nil {
		if os.Getenv("DAVIT_TEST_FULL") == "1" {
			t.Fatalf("minisign is not installed, which DAVIT_TEST_FULL=1 asks for: %v", err)
		}
		t.Skip("minisign is not installed (Debian package minisign)")
	}
	dir := t.TempDir()
	return func(input string, args ...string) (string, error) {
		cmd := exec.Command(path, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		t.Logf("$ minisign %s\n%s", strings.Join(args, " "), out)
		return string(out), err
	}
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStockToolVerifiesOurs: keys and signatures of ours, the stock minisign.
func TestStockToolVerifiesOurs(t *testing.T) {
	minisign, dir := stock(t), t.TempDir()
	k := newKeys(t, 2)
	m := build(t, randomImage(5000), terms())
	text := encode(t, m)
	var all []Signature
	for _, key := range k {
		s, err := key.Sign(text, m.TrustedComment())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	manifest := write(t, dir, "fw.manifest", text)
	write(t, dir, "fw.manifest.minisig", EncodeSignatures(all))
	public := write(t, dir, "our.pub", k[0].Public().File())
	for _, args := range [][]string{{"-V", "-p", public, "-m", manifest}, {"-V", "-H", "-P", k[0].Public().String(), "-m", manifest}} {
		out, err := minisign("", args...)
		if err != nil || !strings.Contains(out, "Trusted comment: davit manifest v1 "+m.SHA256) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	// The second signature on its own.
	second := write(t, dir, "second.minisig", []byte(all[1].String()))
	if out, err := minisign("", "-V", "-P", k[1].Public().String(), "-m", manifest, "-x", second); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text[10] ^= 1
	write(t, dir, "fw.manifest", text)
	if out, err := minisign("", "-V", "-p", public, "-m", manifest); err == nil {
		t.Errorf("a changed manifest is right\n%s", out)
	}
}

// TestWeVerifyTheStockTools: keys and signatures of the stock minisign, with its
// own trusted comment.
func TestWeVerifyTheStockTools(t *testing.T) {
	minisign, dir := stock(t), t.TempDir()
	secret, public := filepath.Join(dir, "stock.key"), filepath.Join(dir, "stock.pub")
	if out, err := minisign("", "-G", "-W", "-s", secret, "-p", public); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := build(t, randomImage(5000), terms())
	manifest := write(t, dir, "fw.manifest", encode(t, m))
	if out, err := minisign("", "-S", "-s", secret, "-m", manifest); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key, err := ParsePublicKey(string(read(t, public)))
	if err != nil {
		t.Fatal(err)
	}
	policy := policyFor(m)
	policy.Pinned = KeySet{[]PublicKey{key}, 1}
	signed := Signed{read(t, manifest), read(t, manifest+".minisig")}
	if _, err := policy.Check(signed); err != nil {
		t.Fatal(err)
	}
	// Its older kind of signature is not taken.
	if out, err := minisign("", "-S", "-l", "-s", secret, "-m", manifest); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err = policy.Check(Signed{signed.Text, read(t, manifest+".minisig")})
	refused(t, err, ErrMalformed)

	// Its key file signs here.
	ours, err := ParsePrivateKey(read(t, secret), "")
	if err != nil || ours.Public() != key {
		t.Fatalf("%v, %v", ours, err)
	}
	if _, err := policy.Check(sign(t, signed.Text, ours)); err != nil {
		t.Error(err)
	}
}

// TestStockToolSignsWithOurKeys: a key file of ours, and an encrypted one.
func TestStockToolSignsWithOurKeys(t *testing.T) {
	minisign, dir := stock(t), t.TempDir()
	plain := newKey(t)
	manifest := write(t, dir, "fw.manifest", signedText)
	encrypted, err := ParsePrivateKey(read(t, passphraseKey), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key   PrivateKey
		file  []byte
		input string
	}{
		"plain":     {plain, secretFile(t, plain, ""), ""},
		"encrypted": {encrypted, read(t, passphraseKey), passphrase + "\n"},
	} {
		secret := write(t, dir, name+".key", c.file)
		args := []string{"-S", "-s", secret, "-m", manifest, "-t", "by the stock tool"}
		if out, err := minisign(c.input, args...); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		signatures := read(t, manifest+".minisig")
		if err := verifies(KeySet{publics(c.key), 1}, Signed{signedText, signatures}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all, err := ParseSignatures(signatures); err != nil || all[0].TrustedComment != "by the stock tool" {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
}

// passphraseKey is a key of the stock tool that was encrypted at the lowest cost
// that the format has, so that it is decrypted at once.
const (
	passphraseKey = "testdata/vectors/passphrase.key"
	passphrase    = "correct horse"
)

func TestPassphrase(t *testing.T) {
	file := read(t, passphraseKey)
	if !NeedsPassphrase(file) {
		t.Fatal("it needs no passphrase")
	}
	k, err := ParsePrivateKey(file, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if want := mustKey(t, string(read(t, "testdata/vectors/stock.pub"))); k.Public() != want {
		t.Errorf("the key is %v, want %v", k.Public(), want)
	}
	for _, wrong := range []string{"", "correct horsf", "correct horse "} {
		_, err := ParsePrivateKey(file, wrong)
		refused(t, err, ErrMalformed)
	}
	file[len(file)/2] ^= 1
	_, err = ParsePrivateKey(file, passphrase)
	refused(t, err, ErrMalformed)
}
