package afero

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

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

// transcript is the dialogue in words: a line for each write, with the second in
// which it was handed to the line.
func (d *dialogue) transcript() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s strings.Builder
	r := reader{asr: afpro.NewScanner(longest), mcu: afpro.NewScanner(longest)}
	for _, t := range d.turns {
		if t.from == "" {
			fmt.Fprintf(&s, "\n%s\n\n", t.bytes)
			continue
		}
		fmt.Fprintf(&s, "%8.3f %s> %s\n", t.at.Seconds(), t.from, strings.Join(r.read(t), "; "))
	}
	return s.String()
}

// longest message of a transcript.
const longest = 2058

// reader understands both directions of a line. Where a message begins is known
// only from the Acks.
type reader struct {
	asr, mcu *afpro.Scanner
	due      int // bytes of the ASR's message behind its next ready byte
}

// read says what a write means, thing by thing.
func (r *reader) read(t turn) []string {
	s := r.asr
	if t.from == fromMCU {
		s = r.mcu
	}
	var things []string
	s.Feed(t.bytes)
	for s.Next() {
		e := s.Event()
		switch {
		case e.Kind == afpro.EventReady:
			things = append(things, "ready")
			if r.due > 0 {
				s.Expect(r.due)
				r.due = 0
			}
		case e.Kind == afpro.EventSync && t.from == fromASR:
			things = append(things, counts("Sync Response", e.Sync))
		case e.Kind == afpro.EventSync && e.Sync.Type == afpro.SyncAck:
			things = append(things, counts("Sync Ack", e.Sync))
			r.due = int(e.Sync.ASR)
			s.Expect(int(e.Sync.MCU))
		case e.Kind == afpro.EventSync:
			things = append(things, counts("Sync Request", e.Sync))
		case e.Kind == afpro.EventMessage:
			m, err := afpro.ParseMessage(e.Message)
			if err != nil {
				things = append(things, err.Error())
				continue
			}
			things = append(things, describe(m))
		default:
			things = append(things, fmt.Sprintf("%d bytes that mean nothing", e.Bytes))
		}
	}
	return things
}

func counts(name string, s afpro.Sync) string { return fmt.Sprintf("%s (%d, %d)", name, s.MCU, s.ASR) }

// describe puts a message in words.
func describe(m afpro.Message) string {
	head := fmt.Sprintf("%v %v", m.Type, m.Attribute)
	switch {
	case m.Type == afpro.Get:
		return fmt.Sprintf("%s, request %d", head, m.Request)
	case m.Attribute == afpro.ChannelToMCU || m.Attribute == afpro.ChannelToASR:
		return head + ": " + describeTunnel(m)
	case m.Type == afpro.Set:
		return fmt.Sprintf("%s, request %d: %s", head, m.Request, describeValue(m))
	case m.State != afpro.StateUpdated:
		return fmt.Sprintf("%s: %v (%v)", head, m.State, m.Reason)
	}
	return fmt.Sprintf("%s: %s (%v)", head, describeValue(m), m.Reason)
}

func describeValue(m afpro.Message) string {
	switch n := len(m.Value); {
	case m.Attribute == afpro.ASRState && n == 1:
		return map[byte]string{afpro.ASRRebooted: "rebooted", afpro.ASRLinked: "linked", afpro.ASRInitialized: "initialized"}[m.Value[0]]
	case m.Attribute == afpro.SystemCommand, m.Attribute == afpro.ASRCapabilities:
		return fmt.Sprintf("% x", m.Value)
	case n > 8:
		return fmt.Sprintf("%d bytes", n)
	}
	var v [8]byte
	copy(v[:], m.Value)
	return fmt.Sprint(binary.LittleEndian.Uint64(v[:]))
}

// describeTunnel puts a tunnelled attribute in words.
func describeTunnel(m afpro.Message) string {
	a, value, err := afpro.ParseTunnel(m.Value)
	switch {
	case err != nil:
		return err.Error()
	case a == afpro.OTAInfo:
		return fmt.Sprintf("%v %s", a, describeInfo(value))
	case a == afpro.OTATransfer && m.Attribute == afpro.ChannelToMCU:
		if offset, data, err := afpro.ParseTransfer(value); err == nil {
			return fmt.Sprintf("%v at %d: % x", a, offset, data)
		}
	case a == afpro.OTATransfer:
		switch next, err := afpro.ParseNext(value); {
		case err != nil:
		case next == afpro.StopOffset:
			return fmt.Sprintf("%v, stop", a)
		default:
			return fmt.Sprintf("%v, next offset %d", a, next)
		}
	}
	return fmt.Sprintf("%v of %d bytes", a, len(value))
}

func describeInfo(value []byte) string {
	i, err := afpro.ParseInfo(value)
	if err != nil {
		return err.Error()
	}
	switch i.State {
	case afpro.InfoBegin:
		return fmt.Sprintf("BEGIN type %d size %d version %d", i.Type, i.Size, i.Version)
	case afpro.InfoVerify:
		return fmt.Sprintf("VERIFY SHA-256 %x...", i.SHA256[:8])
	case afpro.InfoApply:
		return fmt.Sprintf("APPLY version %d", i.Version)
	}
	return i.State.String()
}
