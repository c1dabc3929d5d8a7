// Package bridgefile reads the configuration file of a bridge: YAML, with the
// names of the flags of davit bridge (docs/bridge.yaml). It owns the format and
// what is said about mistakes in it: each with its line, its field and what to
// do, as many at once as can be found.
//
// What a mistake can cost is bounded: a file is at most MaxSize bytes long, and
// what a configuration has no use for (anchors, aliases, tags, deep nesting)
// is refused before it is parsed. The package starts no goroutine, keeps no state and
// opens nothing but the file; which dialects there are it is told.
package bridgefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davit/bridge"
)

// MaxSize is how long a file may be in bytes: some ten times what MaxPorts ports
// need.
const MaxSize = 64 << 10

// File is what a file says. What it does not say is zero.
type File struct {
	// Broker, Username, PasswordFile, CA, Data, Metrics and Record are as the
	// flags of davit bridge; names of files are absolute, or relative as the name of
	// the configuration file is.
	Broker, Username, PasswordFile, CA, Data, Metrics, Record string
	OfferInterval, Defer                                      time.Duration
	DrainTimeout                                              *time.Duration // nil for none said
	Ports                                                     []bridge.PortConfig
}

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

// Load reads the file called name. dialects are those that ports can be
// configured for. The error is an *Error.
func Load(name string, dialects []string) (File, error) {
	b, err := read(name)
	if err != nil {
		return File{}, &Error{Name: name, Problems: []Problem{{Text: err.Error()}}}
	}
	return Parse(name, b, dialects)
}

// read returns the content of a regular file. What is not one could not be read
// once more at a reload, or might never end.
func read(name string) ([]byte, error) {
	switch info, err := os.Stat(name); {
	case err != nil:
		return nil, fmt.Errorf("the configuration file cannot be read: %w", bare(err))
	case info.IsDir():
		return nil, errors.New("is a directory; name the configuration file in it")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file; it has to be one, as a reload reads it again")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", bare(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1)) // Parse says that it is too long
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", bare(err))
	}
	return b, nil
}

// bare takes the operation and the name off an error: the name stands before it.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Parse reads the content of the file called name, by whose folder relative names
// in it go. dialects are those that ports can be configured for. The error is
// an *Error.
func Parse(name string, content []byte, dialects []string) (File, error) {
	r := &reader{dir: filepath.Dir(name), dialects: dialects}
	f := File{}
	if root := r.syntax(content); root != nil {
		r.file(root, &f)
	}
	if len(r.problems) > 0 {
		return File{}, &Error{Name: name, Problems: r.sorted()}
	}
	return f, nil
}
