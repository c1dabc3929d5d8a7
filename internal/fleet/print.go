package fleet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("devices", "%d, %d online in the end", r.Devices, r.Online)
	c := &r.Connects
	all := ""
	if r.connected {
		all = fmt.Sprintf(", all after %.1f s", c.Seconds)
	}
	row("connections", "%d accepted of %d attempts%s; %d busy, %d refused, %d unreachable, %d lost, %d reboots",
		c.Accepted, c.Attempts, all, c.Busy, c.Refused, c.Unreachable, c.Lost, c.Reboots)
	if s := r.Storm; s != nil {
		row("storm", "over after %.1f s, with %d attempts, %d busy, %d unreachable", s.Seconds, s.Attempts, s.Busy, s.Unreachable)
	}
	if u := &r.Updates; u.Finished > 0 || r.Messages.Offers > 0 {
		row("updates", "%s%s", states(r.Phases), ended(u))
	}
	if d := &r.Download; d.ImageBytes > 0 {
		rates := ", no image is whole"
		if d.Seconds > 0 {
			rates = fmt.Sprintf(" in %.1f s, %.1f MiB/s, %.0f chunks/s", d.Seconds, d.MiBPerSecond, d.ChunksPerS)
		}
		row("download", "%.1f MiB%s", float64(d.ImageBytes)/mib, rates)
	}
	m := &r.Messages
	row("messages", "%d hellos, %d offers, %d fetches, %d chunks, %d statuses, %d acks", m.Hellos, m.Offers, m.Fetches, m.Chunks, m.Statuses, m.Acks)
	row("repeated", "%d statuses, %d fetches; %d chunks dropped, %d gaps, %d duplicates", m.StatusRepeats, m.FetchRepeats, m.ChunksDropped, m.Gaps, m.Duplicates)
	for _, l := range []struct {
		name string
		l    Latency
	}{{"connect", r.Latency.Connect}, {"hello to offer", r.Latency.Offer}, {"fetch to chunk", r.Latency.Chunk}} {
		if l.l.Count > 0 {
			row(l.name, "p50 %.1f ms, p99 %.1f ms, at most %.1f ms", l.l.P50, l.l.P99, l.l.Max)
		}
	}
	idle := ""
	if r.connected {
		idle = fmt.Sprintf("; an idle device took %d bytes", r.Process.IdlePerDevice)
	}
	row("this process", "%.1f s of CPU, %.0f MiB%s", r.Process.CPUSeconds, float64(r.Process.RSS)/mib, idle)
	_ = tw.Flush() // the writer is a string
	for _, what := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "%d times: %s\n", r.Errors[what], what)
	}
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "FAILED: %s\n", reason)
	}
}

// ended is how updates have ended, if any has.
func ended(u *UpdateResult) string {
	if u.Finished == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of %d ended as drawn, in %.1f s", u.AsDrawn, u.Finished, u.Seconds)
}

// states are counts by state, those of no device left out.
func states(m map[string]int64) string {
	var all []string
	for p := range phases {
		if n := m[p.String()]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, p))
		}
	}
	return strings.Join(all, ", ")
}
