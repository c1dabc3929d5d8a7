package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPassphraseWithStockMinisign makes and uses keys with a passphrase at their
// full cost, seconds and 1 GiB each time, with davit and with the stock minisign.
// It runs under DAVIT_TEST_FULL=1 only, in programs that are not slowed down by
// the race detector.
func TestPassphraseWithStockMinisign(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("keys with a passphrase take seconds: DAVIT_TEST_FULL=1 tries them")
	}
	dir := t.TempDir()
	run := func(input, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		t.Logf("$ %s %s\n%s", filepath.Base(name), strings.Join(args, " "), out)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	davit := filepath.Join(dir, "davit")
	if out, err := exec.Command("go", "build", "-o", davit, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "fw"), []byte("an image"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "plant pot on the third shelf"
	run(secret+"\n", davit, "key", "generate", "-o", "ours", "--passphrase-file", "-")
	run(secret+"\n"+secret+"\n", "minisign", "-G", "-s", "stock.key", "-p", "stock.pub")
	run(secret+"\n", davit, "image", "sign", "fw", "--key", "stock.key", "--passphrase-file", "-", "--image-type", "mcu", "--device-type", "pump", "--version", "1", "--counter", "0", "--expires", "1d")
	run("", "minisign", "-V", "-p", "stock.pub", "-m", "fw.manifest")
	run(secret+"\n", "minisign", "-S", "-s", "ours.key", "-m", "fw.manifest")
	run("", davit, "image", "verify", "fw", "--public-key", "ours.pub")
	for _, name := range []string{"ours.key", "stock.key"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(b), secret) {
			t.Errorf("%s: %v, or it has the passphrase in it", name, err)
		}
	}
}
