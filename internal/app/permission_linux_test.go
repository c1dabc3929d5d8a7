package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/internal/nobodytest"
)

// nobodyEnv names the folder that a copy of the test program opens as nobody, since root
// may read and write everything.
const nobodyEnv = "DAVIT_TEST_NOBODY"

// A folder that the service may not use is refused with a sentence that names it.
func TestFolderWithoutPermission(t *testing.T) {
	if dir := os.Getenv(nobodyEnv); dir != "" {
		s, err := NewServer(testOptions(t, dir))
		if err == nil {
			_ = s.Close() // the test has failed
			t.Fatal("it was opened")
		}
		t.Log(err)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	const nobody, theirs = nobodytest.ID, "run it as the owner"
	for _, c := range []struct {
		name, path string
		owner      int
		mode       os.FileMode
		remedy     string
	}{
		{"folder", ".", 0, 0o700, theirs}, {"records", storeName, 0, 0o700, theirs}, {"credentials", "credentials.json", 0, 0o700, theirs},
		{"token", tokenName, 0, 0o700, theirs}, {"images", blobsName, 0, 0o700, theirs},
		{"own folder to read only", ".", nobody, 0o500, "chmod u+rwX"}, {"own records to read only", storeName, nobody, 0o400, "chmod u+rwX"},
		{"own images to read only", blobsName, nobody, 0o500, "chmod u+rwX"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "davit-permission") // t.TempDir is root's alone
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(base) })
			dir := filepath.Join(base, "data")
			s, err := NewServer(testOptions(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "credentials.json")); err != nil {
				if err := os.WriteFile(filepath.Join(dir, "credentials.json"), []byte(`{"version":1,"principals":[]}`), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := filepath.WalkDir(base, func(p string, _ os.DirEntry, err error) error {
				if err == nil {
					err = os.Chown(p, nobody, nobody)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			barred := filepath.Join(dir, c.path)
			if err := os.Chown(barred, c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(barred, c.mode); err != nil {
				t.Fatal(err)
			}
			out, err := nobodytest.Command(t, "TestFolderWithoutPermission", nobodyEnv+"="+dir).CombinedOutput()
			for _, words := range []string{"permission denied", barred, c.remedy} {
				if err != nil || !strings.Contains(string(out), words) {
					t.Errorf("no %q: %v\n%s", words, err, out)
				}
			}
		})
	}
}
