package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"davit/bridge"
	"davit/bridge/dialect"
	"davit/schemas"
)

// aBridgeStatus has a port in each condition that is shown in its own way.
func aBridgeStatus() bridge.Status {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	on, off := true, false
	return bridge.Status{
		Software: "davit bridge v1", At: at, Since: at.Add(-time.Hour), Broker: bridge.BrokerStatus{Since: at.Add(-time.Minute)},
		Spool: bridge.SpoolStatus{Used: 2048, Limit: 1 << 20}, Draining: &bridge.Draining{Since: at.Add(-5 * time.Second), Until: at.Add(25 * time.Second)},
		Ports: []bridge.PortStatus{{
			Device: "load", Port: "usb:1:2", TTY: "/dev/ttyUSB0", Dialect: "ayla", Baud: 115200, Parity: dialect.ParityOdd, RTSCTS: &on,
			State: bridge.PortOpen, Since: at.Add(-time.Minute), Versions: []bridge.VersionStatus{{Property: "v", Version: "1.0", Confirmed: true}},
			Update: &bridge.UpdateStatus{Execution: "ex-1", Version: "2.0", State: schemas.StateInstalling, Since: at.Add(-9 * time.Second), Bytes: 512, Size: 2048, BytesPerSecond: 9800.4, LineShare: 0.936},
			Counts: bridge.LineCounts{Sent: 10, Retried: 1, Bad: 2, Lost: 3, MCUResets: 1},
		}, {
			Device: "lost", Port: "/dev/ttyS1", Dialect: "afero", Baud: 9600, Parity: dialect.ParityNone, RTSCTS: &off,
			State: bridge.PortClosed, Since: at.Add(-2 * time.Second), Reason: "no such port",
			Versions: []bridge.VersionStatus{{Property: "a", Version: "1"}, {Property: "b", Version: "2", Confirmed: true}},
			Update:   &bridge.UpdateStatus{Execution: "ex-2", Version: "2.0", State: schemas.StateAccepted, Left: true},
			Last:     &bridge.ResultStatus{Execution: "ex-0", State: schemas.StateFailed, Cause: schemas.CauseBoot, At: at.Add(-time.Minute)},
		}, {
			Device: "held", Port: "/dev/ttyS2", State: bridge.PortWaiting, Since: at, Busy: true,
			Last: &bridge.ResultStatus{Execution: "ex-0", State: schemas.StateSucceeded, HostVersion: "2.0", Acknowledged: true},
		}},
	}
}

func TestBridgeStatusForPeople(t *testing.T) {
	var out strings.Builder
	p := &program{}
	if err := p.showBridge(&out, aBridgeStatus()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`bridge: +davit bridge v1, since 2026-11-2\d \d\d:\d\d:\d\d \(1h0m0s\)`,
		`broker: +not connected for 1m0s`,
		`spool: +2\.0 KiB of 1\.0 MiB`,
		`draining: +for 5s, at most 25s more`,
		`load +usb:1:2 +/dev/ttyUSB0 +ayla +115200 odd RTS/CTS +open for 1m0s +1\.0 +ex-1 to 2\.0: installing 512 B of 2\.0 KiB, 25 %, 9s +9800 B/s \(94 %\) +- +10 sent, 1 retried, 2 bad, 3 lost; 1 MCU reset`,
		`lost +/dev/ttyS1 +- +afero +9600 no parity +closed for 2s: no such port +a=1\? b=2 +ex-2 to 2\.0: accepted, left for the next start +- +ex-0 failed \(boot\), 1m0s ago, not acknowledged +0 sent, .*0 MCU resets`,
		`held +/dev/ttyS2 +- +- +- +waiting for 0s; busy +- +- +- +ex-0 succeeded with 2\.0 +0 sent, .*`,
	} {
		if !regexp.MustCompile("(?m)^" + want + "$").MatchString(out.String()) {
			t.Errorf("no line %s in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 4+1+3 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// What is longer under way than the limit of a drain has no time left, and no negative one.
func TestBridgeStatusBehindTheLimit(t *testing.T) {
	s := aBridgeStatus()
	s.Draining.Until = s.At.Add(-2 * time.Second)
	if got := drainLine(s); got != "for 5s, at most 0s more" {
		t.Errorf("%q", got)
	}
}

// On a terminal the same lines are written over the ones before, to their ends.
func TestBridgeStatusInPlace(t *testing.T) {
	var plain, screen strings.Builder
	p := &program{streams: streams{out: &screen}}
	if err := p.showBridge(&plain, aBridgeStatus()); err != nil {
		t.Fatal(err)
	}
	if err := p.refresh(true, aBridgeStatus()); err != nil {
		t.Fatal(err)
	}
	got, first := strings.CutPrefix(screen.String(), toTheTop)
	got, last := strings.CutSuffix(got, clearBelow)
	if !first || !last || strings.ReplaceAll(got, clearLine+"\n", "\n") != plain.String() || strings.Count(got, clearLine) != strings.Count(plain.String(), "\n") {
		t.Errorf("%q", screen.String())
	}
}

// On a terminal that is too small no line wraps and none scrolls.
func TestBridgeStatusOnASmallTerminal(t *testing.T) {
	var plain strings.Builder
	if err := (&program{}).showBridge(&plain, aBridgeStatus()); err != nil {
		t.Fatal(err)
	}
	if got := fitting(plain.String(), aBridgeStatus(), 500, 40); got != plain.String() {
		t.Errorf("with room for the table:\n%s", got)
	}
	narrow := fitting(plain.String(), aBridgeStatus(), 80, 60)
	for _, want := range []string{
		`device: +load`, `state: +open for 1m0s`, `under way: +ex-1 to 2\.0: installing 512 B of 2\.0 KiB, 25 %, 9s`,
		`device: +lost`, `state: +closed for 2s: no such port`, `last result: +ex-0 succeeded with 2\.0`,
	} {
		if !regexp.MustCompile("(?m)^" + want + "$").MatchString(narrow) {
			t.Errorf("no line %s in\n%s", want, narrow)
		}
	}
	for _, size := range [][2]int{{80, 60}, {40, 10}, {10, 3}, {1, 1}} {
		lines := strings.Split(strings.TrimSuffix(fitting(plain.String(), aBridgeStatus(), size[0], size[1]), "\n"), "\n")
		if len(lines) > max(size[1]-1, 1) {
			t.Errorf("%d lines in %v", len(lines), size)
		}
		for _, line := range lines {
			if len(line) > size[0] {
				t.Errorf("%q in %v", line, size)
			}
		}
	}
	if got := fitting(plain.String(), aBridgeStatus(), 80, 8); !strings.HasSuffix(got, " more lines have no room here\n") {
		t.Errorf("without room:\n%s", got)
	}
}
