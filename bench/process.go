package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server under measurement.
type process struct {
	name string
	cmd  *exec.Cmd
	log  tail
	done chan struct{} // closed when it has ended
	err  error         // why, when done is closed
	over bool          // stop has ended it
}

// startProcess starts a server. What it prints on standard error is kept for error
// messages; out, if it is not nil, gets its standard output.
func startProcess(name string, cmd *exec.Cmd, out io.Writer) (*process, error) {
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, &p.log
	if out == nil {
		cmd.Stdout = &p.log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and kills it if it takes longer than patience. It is an
// error if the process has ended by itself.
func (p *process) stop() error {
	if p.over {
		return nil
	}
	p.over = true
	select {
	case <-p.done:
		return p.ended()
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by now
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, patience)
	}
}

// ended says that the process is gone, with what it said last.
func (p *process) ended() error {
	return fmt.Errorf("%s has ended: %v\n%s", p.name, p.err, p.log.String())
}

// patience is how long anything may take that should be done at once.
const patience = 30 * time.Second

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go knows.
const tick = time.Second / 100

// cpu is what the process and all its descendants have used so far, user and system.
func (p *process) cpu() (time.Duration, error) { return treeCPU("/proc", p.cmd.Process.Pid) }

func treeCPU(proc string, pid int) (time.Duration, error) {
	all, err := tree(proc, pid)
	var sum time.Duration
	for _, s := range all {
		sum += time.Duration(s.ticks) * tick
	}
	return sum, err
}

// tree is a process and all its descendants.
func tree(proc string, pid int) ([]procStat, error) {
	stats, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	if err != nil {
		return nil, err
	}
	all := map[int]procStat{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		s, err := parseStat(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[s.pid] = s
	}
	if _, ok := all[pid]; !ok {
		return nil, fmt.Errorf("process %d is not in %s", pid, proc)
	}
	var found []procStat
	for id, s := range all {
		for up := id; up != 0; up = all[up].parent {
			if up == pid {
				found = append(found, s)
				break
			}
		}
	}
	return found, nil
}

type procStat struct {
	pid, parent int
	ticks       int64 // user, system, and both of children that were waited for
}

// parseStat reads /proc/PID/stat. The name in parentheses may hold anything.
func parseStat(b []byte) (s procStat, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return s, fmt.Errorf("not a process's stat: %q", b)
	}
	if s.pid, err = strconv.Atoi(string(bytes.TrimSpace(b[:open]))); err != nil {
		return s, err
	}
	fields := bytes.Fields(b[end+1:]) // from field 3, the state, on
	if len(fields) < 15 {
		return s, fmt.Errorf("a stat with %d fields", len(fields)+2)
	}
	if s.parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return s, err
	}
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return s, err
		}
		s.ticks += n
	}
	return s, nil
}

// resident is the memory of the process and all its descendants now and at its peak, in
// bytes. Of the servers here only nginx has any: its peak is the sum of peaks that need
// not have been at one moment, and what its processes share counts for each.
func (p *process) resident() (now, peak int64, err error) {
	return treeResident("/proc", p.cmd.Process.Pid)
}

func treeResident(proc string, pid int) (now, peak int64, err error) {
	all, err := tree(proc, pid)
	if err != nil {
		return 0, 0, err
	}
	for _, s := range all {
		b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(s.pid), "status"))
		if err != nil {
			return 0, 0, err
		}
		n, most, err := parseStatus(b)
		if err != nil {
			return 0, 0, fmt.Errorf("process %d: %w", s.pid, err)
		}
		now, peak = now+n, peak+most
	}
	return now, peak, nil
}

func parseStatus(b []byte) (now, peak int64, err error) {
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &now
		case "VmHWM":
			into = &peak
		default:
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
		*into = n << 10
		found++
	}
	if found != 2 {
		return 0, 0, errors.New("a status without VmRSS and VmHWM")
	}
	return now, peak, nil
}

// forgetPeak begins a new peak.
func (p *process) forgetPeak() error {
	all, err := tree("/proc", p.cmd.Process.Pid)
	for _, s := range all {
		err = errors.Join(err, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid), []byte("5"), 0))
	}
	return err
}

// calls is how many system calls of the families of read and write the process has
// made, as /proc/PID/io counts them.
func (p *process) calls() (reads, writes int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	return parseIO(b)
}

func parseIO(b []byte) (reads, writes int64, err error) {
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ": ")
		var into *int64
		switch name {
		case "syscr":
			into = &reads
		case "syscw":
			into = &writes
		default:
			continue
		}
		if *into, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
		found++
	}
	if found != 2 {
		return 0, 0, errors.New("no syscr and syscw")
	}
	return reads, writes, nil
}

// settle waits until the process uses next to no CPU: what came before is done.
func (p *process) settle() error { return p.settleIn(patience, 1) }

// settleIn is settle with a patience of its own, for a process that may wait for its disk while it has much to do: so
// many looks in a row have to find it idle.
func (p *process) settleIn(patience time.Duration, looks int) error {
	const look, quiet = 200 * time.Millisecond, 2 * tick
	last, err := p.cpu()
	seen := 0
	for deadline := time.Now().Add(patience); err == nil; {
		select {
		case <-p.done:
			return p.ended()
		case <-time.After(look):
		}
		var now time.Duration
		if now, err = p.cpu(); now-last > quiet {
			seen = 0
		} else if seen++; seen == looks && err == nil {
			return nil
		}
		if last = now; time.Now().After(deadline) {
			return fmt.Errorf("%s is still busy after %s", p.name, patience)
		}
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 8 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

// String is what was written last.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// firstLine reads one line of a server's output and has the rest thrown away.
func firstLine(r io.Reader) ([]byte, error) {
	in := bufio.NewReader(r)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, in) }() // it ends with the server
	return line, nil
}
