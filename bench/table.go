package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// table is a table of the document.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// markdown writes the table; the first column is text, the others are figures.
func (t *table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(t.head, " | "), strings.Repeat("---:|", len(t.head)-1))
	for _, r := range t.rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
}

// figure prints a number with three digits that count.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return grouped(int64(math.Round(v)))
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// grouped prints an integer with commas between thousands.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	from := 0
	if n < 0 {
		from = 1
	}
	for i := len(s) - 3; i > from; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// String is the median with the smallest and largest value.
func (s spread) String() string {
	return fmt.Sprintf("%s (%s-%s)", figure(s.median), figure(s.min), figure(s.max))
}

// ratioText is a ratio's spread in bold, and whether it is what was wanted.
func ratioText(s spread, most float64) string {
	return fmt.Sprintf("**%.2f** (%.2f-%.2f), wanted %.2g: %s", s.median, s.min, s.max, most, verdict(s.median <= most))
}

func verdict(reached bool) string {
	if reached {
		return "reached"
	}
	return "not reached"
}

// Markers around what this program writes; other text in the document stays.
func beginMark(name string) string { return "<!-- go run ./bench writes this part: " + name + " -->" }
func endMark(name string) string   { return "<!-- end of " + name + " -->" }

// replacePart puts text between the markers of a part, which are added at the end of
// the document if they are not there.
func replacePart(doc []byte, name, text string) ([]byte, error) {
	begin, end := []byte(beginMark(name)+"\n"), []byte(endMark(name)+"\n")
	part := append(append(bytes.Clone(begin), strings.TrimSpace(text)+"\n"...), end...)
	from := bytes.Index(doc, begin)
	if from < 0 {
		return append(append(bytes.TrimRight(doc, "\n"), "\n\n"...), part...), nil
	}
	length := bytes.Index(doc[from:], end)
	if length < 0 {
		return nil, fmt.Errorf("the document has %q without %q", beginMark(name), endMark(name))
	}
	return append(append(bytes.Clone(doc[:from]), part...), doc[from+length+len(end):]...), nil
}
