package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// machine says in a line what the figures were taken on.
func machine() string {
	parts := []string{fmt.Sprintf("%d processors", runtime.NumCPU())}
	if name := cpuName(readOr("/proc/cpuinfo")); name != "" {
		parts[0] += " (" + name + ")"
	}
	if kb := firstNumber(readOr("/proc/meminfo"), `MemTotal:\s+(\d+) kB`); kb != "" {
		var n int64
		if _, err := fmt.Sscan(kb, &n); err == nil {
			parts = append(parts, fmt.Sprintf("%d GiB of memory", (n+1<<19)>>20))
		}
	}
	if k := strings.TrimSpace(string(readOr("/proc/sys/kernel/osrelease"))); k != "" {
		parts = append(parts, "Linux "+k)
	}
	parts = append(parts, "Go "+strings.TrimPrefix(runtime.Version(), "go"))
	for _, p := range []struct{ name, flag, pattern string }{
		{"mosquitto", "-h", `mosquitto version (\S+)`},
		{"nginx", "-v", `nginx/(\S+)`},
	} {
		if path, err := program(p.name, ""); err == nil {
			out, _ := exec.Command(path, p.flag).CombinedOutput() // mosquitto -h ends with 1
			if v := firstNumber(out, p.pattern); v != "" {
				parts = append(parts, p.name+" "+v)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// readOr reads a file that may not be there.
func readOr(name string) []byte {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return b
}

func cpuName(cpuinfo []byte) string {
	for line := range bytes.Lines(cpuinfo) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// firstNumber is the first group of a pattern.
func firstNumber(b []byte, pattern string) string {
	if m := regexp.MustCompile(pattern).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}
