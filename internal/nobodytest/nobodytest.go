// Package nobodytest runs a test once more as a user without rights, because root passes every permission. It
// is for tests only, imports no package of ours and keeps no state.
package nobodytest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// ID is the user and the group of nobody.
const ID = 65534

// Command is a test of this test program, by its name, as nobody if this is root, and as this user otherwise. It runs in a
// folder of its user's, with more in its environment, and from there: t.TempDir and the folder that it was
// built in may be root's alone.
func Command(t testing.TB, test string, env ...string) *exec.Cmd {
	t.Helper()
	base, err := os.MkdirTemp("", "davit-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	self := filepath.Join(base, "copy.test")
	const forAll = 0o005
	info, err := os.Stat(os.Args[0])
	if err != nil || info.Mode()&forAll != forAll || os.Link(os.Args[0], self) != nil { // or it is on another disk
		program, err := os.ReadFile(os.Args[0])
		if err := errors.Join(err, os.WriteFile(self, program, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$", "-test.v")
	cmd.Env, cmd.Dir = append(append(os.Environ(), "TMPDIR="+base), env...), base
	if os.Geteuid() == 0 {
		if err := os.Chown(base, ID, ID); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ID, Gid: ID}}
	}
	return cmd
}
