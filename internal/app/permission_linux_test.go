package app

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	for _, c := range []struct{ name, path string }{
		{"folder", "."}, {"records", storeName}, {"credentials", "credentials.json"}, {"token", tokenName}, {"images", blobsName},
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
			const nobody = 65534
			if err := filepath.WalkDir(base, func(p string, _ os.DirEntry, err error) error {
				if err == nil {
					err = os.Chown(p, nobody, nobody)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			barred := filepath.Join(dir, c.path)
			if err := os.Chown(barred, 0, 0); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(barred, 0o700); err != nil {
				t.Fatal(err)
			}
			self := filepath.Join(base, "app.test")
			if err := copyProgram(os.Args[0], self); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "-test.run=^TestFolderWithoutPermission$", "-test.v")
			cmd.Env = append(os.Environ(), nobodyEnv+"="+dir, "TMPDIR="+base)
			cmd.Dir = base
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "permission denied") || !strings.Contains(string(out), dir) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func copyProgram(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}
