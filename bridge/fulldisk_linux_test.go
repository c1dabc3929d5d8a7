package bridge

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davit/internal/sim"
	"davit/schemas"
)

// smallDiskEnv names the test that a copy of the test program runs on a small
// disk, and smallDisk is where that is mounted.
const (
	smallDiskEnv = "DAVIT_BRIDGE_SMALLDISK"
	smallDisk    = "256k"
)

// An image that does not fit the disk fails for want of storage, and harms
// nobody else: what is under way on another port goes on, and the next image is
// fetched. The disk is a tmpfs in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	if os.Getenv(smallDiskEnv) != "" {
		onSmallDisk(t)
		return
	}
	me := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	group := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	var out string
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNS},
		{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, UidMappings: me, GidMappings: group},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), smallDiskEnv+"=1"), attr
		b, err := cmd.CombinedOutput()
		out = string(b)
		switch started := strings.Contains(out, "=== RUN") && !strings.Contains(out, "operation not permitted"); {
		case started && err == nil:
			return
		case started:
			t.Fatalf("on a disk of %s: %v\n%s", smallDisk, err, out)
		}
	}
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		t.Fatalf("DAVIT_TEST_FULL=1, and a small disk cannot be mounted here: %s", out)
	}
	t.Skip("a small disk cannot be mounted here")
}

func onSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+smallDisk); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	inWorld(t, sim.MCUConfig{}, 60_000, []string{"big", pump}, func(w *world) {
		w.stop()
		w.dir = dir
		w.start()
		large := sim.BuildDemoImage(newVersion, 400_000, 5)
		w.service.images["img-2"] = large
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateInstalling)
		o := w.offerOf("img-2", newVersion, large)
		o.Execution = "ex-big"
		w.service.offer("big", o)
		if st := w.awaitEnd("ex-big"); st.State != schemas.StateFailed || st.Cause != schemas.CauseStorage || !strings.Contains(st.Detail, "disk is full") {
			t.Errorf("%s, cause %q: %s", st.State, st.Cause, st.Detail)
		}
		w.wantSuccess(pump)
		time.Sleep(time.Minute)
		again := w.theOffer() // what was left of the large image does not stand in the way
		again.Execution = "ex-small"
		w.service.offer("big", again)
		if st := w.awaitEnd("ex-small"); st.State != schemas.StateSucceeded {
			t.Errorf("the next image: %s, cause %q: %s", st.State, st.Cause, st.Detail)
		}
	})
}
