package web

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// Charts are made here, on the server: the shapes are SVG without any text and
// stretch with the page, the words beside them are HTML and keep their size.
// Colours come from classes of the stylesheet. Each chart says in words what it
// shows, and the one over time has a table that says the same.

// plotWidth and plotHeight are the units of the plots' own coordinates.
const (
	plotWidth  = 1000
	plotHeight = 200
)

// maxVersionBars is how many versions a chart names; what is rarer is one bar.
const maxVersionBars = 8

// segment is one part of a bar.
type segment struct {
	class string
	n     int
}

// stackedBar is a bar of segments, as long as their share of all.
func stackedBar(class, words string, all int, segments []segment) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="%s" viewBox="0 0 %d 10" preserveAspectRatio="none" role="img" aria-label="%s">`,
		class, plotWidth, template.HTMLEscapeString(words))
	x := 0.0
	for _, s := range segments {
		if s.n <= 0 || all <= 0 {
			continue
		}
		w := float64(s.n) / float64(all) * plotWidth
		fmt.Fprintf(&b, `<rect class="bar-%s" x="%s" y="0" width="%s" height="10"/>`, s.class, coordinate(x), coordinate(w))
		x += w
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

func coordinate(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// Tally is a job's executions by what matters to people.
type Tally struct {
	Targets, Succeeded, Failed, Canceled, Active, Waiting int
}

// Ended is how many have ended, however.
func (t Tally) Ended() int { return t.Succeeded + t.Failed + t.Canceled }

// Percent is the share that has ended: 100 means all of them, and 0 none.
func (t Tally) Percent() int {
	if t.Targets == 0 {
		return 0
	}
	share := t.Ended() * 100 / t.Targets
	if t.Ended() > 0 {
		return max(share, 1)
	}
	return share
}

// Words says the same in a sentence.
func (t Tally) Words() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{t.Succeeded, "succeeded"}, {t.Failed, "failed"}, {t.Canceled, "canceled"}, {t.Active, "under way"}, {t.Waiting, "waiting"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%d devices, not started", t.Targets)
	}
	return fmt.Sprintf("%s of %d", strings.Join(parts, ", "), t.Targets)
}

// tallyOf counts a job's executions. Devices of a draft have no execution yet
// and count as waiting.
func tallyOf(j orchestrator.Job) Tally {
	t := Tally{Targets: j.Targets}
	for state, n := range j.Counts {
		switch state {
		case schemas.StateSucceeded:
			t.Succeeded += n
		case schemas.StateCanceled:
			t.Canceled += n
		case schemas.StateRejected, schemas.StateFailed, schemas.StateTimedOut:
			t.Failed += n
		case schemas.StateQueued, schemas.StateOffered:
		default:
			t.Active += n
		}
	}
	t.Waiting = max(0, t.Targets-t.Ended()-t.Active)
	return t
}

// chartJob is a job's progress as one bar.
func chartJob(j orchestrator.Job) template.HTML {
	t := tallyOf(j)
	return stackedBar("split-bar", t.Words(), t.Targets, []segment{
		{"good", t.Succeeded}, {"bad", t.Failed}, {"idle", t.Canceled}, {"busy", t.Active},
	})
}

// chartVersions shows how many devices report which version, the most frequent first.
func chartVersions(counts map[string]int) template.HTML {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	all, rest := 0, 0
	for i, name := range names {
		all += counts[name]
		if i >= maxVersionBars {
			rest += counts[name]
		}
	}
	var b strings.Builder
	b.WriteString(`<ul class="bars">`)
	for _, name := range names[:min(len(names), maxVersionBars)] {
		label := name
		if label == "" {
			label = "not reported"
		}
		versionBar(&b, label, counts[name], all)
	}
	if rest > 0 {
		versionBar(&b, fmt.Sprintf("%d other versions", len(names)-maxVersionBars), rest, all)
	}
	b.WriteString(`</ul>`)
	return template.HTML(b.String())
}

func versionBar(b *strings.Builder, label string, n, all int) {
	fmt.Fprintf(b, `<li><span class="mono">%s</span>`, template.HTMLEscapeString(label))
	fmt.Fprintf(b, `<svg class="bar" viewBox="0 0 %d 10" preserveAspectRatio="none" aria-hidden="true">`, plotWidth)
	fmt.Fprintf(b, `<rect x="0" y="0" width="%s" height="10"/></svg>`, coordinate(float64(n)/float64(max(all, 1))*plotWidth))
	fmt.Fprintf(b, `<span class="count">%d <small class="muted">%d %%</small></span></li>`, n, n*100/max(all, 1))
}

// HistoryRow is one step of a job's history, counted from the start.
type HistoryRow struct {
	At                time.Time
	Succeeded, Failed int
}

// HistoryChart is a job's progress over time.
type HistoryChart struct {
	Plot template.HTML
	// Rows are the steps in which something ended; the table beside the plot.
	Rows       []HistoryRow
	Start, End time.Time
	Targets    int
}

// chartHistory draws how many executions had ended at each moment, those that
// succeeded below those that did not, against the number of devices. Nil if
// nothing has ended.
func chartHistory(h orchestrator.JobHistory, targets int) *HistoryChart {
	rows := []HistoryRow{{At: h.Start}}
	step := time.Duration(h.Step)
	for i, p := range h.Points {
		last := rows[len(rows)-1]
		rows = append(rows, HistoryRow{
			At:        h.Start.Add(time.Duration(i+1) * step),
			Succeeded: last.Succeeded + p.Succeeded, Failed: last.Failed + p.Failed,
		})
	}
	end := rows[len(rows)-1]
	if end.Succeeded+end.Failed == 0 {
		return nil
	}
	// A job that was tried again has more ends than devices.
	top := max(targets, end.Succeeded+end.Failed)
	return &HistoryChart{Plot: historyPlot(rows, top), Rows: changesOf(rows), Start: h.Start, End: end.At, Targets: top}
}

// changesOf leaves out the steps in which nothing ended.
func changesOf(rows []HistoryRow) []HistoryRow {
	var out []HistoryRow
	for i, r := range rows {
		if i > 0 && (r.Succeeded != rows[i-1].Succeeded || r.Failed != rows[i-1].Failed) {
			out = append(out, r)
		}
	}
	return out
}

func historyPlot(rows []HistoryRow, top int) template.HTML {
	end := rows[len(rows)-1]
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-labelledby="plot-title plot-desc">`, plotWidth, plotHeight)
	b.WriteString(`<title id="plot-title">Ended executions over time</title>`)
	fmt.Fprintf(&b, `<desc id="plot-desc">Of %d devices, %d have succeeded and %d have not. The table below has the same figures.</desc>`,
		top, end.Succeeded, end.Failed)
	for i := range 5 {
		y := coordinate(float64(i) * plotHeight / 4)
		fmt.Fprintf(&b, `<line class="plot-grid" x1="0" x2="%d" y1="%s" y2="%s"/>`, plotWidth, y, y)
	}
	zero := func(HistoryRow) int { return 0 }
	succeeded := func(r HistoryRow) int { return r.Succeeded }
	ended := func(r HistoryRow) int { return r.Succeeded + r.Failed }
	area(&b, "good", rows, top, zero, succeeded)
	if end.Failed > 0 {
		area(&b, "bad", rows, top, succeeded, ended)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// area fills what lies between two curves and draws the upper one.
func area(b *strings.Builder, tone string, rows []HistoryRow, top int, low, high func(HistoryRow) int) {
	x := func(i int) string { return coordinate(float64(i) * plotWidth / float64(max(len(rows)-1, 1))) }
	y := func(n int) string { return coordinate(plotHeight - float64(n)*plotHeight/float64(top)) }
	var edge strings.Builder
	fmt.Fprintf(&edge, "M0 %s", y(high(rows[0])))
	for i := 1; i < len(rows); i++ {
		fmt.Fprintf(&edge, "L%s %s", x(i), y(high(rows[i])))
	}
	fmt.Fprintf(b, `<path class="plot-%s" d="%s`, tone, edge.String())
	for i := len(rows) - 1; i >= 0; i-- {
		fmt.Fprintf(b, "L%s %s", x(i), y(low(rows[i])))
	}
	fmt.Fprintf(b, `Z"/><path class="plot-line %s" d="%s"/>`, tone, edge.String())
}
