package storetest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDiskEnv names the test that a copy of the test program, started by
// FullDisk, runs on a small disk.
const fullDiskEnv = "DAVIT_STORETEST_FULLDISK"

// FullDisk runs a test, by itself in a copy of the test program, with a folder
// on a disk of the given size: a tmpfs in a mount namespace of its own, so that
// nothing is left behind. Where that is not allowed the test is skipped, or
// fails if DAVIT_TEST_FULL=1.
func FullDisk(t *testing.T, size string, run func(t *testing.T, dir string)) {
	if os.Getenv(fullDiskEnv) == t.Name() {
		dir := t.TempDir()
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make mounts private: %v", err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		run(t, dir)
		return
	}
	var out string
	var err error
	for _, attr := range namespaces() {
		cmd := exec.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
		cmd.Env = append(os.Environ(), fullDiskEnv+"="+t.Name())
		cmd.SysProcAttr = attr
		var b []byte
		b, err = cmd.CombinedOutput()
		if out = string(b); strings.Contains(out, "=== RUN") && !strings.Contains(out, "operation not permitted") {
			break
		}
	}
	switch {
	case err == nil && strings.Contains(out, "--- PASS: "+t.Name()):
	case strings.Contains(out, "=== RUN") && !strings.Contains(out, "operation not permitted"):
		t.Errorf("on a disk of %s (%v):\n%s", size, err, out)
	case os.Getenv("DAVIT_TEST_FULL") == "1":
		t.Errorf("DAVIT_TEST_FULL=1, and a small disk cannot be mounted here: %v %s", err, out)
	default:
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
}

// namespaces are the ways to a mount of one's own: as root, and as anybody.
func namespaces() []*syscall.SysProcAttr {
	ids := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	return []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNS},
		{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, UidMappings: ids(os.Getuid()), GidMappings: ids(os.Getgid())},
	}
}
