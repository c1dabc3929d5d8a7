// Package yamlfile reads YAML files that people write: configurations and
// rollouts. JSON is YAML, too. It owns what is said about mistakes in them: each
// with its line, its field and what to do, as many at once as can be found.
//
// What a mistake can cost is bounded: a file is at most MaxSize bytes long, and
// what such files have no use for (anchors, aliases, tags, deep nesting) is
// refused before it is parsed. The package knows nothing of what is in a file,
// starts no goroutine, keeps no state and opens nothing but the file of ReadFile.
package yamlfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// MaxSize is how long a file may be in bytes: some ten times what the ports of a
// bridge need.
const MaxSize = 64 << 10

// Problem is one mistake in a file.
type Problem struct {
	// Line and Column begin at 1; 0 is the file as a whole.
	Line, Column int
	// Field is what is wrong, such as ports[2].baud; empty for no field.
	Field string
	// Text goes on after the field and says what to do.
	Text string
}

// String is the problem in one line, without its place.
func (p Problem) String() string {
	if p.Field == "" || strings.HasPrefix(p.Text, ":") {
		return p.Field + p.Text
	}
	return p.Field + " " + p.Text
}

// Error is what is wrong with the file called Name, at least one Problem.
type Error struct {
	Name     string
	Problems []Problem
}

// Error has a line for each problem, NAME:LINE:COLUMN: and what is wrong.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Name)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
		b.WriteString(p.String())
	}
	return b.String()
}

// Sort puts the problems in the order of the file.
func (e *Error) Sort() {
	slices.SortStableFunc(e.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Bare takes the operation and the name off an error: the name stands before it.
func Bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
