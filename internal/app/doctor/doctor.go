// Package doctor looks for what would keep davit serve or davit bridge from running well on this
// machine: settings, files and their modes, the data folder, ports, certificates, keys, the broker,
// serial ports, clock, disk and limits of the system. It changes nothing, takes no lock, opens no
// serial port, and a service that runs beside it notices nothing but a connection to its broker.
// Nothing of a secret is in what it finds.
//
// Each check runs in a goroutine of its own and has a limit of time, after which it is left to itself.
package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"davit/bridge/portname"
	"davit/internal/machine"
)

// limit is how long a check may take.
const limit = 12 * time.Second

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "OK"
	Warn Level = "WARN" // it runs, and something is to be done
	Fail Level = "FAIL" // it does not run, or not as it is meant to
)

// Finding is what a check has found.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	// What is a sentence that says what was found, and where.
	What string `json:"what"`
	// Do is what to do about it; empty if it is in order.
	Do string `json:"do,omitempty"`
}

// Room is what a file system has left, for an ordinary user.
type Room struct {
	Free, All           uint64 // bytes
	FreeNodes, AllNodes uint64 // inodes; AllNodes is 0 if it has no number of them
}

// System is the machine as the checks see it. Tests put another one in its place.
type System struct {
	Machine machine.Machine
	Ports   portname.System
	// Root is the folder below which sys is.
	Root string
	Now  func() time.Time
	// Synchronised says whether an NTP client keeps the clock, if that is known.
	Synchronised func() (yes, known bool)
	// Room is that of the file system of a folder.
	Room func(dir string) (Room, error)
	// OpenFiles is how many files a process of this user may have open at most.
	OpenFiles func() (uint64, error)
	// Bind binds a socket to an address and closes it, without listening.
	Bind func(*net.TCPAddr) error
}

// This is the machine that the program runs on.
func This() System {
	m := machine.This()
	return System{Machine: m, Ports: portname.Machine(), Root: "/", Now: time.Now, Synchronised: m.Synchronised, Room: roomOf, OpenFiles: openFiles, Bind: bind}
}

func roomOf(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, err
	}
	block := uint64(s.Bsize)
	return Room{uint64(s.Bavail) * block, uint64(s.Blocks) * block, uint64(s.Ffree), uint64(s.Files)}, nil
}

func openFiles() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return uint64(l.Max), err // the Go runtime raises the limit to that
}

// check looks at one thing.
type check struct {
	name string
	run  func(context.Context) []Finding
}

// examine runs all checks at a time and returns what they find, in their order.
func examine(ctx context.Context, checks []check, limit time.Duration) []Finding {
	answers := make([]chan []Finding, len(checks))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i, c := range checks {
		answers[i] = make(chan []Finding, 1)
		go func() { answers[i] <- c.run(ctx) }()
	}
	var all []Finding
	for i, c := range checks {
		var found []Finding
		select {
		case found = <-answers[i]:
		case <-ctx.Done():
			select {
			case found = <-answers[i]: // it has answered in time, or because that was over
			case <-time.After(limit / 10):
				found = []Finding{failed(fmt.Sprintf("this check had no answer within %s", limit), "look whether a file system or a name server hangs (dmesg, mount), and ask again")}
			}
		}
		for _, f := range found {
			f.Check = c.name
			all = append(all, f)
		}
	}
	return all
}

func good(format string, args ...any) Finding {
	return Finding{Level: OK, What: fmt.Sprintf(format, args...)}
}

func warning(what, do string) Finding { return Finding{Level: Warn, What: what, Do: do} }

func failed(what, do string) Finding { return Finding{Level: Fail, What: what, Do: do} }

// Text is what was found for people: a line for each finding, one below it with what to do, and a
// count at the end.
func Text(found []Finding) string {
	var b strings.Builder
	counts := map[Level]int{}
	width := 0
	for _, f := range found {
		width = max(width, len(f.Check))
		counts[f.Level]++
	}
	for _, f := range found {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", f.Level, width, f.Check, strings.ReplaceAll(f.What, "\n", "; "))
		if f.Do != "" {
			fmt.Fprintf(&b, "      %-*s  -> %s\n", width, "", f.Do)
		}
	}
	fmt.Fprintf(&b, "%d OK, %d WARN, %d FAIL\n", counts[OK], counts[Warn], counts[Fail])
	return b.String()
}

// orGood is what was found, or the sentence if that is nothing.
func orGood(found []Finding, format string, args ...any) []Finding {
	if len(found) == 0 {
		return []Finding{good(format, args...)}
	}
	return found
}
