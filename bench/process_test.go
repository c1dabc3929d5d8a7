package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("42 (a) (b 7) S 7 42 42 0 -1 4194560 9 0 0 0 11 22 33 44 20 0 5 0 100 1 2\n"))
	if want := (procStat{42, 7, 110}); err != nil || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, wrong := range []string{"", "42", "42 (a) S 7", "x (a) S 7 42 42 0 -1 4194560 9 0 0 0 11 22 33 44 20"} {
		if _, err := parseStat([]byte(wrong)); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

// The sums are those of the process and what descends from it, and of nothing else.
func TestTree(t *testing.T) {
	proc := t.TempDir()
	for pid, s := range map[int]struct{ parent, ticks int }{1: {0, 1000}, 10: {1, 1}, 11: {10, 2}, 12: {11, 4}, 20: {1, 8}} {
		dir := filepath.Join(proc, fmt.Sprint(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%d (x) S %d 1 1 0 -1 0 0 0 0 0 %d 0 0 0 20 0 5 0 100\n", pid, s.parent, s.ticks)
		status := fmt.Sprintf("VmHWM:\t %d kB\nVmRSS:\t %d kB\n", 2*s.ticks, s.ticks)
		for name, text := range map[string]string{"stat": line, "status": status} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := treeCPU(proc, 10); err != nil || got != 7*tick {
		t.Errorf("%s, %v; want %s", got, err, 7*tick)
	}
	if now, peak, err := treeResident(proc, 10); err != nil || now != 7<<10 || peak != 14<<10 {
		t.Errorf("%d bytes, %d at the peak, %v; want %d and %d", now, peak, err, 7<<10, 14<<10)
	}
	if _, err := treeCPU(proc, 99); err == nil {
		t.Error("a process that is not there has used something")
	}
	if _, _, err := treeResident(proc, 99); err == nil {
		t.Error("a process that is not there has memory")
	}
}

func TestParseStatusAndIO(t *testing.T) {
	now, peak, err := parseStatus([]byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"))
	if err != nil || now != 1<<20 || peak != 2<<20 {
		t.Errorf("%d, %d, %v", now, peak, err)
	}
	if _, _, err := parseStatus([]byte("VmRSS:\t 1 kB\n")); err == nil {
		t.Error("a status without a peak was read")
	}
	reads, writes, err := parseIO([]byte("rchar: 5\nsyscr: 6\nsyscw: 7\n"))
	if err != nil || reads != 6 || writes != 7 {
		t.Errorf("%d, %d, %v", reads, writes, err)
	}
	if _, _, err := parseIO([]byte("syscr: x\nsyscw: 7\n")); err == nil {
		t.Error("what is no number was read")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var l tail
	for i := range 10_000 {
		fmt.Fprintf(&l, "line %d\n", i)
	}
	if s := l.String(); len(s) > tailSize || s[len(s)-10:] != "line 9999\n" {
		t.Errorf("%d bytes that end in %q", len(s), s[max(0, len(s)-20):])
	}
}

func TestParseFlags(t *testing.T) {
	o, err := parse([]string{"--quick"})
	if err != nil || o.document != "-" || o.runs != 5 {
		t.Errorf("%+v, %v; a quick look writes no document", o, err)
	}
	for _, wrong := range [][]string{{"x"}, {"--runs", "0"}} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
	if _, err := choose([]string{"chunks", "nothing"}); err == nil {
		t.Error("a measure that there is not was chosen")
	}
	if m, err := choose([]string{"images"}); err != nil || len(m) != 1 || m[0].name != "images" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestDelayLine(t *testing.T) {
	const oneWay = 30 * time.Millisecond
	cache := &chunkCache{image: testImage(64 << 10), encoded: map[uint32][][]byte{}}
	l := listen(t)
	go func() {
		if conn, err := l.Accept(); err == nil {
			floorServe(conn, cache)
		}
	}()
	d, err := startDelay(l.Addr().String(), oneWay)
	if err != nil {
		t.Fatal(err)
	}
	k, err := dialFloor(d.addr(), cache.image)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := k.takeCourse(course{chunk: 4 << 10, length: 256 << 10}, 3); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*oneWay {
		t.Errorf("there and back took %s, less than %s", took, 2*oneWay)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}
