package orchestrator

import (
	"cmp"
	"slices"

	"davit/schemas"
)

// fromLayout1 gives the records of a store from before the feed what later ones are
// kept with: revisions that are numbered over all jobs, histories of jobs, counters,
// and all indexes. Records themselves are read by the same rules since then.
func fromLayout1(t *txn) error {
	if err := renumber(t); err != nil {
		return err
	}
	for _, table := range append(indexTables(), tableCounters) {
		if err := empty(t, table); err != nil {
			return err
		}
	}
	for _, indexed := range []func(*txn) error{
		indexAgain[ImageType], indexAgain[DeviceType], indexAgain[Image], indexAgain[Device], indexAgain[Group],
		indexAgain[jobRecord], indexAgain[progressRecord], indexAgain[executionRecord],
	} {
		if err := indexed(t); err != nil {
			return err
		}
	}
	return nil
}

// renumber gives jobs and executions the revisions of one counter, a job's own behind
// those of its executions, and jobs their histories. It holds all executions in memory.
func renumber(t *txn) error {
	byJob := map[string][]*executionRecord{}
	if err := eachRecord(t, func(e *executionRecord) error {
		byJob[e.Job] = append(byJob[e.Job], e)
		return nil
	}); err != nil {
		return err
	}
	return eachRecord(t, func(p *progressRecord) error {
		all := byJob[p.Name]
		slices.SortFunc(all, func(a, b *executionRecord) int { return cmp.Compare(a.Rev, b.Rev) })
		h := &historyRecord{Job: p.Name, Start: p.StartedAt, Step: Duration(historyStep)}
		for _, e := range all {
			rev, err := t.nextRev()
			if err != nil {
				return err
			}
			e.Rev = rev
			if e.State.Final() {
				h.add(e.EndedAt, e.State == schemas.StateSucceeded)
			}
			if err := rewrite(t, e); err != nil {
				return err
			}
		}
		if err := t.bump(p); err != nil {
			return err
		}
		if len(h.Succeeded) > 0 {
			if err := rewrite(t, h); err != nil {
				return err
			}
		}
		return rewrite(t, p)
	})
}

// rewrite writes a record and leaves its index entries and counters to indexAgain.
func rewrite[T any, P stored[T]](t *txn, rec P) error {
	b, err := t.encode(rec)
	if err != nil {
		return err
	}
	return t.Put(rec.table(), keyOf(rec.id()), b)
}

// indexAgain writes the index entries of all records of a table, counts them, and
// gives those that the feed tells of, and that do not carry it themselves, a revision.
func indexAgain[T any, P stored[T]](t *txn) error {
	return eachRecord(t, func(rec P) error {
		t.tally(rec.counters(), 1)
		t.touch(rec.table(), rec.id())
		return reindex(t, nil, rec.entries())
	})
}

// empty deletes all of a table.
func empty(t *txn, table Table) error {
	var keys [][]byte
	if err := t.Scan(table, nil, nil, func(k, _ []byte) bool {
		keys = append(keys, k)
		return true
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.Delete(table, k); err != nil {
			return err
		}
	}
	return nil
}
