package rehearsal

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// chartRows is how many rows a chart's curves have.
const chartRows = 14

// glyphs are what a chart is drawn with.
type glyphs struct {
	failed, succeeded, back, progress, axis, corner, line, tick string
}

func glyphsOf(ascii bool) glyphs {
	if ascii {
		return glyphs{"x", "#", "b", ".", "|", "+", "-", "+"}
	}
	return glyphs{"▒", "█", "▚", "░", "│", "└", "─", "┤"}
}

// Chart draws the curve of a play, at most width columns wide: over the time, how many
// devices have failed (from the bottom; never less than a cell if there is one), have
// succeeded, were brought back since and are in progress. The devices that wait are
// not drawn, so that a job that is stopped in a small wave is seen.
func (r *Result) Chart(width int, ascii bool) string {
	g := glyphsOf(ascii)
	top := r.highest()
	label := len(fmt.Sprint(top))
	columns := max(10, width-label-2)
	var b strings.Builder
	for row := chartRows; row > 0; row-- {
		number, axis := "", g.axis
		if row == chartRows || row == chartRows/2 {
			number, axis = fmt.Sprint(top*row/chartRows), g.tick
		}
		var line strings.Builder
		for c := range columns {
			line.WriteString(g.cell(r.at(c, columns), row, top))
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%*s %s%s", label, number, axis, line.String()), " ") + "\n")
	}
	fmt.Fprintf(&b, "%*s %s%s\n", label, "0", g.corner, strings.Repeat(g.line, columns))
	pad := strings.Repeat(" ", label+2)
	if marks := r.marks(columns); marks != "" {
		b.WriteString(pad + marks + "\n")
	}
	b.WriteString(pad + r.times(columns) + "\n")
	fmt.Fprintf(&b, "%s%s succeeded  %s in progress  %s failed", pad, g.succeeded, g.progress, g.failed)
	if r.RollBack != nil {
		fmt.Fprintf(&b, "  %s brought back", g.back)
	}
	b.WriteString("\n")
	return b.String()
}

// span is the time that a chart is drawn over.
func (r *Result) span() time.Duration {
	return time.Duration(len(r.Curve)-1) * time.Duration(r.Step)
}

// at is how the job stands in a column.
func (r *Result) at(column, columns int) Point {
	i := int(math.Round(float64(column) / float64(columns-1) * float64(len(r.Curve)-1)))
	return r.Curve[i]
}

// column is where a moment is drawn.
func (r *Result) column(after time.Duration, columns int) int {
	if r.span() == 0 {
		return 0
	}
	return min(columns-1, int(math.Round(float64(after)/float64(r.span())*float64(columns-1))))
}

// highest is a round number of devices that no point exceeds.
func (r *Result) highest() int {
	most := 1
	for _, p := range r.Curve {
		most = max(most, p.Failed+p.Succeeded+p.InProgress)
	}
	for unit := 1; ; unit *= 10 {
		for _, n := range []int{1, 2, 3, 4, 5, 6, 8} {
			if n*unit >= most {
				return n * unit
			}
		}
	}
}

// cell is what stands in a row, counted from the bottom, of a column.
func (g *glyphs) cell(p Point, row, top int) string {
	height := func(n int) int { return int(math.Round(float64(n) * chartRows / float64(top))) }
	failed := int(math.Ceil(float64(p.Failed) * chartRows / float64(top)))
	back := min(p.BroughtBack, p.Succeeded)
	switch sum := p.Failed + p.Succeeded; {
	case row <= failed:
		return g.failed
	case row <= height(sum-back):
		return g.succeeded
	case row <= height(sum):
		return g.back
	case row <= height(sum+p.InProgress):
		return g.progress
	}
	return " "
}

// marks is the line below the axis: waves that begin, by their numbers, ! where the
// job was stopped and < where its devices begin to be brought back.
func (r *Result) marks(columns int) string {
	line := []byte(strings.Repeat(" ", columns))
	const numbers = "123456789abcdefghijklmnopqrstuvwxyz"
	back := false
	for _, e := range r.Log {
		c := r.column(time.Duration(e.After), columns)
		switch {
		case e.Event == EventWave && len(r.Waves) > 1:
			line[c] = numbers[min(e.Wave, len(numbers))-1]
		case e.Event == EventPaused, e.Event == EventCanceled:
			line[c] = '!'
		case e.Event == EventRollBack && !back:
			back = true
			line[c] = '<'
		}
	}
	return strings.TrimRight(string(line), " ")
}

// times labels the axis.
func (r *Result) times(columns int) string {
	labels := []string{"0s", Span(r.span() / 2), Span(r.span())}
	middle := max(1, columns/2-len(labels[0])-len(labels[1])/2)
	line := labels[0] + strings.Repeat(" ", middle) + labels[1]
	return line + strings.Repeat(" ", max(1, columns-len(line)-len(labels[2]))) + labels[2]
}

// Legend says what the marks below a chart stand for; empty if there are none.
func (r *Result) Legend() string {
	var parts []string
	if len(r.Waves) > 1 {
		parts = append(parts, "1, 2, ...: a wave begins")
	}
	if slices.ContainsFunc(r.Log, func(e Entry) bool { return e.Event == EventPaused || e.Event == EventCanceled }) {
		parts = append(parts, "!: the job is stopped")
	}
	if r.RollBack != nil {
		parts = append(parts, "<: devices begin to be brought back")
	}
	return strings.Join(parts, "; ")
}

// Span prints a time for people, in days from two of them on: 2d3h, 25h10m, 90s.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	d = d.Round(time.Second)
	switch {
	case d >= 2*day:
		d = d.Round(time.Hour)
		return trimmed(fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour), "d0h")
	case d >= time.Hour:
		d = d.Round(time.Minute)
		return trimmed(fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute), "h0m")
	case d >= time.Minute:
		return trimmed(fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second), "m0s")
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// trimmed leaves out a part that is nothing, but for the unit before it.
func trimmed(s, nothing string) string {
	if before, ok := strings.CutSuffix(s, nothing); ok {
		return before + nothing[:1]
	}
	return s
}
