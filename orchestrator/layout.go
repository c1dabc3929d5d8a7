package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Layout is the layout in which this program keeps its records:
//
//	1  from before the feed: no counters, revisions for each job, indexes by id only
//	2  with the feed and counters
//	3  numbered in the store; jobs that have ended are found by when that was
//	4  executions that failed are found by when that was
//
// Stores of layout 1 and 2 do not say their number; it is seen by what they hold.
// Whatever an older program would read wrongly, or a newer one would miss, takes the
// next number and a step in migrations.
const Layout = 4

// metaLayout is the key of the layoutRecord in tableMeta.
const metaLayout = "layout"

// layoutRecord is what a store says of its layout.
type layoutRecord struct {
	Layout int `json:"layout"`
	// Program is the version of the program that brought the store to the layout, and
	// At when it did.
	Program string    `json:"program"`
	At      time.Time `json:"at"`
}

// LayoutError says that a store has another layout than this program's.
type LayoutError struct {
	// Have is the store's layout, Program what wrote it (empty for layouts before 3).
	Have    int
	Program string
}

// Error implements error.
func (e *LayoutError) Error() string {
	if e.Have > Layout {
		return fmt.Sprintf("the records have layout %d and were written by davit %s; this davit understands layouts up to %d: install davit %s or a newer one, or restore a backup from before the upgrade",
			e.Have, e.Program, Layout, e.Program)
	}
	return fmt.Sprintf("the records have layout %d, and this davit keeps layout %d: davit serve migrates them when it starts", e.Have, Layout)
}

// CheckLayout returns a *LayoutError unless the store has this program's layout, or is
// empty.
func CheckLayout(r Reader) error {
	have, err := readLayout(r)
	if err == nil && have.Layout != Layout {
		err = &LayoutError{have.Layout, have.Program}
	}
	return err
}

// readLayout finds out the layout of a store. An empty one has this program's.
func readLayout(r Reader) (rec layoutRecord, err error) {
	b, err := r.Get(tableMeta, keyOf(metaLayout))
	if err != nil {
		return rec, err
	}
	if b != nil {
		// Not strictly: a later program may say more.
		if err := json.Unmarshal(b, &rec); err != nil || rec.Layout < 3 {
			return rec, fmt.Errorf("the record of the layout is %q, which no davit writes: the store is damaged; restore a backup", b)
		}
		return rec, nil
	}
	rev, err := readNumber(r, metaRev)
	if err != nil {
		return rec, err
	}
	if rev > 0 {
		return layoutRecord{Layout: 2}, nil
	}
	for _, table := range recordTables() {
		if any, err := anyUnderPrefix(r, table, nil); err != nil || any {
			return layoutRecord{Layout: 1}, err
		}
	}
	return layoutRecord{Layout: Layout}, nil
}

// recordTables are those that a store of layout 1 may have records in.
func recordTables() []Table {
	return []Table{tableImageTypes, tableDeviceTypes, tableImages, tableDevices, tableGroups, tableJobs, tableProgress, tableExecutions}
}

// Tables are all tables of this package.
func Tables() []Table {
	return slices.Concat(recordTables(), indexTables(), []Table{
		tableMeta, tableTargets, tableRetries, tableOffers, tableHistory, tableUploads, tableAudit, tableCounters, tableEventAt, tableVersions,
		tableIdempotency, tableClaims, tableClaimHashes, tableClaimed, indexExecReady,
	})
}

// Migrate brings the records of a store to this program's layout, in one transaction:
// a crash leaves the old layout or the new one. program is the version of this program,
// which the store remembers. It returns the layout that it found, which is Layout if
// there was nothing to do, and a *LayoutError for one that is newer.
func Migrate(ctx context.Context, s Store, program string, now time.Time) (from int, err error) {
	current := false
	if err := s.View(ctx, func(r Reader) error {
		b, err := r.Get(tableMeta, keyOf(metaLayout))
		if err != nil || b == nil {
			return err
		}
		have, err := readLayout(r)
		if err == nil && have.Layout > Layout {
			err = &LayoutError{have.Layout, have.Program}
		}
		current = err == nil && have.Layout == Layout
		return err
	}); err != nil || current {
		return Layout, err
	}
	err = s.Update(ctx, func(w Writer) error {
		have, err := readLayout(w)
		if err != nil {
			return err
		}
		from = have.Layout
		t := newTxn(ctx, w, now)
		for n := from; n < Layout; n++ {
			if err := migrations()[n](t); err != nil {
				return fmt.Errorf("from layout %d: %w", n, err)
			}
		}
		if err := t.flushRest(); err != nil {
			return err
		}
		b, err := json.Marshal(layoutRecord{Layout, program, t.now})
		if err != nil {
			return err
		}
		return w.Put(tableMeta, keyOf(metaLayout), b)
	})
	return from, err
}

// ProbeStore commits the layout as it stands: an error says that nothing can be committed.
func ProbeStore(ctx context.Context, s Store) error {
	return s.Update(ctx, func(w Writer) error {
		b, err := w.Get(tableMeta, keyOf(metaLayout))
		if err != nil || b == nil {
			return err
		}
		return w.Put(tableMeta, keyOf(metaLayout), b)
	})
}

// migrations are the steps from each layout to the next one.
func migrations() map[int]func(*txn) error {
	return map[int]func(*txn) error{1: fromLayout1, 2: fromLayout2, 3: fromLayout3}
}

// eachRecord calls fn for each record of a table, which fn may write: O(records) of
// memory for their keys.
func eachRecord[T any, P stored[T]](t *txn, fn func(P) error) error {
	var keys [][]byte
	table := P(new(T)).table()
	if err := t.Scan(table, nil, nil, func(k, _ []byte) bool {
		keys = append(keys, k)
		return true
	}); err != nil {
		return err
	}
	for _, k := range keys {
		b, err := t.Get(table, k)
		if err != nil {
			return err
		}
		rec := P(new(T))
		if err := read(b, (*T)(rec)); err != nil {
			return fmt.Errorf("record %s %q does not decode: %w", table, k, err)
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

// fromLayout2 adds the index of the jobs that have ended.
func fromLayout2(t *txn) error {
	return eachRecord(t, func(p *progressRecord) error {
		if !p.ended() {
			return nil
		}
		e := p.endedEntry()
		return t.Put(e.table, e.key, e.value)
	})
}

// fromLayout3 adds the index of the executions that failed: of all executions those alone
// are held in memory.
func fromLayout3(t *txn) error {
	var entries []entry
	var failed error
	if err := t.Scan(tableExecutions, nil, nil, func(key, v []byte) bool {
		var e executionRecord
		if err := read(v, &e); err != nil {
			failed = fmt.Errorf("record %s %q does not decode: %w", tableExecutions, key, err)
			return false
		}
		if e.failed() {
			entries = append(entries, e.failedEntry(&keyMaker{}, keyOf(e.ID)))
		}
		return true
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	for _, e := range entries {
		if err := t.Put(e.table, e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}
