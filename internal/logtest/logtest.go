// Package logtest keeps what programs print while they are tested, so that a test can look at it while they
// go on printing. It is for tests only, imports no package of ours and starts no goroutine.
package logtest

import (
	"strings"
	"sync"
)

// Buffer keeps all that is written to it. The zero value is empty; its methods may be called at the same time.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written until now.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Lines are those, with their ends, in which all of the words stand.
func (b *Buffer) Lines(words ...string) (lines []string) {
	for line := range strings.Lines(b.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			lines = append(lines, line)
		}
	}
	return lines
}
