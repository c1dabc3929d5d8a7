package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// suite is what measures share.
type suite struct {
	dir    string // for files that nobody needs afterwards
	binary string // davit
	runs   int
	quick  bool // a look at whether everything works; the figures mean nothing
	window int  // chunks that a module awaits at most; 0: what the contract allows
	out    io.Writer
	ends   []func() error
}

// measure is one part of the suite, which writes one section of the document.
type measure struct {
	name, title string
	run         func(context.Context, *suite) (section, error)
}

// section is what a measure has found.
type section struct {
	// text says what was done and how to read the tables; it may be empty.
	text   string
	tables []*table
}

// measures are all parts of the suite, in the order in which they are run. The document has each
// where its marks are.
func measures() []measure {
	return []measure{
		{"chunks", "Processor time of a chunk", measureChunks},
		{"images", "1,000 modules fetch an image", measureImages},
		{"distance", "One module far away", measureDistance},
		{"fleet", "A fleet that is idle, and comes at once", measureFleet},
		{"neighbours", "Bad neighbours", measureNeighbours},
		{"profile", "Where the processor time goes", measureProfile},
	}
}

// choose returns the named measures, or all.
func choose(names []string) ([]measure, error) {
	all := measures()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, m := range all {
		known = append(known, m.name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("there is no measure %q; there are %q", n, known)
		}
	}
	return slices.DeleteFunc(all, func(m measure) bool { return !slices.Contains(names, m.name) }), nil
}

func (s *suite) log(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// onEnd has something done when the measure is over; the last comes first.
func (s *suite) onEnd(f func() error) { s.ends = append(s.ends, f) }

// perform runs a measure and ends what it has started.
func (s *suite) perform(ctx context.Context, m measure) (found section, err error) {
	defer func() {
		for _, end := range slices.Backward(s.ends) {
			err = errors.Join(err, end())
		}
		s.ends = nil
	}()
	s.log("%s: %s\n", m.name, m.title)
	return m.run(ctx, s)
}

// offered starts davit with devices that are offered an image.
func (s *suite) offered(ctx context.Context, devices int, image []byte, flags ...string) (*davit, error) {
	d, err := startDavit(s.binary, s.dir, flags...)
	if err != nil {
		return nil, err
	}
	s.onEnd(func() error { return d.stop() })
	if err := d.populate(ctx, devices); err != nil {
		return nil, err
	}
	return d, d.offer(ctx, image)
}
