package app

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// fileMemory is what files have of the process's resident memory, in KiB (proc_pid_status(5)).
func fileMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(status, []byte("RssFile:"))
	n, err := strconv.Atoi(string(bytes.Fields(after)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The pages of the program that nobody needs leave the memory, and the program goes on.
func TestUnmapProgram(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe") // now it is in the page cache
	if err != nil {
		t.Fatal(err)
	}
	before := fileMemory(t)
	unmapProgram()
	after := fileMemory(t)
	if after > before*3/4 {
		t.Errorf("files have %d KiB of the memory, before %d", after, before)
	}
	if again, err := os.ReadFile("/proc/self/exe"); err != nil || !bytes.Equal(again, self) {
		t.Error("the program's file has changed")
	}
}

func TestMappingsOfTheProgram(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-01234000 r-xp 00000000 fe:00 1234                               /usr/bin/davit":           true,
		"01234000-02234000 r--p 00e34000 fe:00 1234                               /usr/bin/davit":           true,
		"02234000-02300000 rw-p 01e34000 fe:00 1234                               /usr/bin/davit":           false,
		"02300000-02400000 r--s 00000000 fe:00 1234                               /usr/bin/davit":           false,
		"00400000-01234000 r-xp 00000000 fe:00 1234                               /usr/bin/davit (deleted)": false,
		"7f0000000000-7f0000001000 r-xp 00000000 00:00 0                          [vdso]":                   false,
		"c000000000-c000400000 rw-p 00000000 00:00 0":                                                       false,
		"x-y r-xp 00000000 fe:00 1234                                             /usr/bin/davit":           false,
	} {
		if from, to, ok := ofProgram(line, "/usr/bin/davit"); ok != want || ok && from >= to {
			t.Errorf("%s: %x to %x, %t", line, from, to, ok)
		}
	}
}
