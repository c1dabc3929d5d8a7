package replay

import (
	"fmt"
	"slices"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/bridge/recording"
	"davit/bridge/sniff"
	"davit/schemas"
)

// Tolerances (the package's comment says what they mean).
const (
	early = 20 * time.Millisecond
	late  = session.AckCeiling + time.Second
	// Retries are not compared, but a machine that sends without end is stopped: at
	// retriesFor times those of the recording and retriesMore.
	retriesFor  = 4
	retriesMore = 1000
	// maxStill is how often a machine may want to be called at one moment without
	// saying anything.
	maxStill = 1000
)

// play is one run of a script.
type play struct {
	*script
	o       Options
	machine session.Machine
	line    sniff.Decoder
	trace   func(sniff.Packet)
	asked   *choices

	now     time.Duration
	next    int // entry of the MCU that is handed over next
	all     int // frames sent
	sent    int // distinct ones
	retries int
	still   int
	repeats repeats

	inputs []input // that have not been given yet, in the order of their offers
	offers int     // of script.offered that have been looked at
	update *told   // the newest
	ends   []End
	diff   *Difference
	over   bool
}

// told is an update that the machine was told of.
type told struct {
	*offer
	active bool
	p      *play
}

// State implements dialect.Reporter.
func (t *told) State(schemas.State, uint64) error { return nil }

// Ended implements dialect.Reporter.
func (t *told) Ended(r dialect.Result) {
	t.active = false
	t.p.ends = append(t.p.ends, End{At: t.p.now, Result: r})
}

// deaf takes what a machine tells of the line.
type deaf struct{}

func (deaf) Version(string, string)       {}
func (deaf) Restarted()                   {}
func (deaf) Counted(dialect.Counter, int) {}

// newPlay prepares a run in which what is not in the recording is as asked says.
func newPlay(s *script, d Dialect, o Options, asked *choices, trace func(sniff.Packet)) (*play, error) {
	line, err := sniff.New(s.header.Dialect, s.header.Baud)
	if err != nil {
		return nil, err
	}
	cfg := dialect.Config{Baud: s.header.Baud, VersionProperties: s.properties, OfferInterval: o.OfferInterval, LoadSize: o.LoadSize}
	if len(o.VersionProperties) > 0 {
		cfg.VersionProperties = o.VersionProperties
	}
	p := &play{script: s, o: o, line: line, trace: trace, asked: asked, machine: d.NewMachine(cfg, deaf{})}
	p.now = s.at(0)
	for p.next < len(s.entries) && (s.entries[p.next].from != recording.FromMCU || s.entries[p.next].at < p.now-early) {
		p.next++ // what the MCU said before there was a session
	}
	return p, nil
}

// start is what the clock shows when a recording begins. Machines know times only
// by how far they are apart.
var start = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

func (p *play) clock() time.Time { return start.Add(p.now) }

// run plays the script to its end, or to the first difference.
func (p *play) run() {
	p.machine.Begin(p.clock())
	p.resume()
	for !p.over {
		p.give()
		next := p.machine.Step(p.clock())
		if len(next.Write) > 0 {
			p.still = 0
			if p.hears(recording.FromModule, next.Write); p.over {
				return
			}
			p.give() // before the machine looks for what comes next
			p.machine.Sent(p.clock())
			continue
		}
		if p.still++; p.still > maxStill {
			p.differ(p.has(), "the machine does not come to rest", nil)
			return
		}
		p.wait(next.Wake.Sub(start))
	}
}

// wait goes on to what comes next: the machine's wake, something that the MCU
// said, or something that the bridge was told.
func (p *play) wait(wake time.Duration) {
	wake = max(wake, p.now)
	if at, ok := p.inputAt(); ok && at <= wake {
		if p.goTo(at); p.give() {
			return
		}
	}
	if p.next == len(p.entries) {
		p.finish(wake)
		return
	}
	e := &p.entries[p.next]
	switch at := max(e.at, p.now); {
	case p.has() >= p.wants(e):
		if at <= wake || at <= wake+early && p.silent(e) {
			p.goTo(at)
			p.hand(e)
			return
		}
	case wake > max(e.at+late, p.now):
		p.differ(p.has(), fmt.Sprintf("the machine does not send it, although the MCU said what came behind it at %.6f s", e.at.Seconds()), nil)
		return
	}
	p.goTo(wake)
}

