package orchestrator

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// put writes a record and brings its index entries and counters from those of
// old, which is nil for a new record, to its own.
func put[T any, P stored[T]](t *txn, old, rec P) error {
	b, err := t.encode(rec)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", rec.table(), rec.id(), err)
	}
	t.scratch.key = append(t.scratch.key[:0], rec.id()...)
	if err := t.Put(rec.table(), t.scratch.key, b); err != nil {
		return err
	}
	var before []entry
	t.scratch.keys.room = t.scratch.keys.room[:0]
	if old != nil {
		before = entriesIn(&t.scratch.keys, t.scratch.before[:0], old)
		t.scratch.before = before
		t.tally(old.counters(), -1)
	}
	after := entriesIn(&t.scratch.keys, t.scratch.after[:0], rec)
	t.scratch.after = after
	t.tally(rec.counters(), 1)
	t.touch(rec.table(), rec.id())
	t.regrant(rec)
	if old == nil {
		t.made(rec.table(), rec.id())
	}
	return reindex(t, before, after)
}

// scratch is what a transaction needs for one event and uses again for the next: a
// store keeps copies, and nothing that a step returns is kept beyond it.
type scratch struct {
	record, key   []byte
	keys          keyMaker
	before, after []entry
	// Of step.
	step    stepRoom
	jobs    map[string]*JobView
	found   executionRecord
	alone   []Tracked
	records map[string]*executionRecord
	// made are records for what a step changes, of which so many are lent.
	made []*executionRecord
	lent int
}

// execution is find for an execution, until the next one is looked for.
func (s *scratch) execution(r Reader, id string) (*executionRecord, error) {
	s.key = append(s.key[:0], id...)
	b, err := r.Get(tableExecutions, s.key)
	if err != nil || b == nil {
		return nil, err
	}
	s.found = executionRecord{}
	if err := read(b, &s.found); err != nil {
		return nil, fmt.Errorf("record %s %q does not decode: %w", tableExecutions, id, err)
	}
	return &s.found, nil
}

// lend returns an empty record, which is the caller's until the step is kept.
func (s *scratch) lend() *executionRecord {
	if s.lent == len(s.made) {
		s.made = append(s.made, new(executionRecord))
	}
	rec := s.made[s.lent]
	s.lent++
	*rec = executionRecord{}
	return rec
}

// encode writes a record, by its own codec if it has one.
func (t *txn) encode(rec any) ([]byte, error) {
	q, ok := rec.(interface{ appendTo([]byte) ([]byte, error) })
	if !ok {
		return json.Marshal(rec)
	}
	b, err := q.appendTo(t.scratch.record[:0])
	if err == nil {
		t.scratch.record = b
	}
	return b, err
}

// entriesIn adds a record's entries to a list, with their keys in the room given
// if the record knows how to.
func entriesIn[T any, P stored[T]](k *keyMaker, es []entry, rec P) []entry {
	if in, ok := any(rec).(interface {
		entriesIn(*keyMaker, []entry) []entry
	}); ok {
		return in.entriesIn(k, es)
	}
	return append(es, rec.entries()...)
}

// remove deletes a record, its index entries and its part in the counters.
func remove[T any, P stored[T]](t *txn, rec P) error {
	if err := t.Delete(rec.table(), keyOf(rec.id())); err != nil {
		return err
	}
	t.tally(rec.counters(), -1)
	t.touch(rec.table(), rec.id())
	t.regrant(rec)
	return reindex(t, rec.entries(), nil)
}

// reindex deletes what only before has and writes what only after has.
func reindex(w Writer, before, after []entry) error {
	if len(before) > fewEntries && len(after) > fewEntries {
		before, after = withoutNames(before, entryNames(after)), withoutNames(after, entryNames(before))
	}
	for i := range before {
		if e := &before[i]; !e.among(after) {
			if err := w.Delete(e.table, e.key); err != nil {
				return err
			}
		}
	}
	for i := range after {
		if e := &after[i]; !e.among(before) {
			if err := w.Put(e.table, e.key, e.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// fewEntries is up to how many entries comparing each with each beats a map.
const fewEntries = 16

func (e *entry) among(entries []entry) bool {
	for i := range entries {
		if o := &entries[i]; o.table == e.table && bytes.Equal(o.key, e.key) {
			return true
		}
	}
	return false
}

func withoutNames(entries []entry, names map[string]bool) []entry {
	var rest []entry
	for _, e := range entries {
		if !names[entryName(e)] {
			rest = append(rest, e)
		}
	}
	return rest
}

func entryNames(entries []entry) map[string]bool {
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[entryName(e)] = true
	}
	return names
}

func entryName(e entry) string { return string(e.table) + "\x00" + string(e.key) }
