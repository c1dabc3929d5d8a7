package app

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"davit/broker"
)

// TestBridgeDevicesKeepThePassword: on the broker's file, a change of a bridge's
// devices leaves the hash of its password, and is there after the next start.
func TestBridgeDevicesKeepThePassword(t *testing.T) {
	dir := t.TempDir()
	file, err := broker.OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := credentials{file}
	if _, err := c.PutBridge(t.Context(), "rack", []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	before := hashIn(t, dir)
	for _, devices := range [][]string{{"b", "c"}, {}} {
		if err := c.SetBridgeDevices(t.Context(), "rack", devices); err != nil {
			t.Fatal(err)
		}
		again, err := broker.OpenCredentials(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, known, err := credentials{again}.Principal(t.Context(), "rack")
		if err != nil || !known || !p.Bridge || !slices.Equal(p.Devices, devices) {
			t.Errorf("read again: %+v %v %v, want %q", p, known, err, devices)
		}
		if hashIn(t, dir) != before {
			t.Error("the password's hash is another one")
		}
	}
	if err := c.SetBridgeDevices(t.Context(), "none", nil); err == nil {
		t.Error("a bridge that is not there was changed")
	}
}

// hashIn is the hash of the only password in the credentials file.
func hashIn(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, broker.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	hashes := regexp.MustCompile(`"\$argon2id\$[^"]+"`).FindAllString(string(b), -1)
	if len(hashes) != 1 {
		t.Fatalf("%d hashes in %s", len(hashes), b)
	}
	return hashes[0]
}