// silent says whether the recorded bridge sent nothing more before an entry, not
// even a retry that the MCU may have waited for.
func (p *play) silent(e *entry) bool { return e.all == 0 || p.at(int(e.all-1)) <= p.now }

// goTo moves the clock.
func (p *play) goTo(at time.Duration) {
	if at > p.now {
		p.now, p.still = at, 0
	}
}

// has and wants count the frames that the machine has sent, and those that the
// bridge had sent before an entry.
func (p *play) has() int { return p.counted(p.all, p.sent) }

func (p *play) wants(e *entry) int { return p.counted(int(e.all), int(e.distinct)) }

func (p *play) counted(all, distinct int) int {
	if p.o.Strict {
		return all
	}
	return distinct
}

// total is how many frames are compared, frame the place in the recording of the
// nth of them.
func (p *play) total() int { return p.counted(len(p.frames), len(p.single)) }

func (p *play) frame(n int) int {
	if p.o.Strict {
		return n
	}
	return int(p.single[n])
}

// finish waits for what the bridge sent behind the last word of the MCU.
func (p *play) finish(wake time.Duration) {
	if p.has() >= p.total() {
		p.over = true
		return
	}
	if last := p.at(p.frame(p.has())); wake > max(last+late, p.now) {
		p.differ(p.has(), "the machine does not send it", nil)
		return
	}
	p.goTo(wake)
}

// hand gives the machine what the MCU said.
func (p *play) hand(e *entry) {
	b := p.bytes[e.first:e.end]
	p.next++
	for p.next < len(p.entries) && p.entries[p.next].from != recording.FromMCU {
		p.next++
	}
	p.hears(recording.FromMCU, b)
	p.machine.Receive(slices.Clone(b), p.clock()) // the machine may do with them what it likes
	p.still = 0
}

// hears takes what passes on the line.
func (p *play) hears(from recording.Side, b []byte) {
	p.line.Decode(p.now, from, b, func(q sniff.Packet) {
		if p.over {
			return
		}
		if p.trace != nil {
			p.trace(q)
		}
		if q.From == recording.FromModule {
			p.compare(q)
		}
	})
}

// compare holds a frame of the machine against the recording.
func (p *play) compare(q sniff.Packet) {
	n, sum := p.has(), sumOf(q)
	again := p.repeats.has(q, sum)
	p.all++
	if again {
		if p.retries++; p.retries > retriesFor*p.script.retries+retriesMore {
			p.differ(n, "the machine repeats it without end", &q)
			return
		}
	} else {
		p.sent++
	}
	if again && !p.o.Strict {
		return
	}
	if n >= p.total() {
		switch {
		case p.next == len(p.entries):
			p.over = true // the recording has gone by
		case p.entries[p.next].at > p.now+early, n > p.total()+retriesMore:
			p.differ(n, "the recorded bridge sent nothing more", &q)
		}
		return
	}
	i := p.frame(n)
	switch {
	case p.frames[i].sum != sum:
		p.differ(n, "the frames differ", &q)
	case p.next < int(p.frames[i].entry) && p.entries[p.next].at > p.now+early:
		p.differ(n, fmt.Sprintf("the machine sends it before it has heard what the MCU said at %.6f s", p.entries[p.next].at.Seconds()), &q)
	}
}

// differ ends the run with a difference in the nth frame that is compared; q is
// what the machine sent, if anything.
func (p *play) differ(n int, why string, q *sniff.Packet) {
	d := &Difference{Why: why, place: len(p.frames)}
	if n < p.total() {
		d.place = p.frame(n)
	}
	d.Frame = d.place + 1
	if q != nil {
		d.Replayed = inWords(*q)
		d.content = slices.Clone(q.Content)
	}
	p.diff, p.over = d, true
}

// explain adds what was recorded to a difference, and where two frames with the
// same words part.
func (p *play) explain(d *Difference) {
	if d.place == len(p.frames) {
		return
	}
	recorded := p.packet(d.place)
	d.Recorded = inWords(recorded)
	a, b := recorded.Content, d.content
	if d.Replayed == nil || d.Recorded.Text != d.Replayed.Text || slices.Equal(a, b) {
		return
	}
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	d.Why = fmt.Sprintf("%s in byte %d of what they carry: recorded % x, replayed % x", d.Why, i, a[i:min(i+4, len(a))], b[i:min(i+4, len(b))])
}
