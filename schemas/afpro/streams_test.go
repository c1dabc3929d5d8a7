package afpro

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// order is what a receiver is told behind an event: how many bytes to take or to
// pass over.
type order struct{ take, pass int }

// plan has the orders behind the events, the first before any event. Bad runs do
// not count as events.
type plan []order

func (p plan) behind(events int) order {
	if events < len(p) {
		return p[events]
	}
	return order{}
}

// listener feeds a Scanner, tells it what the plan says, and notes what it finds.
type listener struct {
	s      *Scanner
	plan   plan
	events int
	bad    int // bytes of the bad run that the last note is about
	heard  []string
}

func newListener(limit int, p plan) *listener {
	l := &listener{s: NewScanner(limit), plan: p}
	l.give()
	return l
}

func (l *listener) give() {
	o := l.plan.behind(l.events)
	if o.take > 0 {
		l.s.Expect(o.take)
	}
	if o.pass > 0 {
		l.s.Skip(o.pass)
	}
}

// hear feeds one piece.
func (l *listener) hear(b []byte) {
	l.s.Feed(b)
	for l.s.Next() {
		e := l.s.Event()
		if e.Kind == EventBad {
			if l.bad > 0 {
				l.heard = l.heard[:len(l.heard)-1]
			}
			l.bad += e.Bytes
			l.heard = append(l.heard, sayBad(l.bad))
			continue
		}
		l.bad = 0
		l.heard = append(l.heard, say(e))
		l.events++
		l.give()
	}
}

// hearAll feeds a stream in pieces of n bytes.
func (l *listener) hearAll(stream []byte, n int) {
	for piece := range slices.Chunk(stream, n) {
		l.hear(piece)
	}
}

// say puts an event in one comparable line.
func say(e Event) string {
	switch e.Kind {
	case EventReady:
		return "ready"
	case EventSync:
		return saySync(e.Sync)
	case EventMessage:
		return fmt.Sprintf("message % x", e.Message)
	case EventSkipped:
		return fmt.Sprintf("skipped %d", e.Bytes)
	}
	return fmt.Sprintf("%+v", e)
}

func saySync(s Sync) string { return fmt.Sprintf("sync %02x %d %d", byte(s.Type), s.MCU, s.ASR) }
func sayBad(n int) string   { return fmt.Sprintf("bad %d", n) }

// plainScan is the scanner said once more, as plainly as can be: it has the
// whole stream before it, and decides about its first byte.
func plainScan(stream []byte, limit int, p plan) (heard []string, partial bool, come int) {
	for events := 0; ; events++ {
		o := p.behind(events)
		n := o.pass
		if n == 0 && o.take <= limit {
			n = o.take
		}
		if n > 0 {
			if len(stream) < n {
				return heard, true, len(stream)
			}
			what := say(Event{Kind: EventMessage, Message: stream[:n]})
			if o.pass > 0 {
				what = say(Event{Kind: EventSkipped, Bytes: n})
			}
			heard, stream = append(heard, what), stream[n:]
			continue
		}
		bad := 0
		for ; len(stream) > 0 && !plainBegins(stream); stream = stream[1:] {
			bad++
		}
		if bad > 0 {
			heard = append(heard, sayBad(bad))
		}
		switch {
		case len(stream) == 0:
			return heard, false, 0
		case stream[0] == 0x32:
			heard, stream = append(heard, "ready"), stream[1:]
		case len(stream) < 6:
			return heard, true, len(stream)
		default:
			s := Sync{SyncType(stream[0]), binary.LittleEndian.Uint16(stream[1:3]), binary.LittleEndian.Uint16(stream[3:5])}
			heard, stream = append(heard, saySync(s)), stream[6:]
		}
	}
}

// plainBegins says whether b begins with a ready byte, a good sync message, or
// what may become one.
func plainBegins(b []byte) bool {
	if b[0] == 0x32 {
		return true
	}
	if b[0] != 0x30 && b[0] != 0x31 {
		return false
	}
	return len(b) < 6 || b[0]+b[1]+b[2]+b[3]+b[4] == b[5]
}

// compare fails the test unless l heard what the plain scanner does.
func compare(t interface{ Fatalf(string, ...any) }, l *listener, stream []byte) {
	want, partial, come := plainScan(stream, l.s.Limit(), l.plan)
	if !slices.Equal(l.heard, want) {
		t.Fatalf("% x with %v:\n got %q\nwant %q", stream, l.plan, l.heard, want)
	}
	if l.s.Partial() != partial {
		t.Fatalf("% x with %v: Partial is %v", stream, l.plan, l.s.Partial())
	}
	if n := l.s.Hunt(); n != come || l.s.Partial() {
		t.Fatalf("% x with %v: gave up %d bytes, want %d; Partial is %v", stream, l.plan, n, come, l.s.Partial())
	}
}

type streamVector struct {
	Name, About, Stream string
	Limit               int
	Steps               []streamStep
	Partial             bool
	Come                int
}

type streamStep struct {
	Event      string
	Type       SyncType
	MCU, ASR   uint16
	Message    string
	Bytes      int
	Take, Pass int
}

func (v streamVector) name() string { return v.Name }

// want is what the vector has the receiver hear, and the orders that make it so.
func (v streamVector) want(t testing.TB) (heard []string, p plan) {
	p = plan{{}}
	for i, s := range v.Steps {
		switch s.Event {
		case "":
			if i > 0 && v.Steps[i-1].Event == "bad" || s.Take > v.Limit {
				t.Fatalf("%s: step %d is an order that cannot be given", v.Name, i+1)
			}
			p[len(p)-1] = order{s.Take, s.Pass}
			continue
		case "bad":
			heard = append(heard, sayBad(s.Bytes))
			continue
		case "ready":
			heard = append(heard, "ready")
		case "sync":
			heard = append(heard, saySync(Sync{s.Type, s.MCU, s.ASR}))
		case "message":
			heard = append(heard, say(Event{Kind: EventMessage, Message: unhex(t, s.Message)}))
		case "skipped":
			heard = append(heard, say(Event{Kind: EventSkipped, Bytes: s.Bytes}))
		default:
			t.Fatalf("%s: unknown event %q", v.Name, s.Event)
		}
		p = append(p, order{})
	}
	return heard, p
}

func TestStreamVectors(t *testing.T) {
	for _, v := range readVectors[streamVector](t, "streams.json") {
		t.Run(v.Name, func(t *testing.T) {
			stream := unhex(t, v.Stream)
			want, p := v.want(t)
			for _, piece := range []int{1, 2, 3, 7, 64, 4096} {
				l := newListener(v.Limit, p)
				l.hearAll(stream, piece)
				if !slices.Equal(l.heard, want) {
					t.Errorf("in pieces of %d:\n got %q\nwant %q", piece, l.heard, want)
				}
				if l.s.Partial() != v.Partial {
					t.Errorf("in pieces of %d: Partial is %v", piece, l.s.Partial())
				}
				if n := l.s.Hunt(); n != v.Come {
					t.Errorf("in pieces of %d: gave up %d bytes, want %d", piece, n, v.Come)
				}
			}
		})
	}
}
