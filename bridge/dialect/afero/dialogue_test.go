package afero

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"davit/bridge/recording"
	"davit/bridge/sniff"
	"davit/schemas/afpro"
)

// The sides of a dialogue.
const (
	fromASR = "ASR"
	fromMCU = "MCU"
)

// dialogue is what both sides handed to the line, in the order of time.
type dialogue struct {
	began time.Time
	mu    sync.Mutex
	turns []turn
}

// turn is one write, or a heading if nobody said it.
type turn struct {
	at    time.Duration
	from  string
	bytes []byte
}

func (d *dialogue) add(from string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns = append(d.turns, turn{time.Since(d.began), from, bytes.Clone(b)})
}

// heading says what comes now.
func (d *dialogue) heading(s string) { d.add("", []byte(s)) }

// witness is an end of a line that notes what is written to it.
type witness struct {
	io.ReadWriteCloser
	from string
	to   *dialogue
}

// Write implements io.Writer.
func (w *witness) Write(b []byte) (int, error) {
	w.to.add(w.from, b)
	return w.ReadWriteCloser.Write(b)
}

// bytesOf is all that one side said.
func (d *dialogue) bytesOf(from string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b []byte
	for _, t := range d.turns {
		if t.from == from {
			b = append(b, t.bytes...)
		}
	}
	return b
}

// longest message of the tests.
const longest = 2058

// transcript is the dialogue in words: a line for each write, with the second in
// which it was handed to the line.
func (d *dialogue) transcript() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s strings.Builder
	line := sniff.NewAfero(0)
	for _, t := range d.turns {
		if t.from == "" {
			fmt.Fprintf(&s, "\n%s\n\n", t.bytes)
			continue
		}
		side := recording.FromModule
		if t.from == fromMCU {
			side = recording.FromMCU
		}
		var things []string
		line.Decode(t.at, side, t.bytes, func(p sniff.Packet) { things = append(things, p.Text) })
		fmt.Fprintf(&s, "%8.3f %s> %s\n", t.at.Seconds(), t.from, strings.Join(things, "; "))
	}
	return s.String()
}

// describe puts a message in words.
func describe(m afpro.Message) string { return sniff.AferoMessage(m) }
