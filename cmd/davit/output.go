package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

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

// list prints items: one line of JSON each, or a table with a heading.
func list[T any](p *program, items []T, columns ...column[T]) error {
	if p.json {
		for _, item := range items {
			if err := p.printJSON(item); err != nil {
				return err
			}
		}
		return nil
	}
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
		if r < ' ' || r == 0x7f {
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
