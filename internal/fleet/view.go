package fleet

import (
	"fmt"
	"strings"
	"time"
)

// show writes what is going on until the fleet ends.
func (f *Fleet) show() {
	every := f.cfg.Every
	if every == 0 {
		if every = 5 * time.Second; f.cfg.Terminal {
			every = time.Second
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	before := f.look()
	lines := 0
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-tick.C:
		}
		now := f.look()
		text := f.line(before, now)
		if f.cfg.Terminal {
			text = f.table(before, now)
			if f.cfg.Width != nil {
				text = folded(text, f.cfg.Width())
			}
			if lines > 0 {
				text = fmt.Sprintf("\x1b[%dA\x1b[J", lines) + text // over the last one
			}
			lines = strings.Count(text, "\n")
		}
		if _, err := fmt.Fprint(f.cfg.View, text); err != nil {
			return // nobody looks
		}
		before = now
	}
}

// folded has no line of text, which is ASCII, be longer than a terminal of so many columns; 0 is one that does not say.
// A line that the terminal folds itself would be counted as one.
func folded(text string, columns int) string {
	if columns < 1 {
		return text
	}
	indent := len("connections  ")
	if columns < 2*indent {
		indent = 0
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		for len(line) > columns {
			at := strings.LastIndexByte(line[:columns+1], ' ')
			if at <= indent {
				at = columns // a word that is too long
			}
			fmt.Fprintln(&b, strings.TrimRight(line[:at], " "))
			line = strings.Repeat(" ", indent) + strings.TrimLeft(line[at:], " ")
		}
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// glance are the counters of a moment.
type glance struct {
	at                                                        instant
	accepted, hellos, offers, fetches, chunks, bytes, retries int64
}

func (f *Fleet) look() glance {
	c := &f.count
	return glance{
		at: f.clock.now(), accepted: c.accepted.Load(), hellos: c.hellos.Load(), offers: c.offers.Load(), fetches: c.fetches.Load(),
		chunks: c.chunks.Load(), bytes: c.imageBytes.Load(), retries: c.statusRepeats.Load() + c.fetchRepeats.Load() + c.gaps.Load(),
	}
}

// rates are the counters' growth a second.
func rates(before, now glance) func(func(glance) int64) float64 {
	s := max(timeBetween(before.at, now.at).Seconds(), 0.001)
	return func(of func(glance) int64) float64 { return float64(of(now)-of(before)) / s }
}

const mib = 1 << 20

func (f *Fleet) errorTotal() (n int64) {
	for _, k := range f.count.errorCounts() {
		n += k
	}
	return n
}

// line is a moment in one line.
func (f *Fleet) line(before, now glance) string {
	rate := rates(before, now)
	c := &f.count
	return fmt.Sprintf("%6.1fs  %d online, %d connecting; updates %s  %.0f connects/s  %.0f hellos/s  %.0f offers/s  %.0f chunks/s  %.1f MiB/s  p99 %s  retries %d  errors %d\n",
		timeBetween(0, now.at).Seconds(), c.links[linkOnline].Load(), c.links[linkConnecting].Load(), f.phaseList(),
		rate(func(g glance) int64 { return g.accepted }), rate(func(g glance) int64 { return g.hellos }), rate(func(g glance) int64 { return g.offers }),
		rate(func(g glance) int64 { return g.chunks }), rate(func(g glance) int64 { return g.bytes })/mib, short(c.chunkTime.quantile(0.99)), now.retries, f.errorTotal())
}

// phaseList says how many devices are in which phase, those without any left out.
func (f *Fleet) phaseList() string {
	var all []string
	for p := range phases {
		if n := f.count.phases[p].Load(); n > 0 && p != phaseNone {
			all = append(all, fmt.Sprintf("%d %s", n, p))
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// short is a time with as many digits as people read.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < 10*time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.0fs", d.Seconds())
}

// table is a moment on one screen.
func (f *Fleet) table(before, now glance) string {
	rate := rates(before, now)
	c := &f.count
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices, %.0f s\n", len(f.devices), timeBetween(0, now.at).Seconds())
	var linked []string
	for l := range links {
		linked = append(linked, fmt.Sprintf("%d %s", c.links[l].Load(), l))
	}
	fmt.Fprintf(&b, "connections  %s\nupdates      %s\n\n", strings.Join(linked, ", "), f.phaseList())
	fmt.Fprintf(&b, "%-10s %12s %14s\n", "", "a second", "in all")
	for _, row := range []struct {
		name string
		of   func(glance) int64
	}{
		{"connects", func(g glance) int64 { return g.accepted }},
		{"hellos", func(g glance) int64 { return g.hellos }},
		{"offers", func(g glance) int64 { return g.offers }},
		{"fetches", func(g glance) int64 { return g.fetches }},
		{"chunks", func(g glance) int64 { return g.chunks }},
		{"retries", func(g glance) int64 { return g.retries }},
	} {
		fmt.Fprintf(&b, "%-10s %12.0f %14d\n", row.name, rate(row.of), row.of(now))
	}
	fmt.Fprintf(&b, "%-10s %12.1f %14.1f\n\n", "MiB", rate(func(g glance) int64 { return g.bytes })/mib, float64(now.bytes)/mib)
	fmt.Fprintf(&b, "%-22s %9s %9s\n", "", "p50", "p99")
	for _, row := range []struct {
		name string
		h    *histogram
	}{{"connect", &c.connectTime}, {"hello to offer", &c.offerTime}, {"fetch to chunk", &c.chunkTime}} {
		fmt.Fprintf(&b, "%-22s %9s %9s\n", row.name, short(row.h.quantile(0.5)), short(row.h.quantile(0.99)))
	}
	fmt.Fprintf(&b, "errors %d\n", f.errorTotal())
	return b.String()
}
