// Package machine reads what Linux tells of the machine that a program runs on: who listens on
// a port, who has a file open or locked, which programs run, whether the clock is synchronised,
// and a few limits. It only reads, from /proc and /sys; what a system does not tell, or not to
// this user, is not known, and never an error. It keeps no state and imports nothing of ours.
package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Machine is a machine, with the root folder of what it tells.
type Machine struct{ root string }

// This is the machine that the program runs on.
func This() Machine { return Machine{"/"} }

// At is a machine whose proc and sys are below root, for tests.
func At(root string) Machine { return Machine{root} }

// path is a path below the root.
func (m Machine) path(parts ...string) string {
	return filepath.Join(m.root, filepath.Join(parts...))
}

// text is the content of a file without the white space around it, "" if it cannot be read.
func (m Machine) text(parts ...string) string {
	b, err := os.ReadFile(m.path(parts...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Number is a number in a file below the root such as proc/sys/net/core/somaxconn.
func (m Machine) Number(name string) (int64, bool) {
	fields := strings.Fields(m.text(name))
	if len(fields) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	return n, err == nil
}

// Process is a process of the machine.
type Process struct {
	PID  int
	Name string // as /proc/PID/comm has it, with the subcommand of davit
}

// String names the process for people: davit serve (pid 4711).
func (p Process) String() string {
	if p.PID == 0 {
		return "a process of another user"
	}
	return fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
}

// Process is the process with that number. Of its command line only the subcommand of davit is
// told: the rest may be secret.
func (m Machine) Process(pid int) Process {
	folder := filepath.Join("proc", strconv.Itoa(pid))
	p := Process{PID: pid, Name: printable(m.text(folder, "comm"))}
	if p.Name == "" {
		p.Name = "process"
	}
	if p.Name != "davit" {
		return p
	}
	words := strings.Split(m.text(folder, "cmdline"), "\x00")
	for _, known := range []string{"serve", "bridge", "sniff", "mcu", "demo"} {
		if len(words) > 1 && words[1] == known {
			p.Name += " " + known
		}
	}
	return p
}

// printable leaves out what could steer a terminal: a process chooses its name itself.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// pids are the processes that there are.
func (m Machine) pids() []int {
	entries, err := os.ReadDir(m.path("proc"))
	if err != nil {
		return nil
	}
	var all []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// Running is a process of that name.
func (m Machine) Running(name string) (Process, bool) {
	for _, pid := range m.pids() {
		if m.text("proc", strconv.Itoa(pid), "comm") == name {
			return m.Process(pid), true
		}
	}
	return Process{}, false
}

// opened calls fn with each file that a process has open, as /proc names it, until fn returns false.
func (m Machine) opened(fn func(pid int, target string) bool) {
	for _, pid := range m.pids() {
		folder := m.path("proc", strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // it has ended, or is another user's
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(folder, e.Name()))
			if err == nil && !fn(pid, target) {
				return
			}
		}
	}
}

// Holder is a process, other than this one, that has a file open. Only a process that may look at others'
// files sees those of other users.
func (m Machine) Holder(file string) (Process, bool) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	found := 0
	m.opened(func(pid int, target string) bool {
		if target == file && pid != os.Getpid() {
			found = pid
		}
		return found == 0
	})
	if found == 0 {
		return Process{}, false
	}
	return m.Process(found), true
}

// TCPMemory is how many pages of memory all TCP connections together may have (tcp(7), tcp_mem, the
// third number).
func (m Machine) TCPMemory() (pages int64, ok bool) {
	fields := strings.Fields(m.text("proc/sys/net/ipv4/tcp_mem"))
	if len(fields) != 3 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[2], 10, 64)
	return n, err == nil
}
