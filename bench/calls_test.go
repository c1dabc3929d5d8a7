package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// traced are the system calls of a service, and how many of them failed, by name.
type traced map[string]struct{ calls, errors int }

// trace counts the service's system calls while f runs, without those of the runtime's
// scheduler.
func (r *costRig) trace(t *testing.T, f func()) traced {
	t.Helper()
	out := filepath.Join(t.TempDir(), "calls")
	pid := strconv.Itoa(r.d.cmd.Process.Pid)
	cmd := exec.Command("strace", "-f", "-c", "-U", "calls,errors,name", "-o", out, "-p", pid,
		"-e", "trace=!futex,nanosleep,epoll_pwait,sched_yield,timerfd_settime,tgkill,rt_sigreturn,getpid,madvise")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, last := bufio.NewScanner(said), ""
	for !strings.Contains(last, "attached") {
		if strings.Contains(last, "not permitted") { // in a container, say, where the program is there
			t.Skipf("nobody may trace a process that runs here: %s", last)
		}
		if !lines.Scan() {
			t.Fatalf("strace ended: %v: %s", cmd.Wait(), last)
		}
		last = lines.Text()
	}
	f()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // so that it does not wait for a reader
	}
	_ = cmd.Wait() // it ends by the signal
	return readTrace(t, out)
}

// readTrace reads the table that strace has written: calls, errors if there are any, name.
func readTrace(t *testing.T, name string) traced {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := traced{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || len(f) > 3 {
			continue
		}
		n, err := strconv.Atoi(f[0])
		if err != nil {
			continue // head and rules
		}
		one := all[f[len(f)-1]]
		one.calls = n
		if len(f) == 3 {
			one.errors, _ = strconv.Atoi(f[1])
		}
		all[f[len(f)-1]] = one
	}
	delete(all, "total")
	if len(all) == 0 {
		t.Fatalf("strace has counted nothing:\n%s", b)
	}
	return all
}

// TestCallsOfAFetch: a fetch of a small chunk needs three system calls: one reads it and says
// that nothing more is there, one asks what of the last one has arrived, one sends. A
// large chunk is sent by four, in which nothing copies it: its head, its data out of the
// file, and the word before and after that both belong together.
func TestCallsOfAFetch(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("traces the service; runs under DAVIT_TEST_FULL=1")
	}
	r := newCostRig(t, buildForTest(t))
	for _, c := range []struct {
		name  string
		shape costShape
		each  map[string]int // calls of each fetch
	}{
		{"small", costShape{1, 64}, map[string]int{"recvmsg": 1, "ioctl": 1, "writev": 1}},
		{"large", costShape{1, largeChunk}, map[string]int{"recvmsg": 1, "ioctl": 1, "setsockopt": 2, "sendto": 1, "sendfile": 1}},
	} {
		t.Run(c.name, func(t *testing.T) { r.checkCalls(t, c.shape, c.each) })
	}
}

// checkCalls counts the calls of fetches, which are to be those of each and few besides.
func (r *costRig) checkCalls(t *testing.T, shape costShape, each map[string]int) {
	const fetches = 300
	fetch := func(n int) {
		if err := r.fetch(t.Context(), shape, n); err != nil {
			t.Fatal(err)
		}
	}
	fetch(50)
	got := r.trace(t, func() { fetch(fetches) })
	t.Logf("%d fetches: %v", fetches, got)
	total, expected := 0, 0
	for name, c := range got {
		total += c.calls
		if c.errors > fetches/20 {
			t.Errorf("%d of %d calls of %s failed: is something looked at that is not there?", c.errors, c.calls, name)
		}
	}
	for name, k := range each {
		expected += k * fetches
		if n := got[name].calls; n < k*fetches || n > k*fetches+fetches/20 {
			t.Errorf("%d calls of %s for %d fetches, want %d for each", n, name, fetches, k)
		}
	}
	if most := expected + fetches/4; total > most {
		t.Errorf("%d calls for %d fetches, at most %d are expected", total, fetches, most)
	}
}
