package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Locker is the process that holds a flock on a file (proc_locks(5)). Nothing is locked in order to find out.
func (m Machine) Locker(file string) (Process, bool) {
	info, err := os.Stat(file)
	if err != nil {
		return Process{}, false
	}
	var s unix.Stat_t
	if err := unix.Stat(file, &s); err != nil {
		return Process{}, false
	}
	want := fmt.Sprintf(":%d", s.Ino)
	for line := range strings.Lines(m.text("proc/locks")) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], want) {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil || pid <= 0 { // of another namespace
			return Process{}, true
		}
		// Inodes are numbers of one file system: the holder has to have this very file open.
		if m.has(pid, info) {
			return m.Process(pid), true
		}
	}
	return Process{}, false
}

// has says whether a process has a file open; true if that may not be looked at.
func (m Machine) has(pid int, file os.FileInfo) bool {
	folder := m.path("proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return true
	}
	for _, e := range entries {
		if info, err := os.Stat(folder + "/" + e.Name()); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}

// Synchronised says whether the kernel's clock is kept by an NTP client (adjtimex(2), STA_UNSYNC); known is
// false if the system does not say.
func (m Machine) Synchronised() (yes, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, true
}
