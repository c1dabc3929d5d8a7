package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"davit/orchestrator"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// outputFlag is --output, which says the same as --json.
type outputFlag struct{ json *bool }

func (f outputFlag) Type() string { return "table|json" }

func (f outputFlag) String() string {
	if f.json != nil && *f.json {
		return outputJSON
	}
	return outputTable
}

func (f outputFlag) Set(s string) error {
	if s != outputTable && s != outputJSON {
		return fmt.Errorf("it is %s or %s", outputTable, outputJSON)
	}
	*f.json = s == outputJSON
	return nil
}

// printJSON writes v as one line.
func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// show prints one result: v as a line of JSON, or what human writes.
func (p *program) show(v any, human func(w io.Writer)) error {
	if p.json {
		return p.printJSON(v)
	}
	var b strings.Builder
	human(&b)
	_, err := io.WriteString(p.out, b.String())
	return err
}

// done prints one result of a command that changed something: v as a line of
// JSON, or the sentence.
func (p *program) done(v any, format string, args ...any) error {
	return p.show(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// column is one column of a listing.
type column[T any] struct {
	title string
	value func(T) string
}

// table prints items with a heading.
func table[T any](p *program, items []T, columns ...column[T]) error {
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	fmt.Fprintln(w, strings.Join(titles, "\t"))
	for _, item := range items {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(c.value(item))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// cell makes text fit for one cell of a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// fields prints "name: value" lines, names padded to one width; empty values
// are left out.
func fields(w io.Writer, pairs ...string) {
	tw := tabwriter.NewWriter(w, 0, 8, 1, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(tw, "%s:\t%s\n", pairs[i], cell(pairs[i+1]))
		}
	}
	_ = tw.Flush()
}

// when prints a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// size prints a number of bytes for people.
func size(n uint64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/step, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if v < step {
			break
		}
		v, unit = v/step, next
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// duration prints a duration that may be unset.
func duration(d orchestrator.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}

// tally prints how many there are of each, in the order of their names.
func tally[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
		}
	}
	return strings.Join(parts, ", ")
}

// revision prints how often a record was edited; 0 for records that are older
// than the count.
func revision(n uint64) string { return number(n) }

// number prints a number of which 0 means that there is none.
func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
