package orchestrator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The feed tells what changed. Every change of a record takes the next number
// of one counter, its revision, and indexes hold for every record the revision of
// its last change, and nothing older: whoever asks for what is newer than a revision
// gets each record that changed since once, as it stands now. So the feed needs no
// more room than the records, can be resumed from any revision without a gap, and is
// part of the transactions that it tells of. Executions stand in indexExecChanges by
// job, everything else in indexEvents; a job's own revision is higher than those of
// its executions.

// The kinds of record that the feed and the audit log speak of.
const (
	KindImageType  = "image_type"
	KindDeviceType = "device_type"
	KindImage      = "image"
	KindDevice     = "device"
	KindGroup      = "group"
	KindJob        = "job"
	KindExecution  = "execution"
	KindClaim      = "claim"
	KindBridge     = "bridge"  // audit log only
	KindUser       = "user"    // audit log only
	KindToken      = "token"   // audit log only
	KindUpload     = "upload"  // audit log and idempotency keys only
	KindStorage    = "storage" // audit log only
)

// FeedKinds are the kinds that the feed tells of.
func FeedKinds() []string {
	return []string{KindImageType, KindDeviceType, KindImage, KindDevice, KindGroup, KindJob, KindExecution, KindClaim}
}

// FeedEvent is one record that changed.
type FeedEvent struct {
	Rev     uint64 `json:"rev" doc:"The revision of the change; grows from event to event"`
	Kind    string `json:"kind" doc:"image_type, device_type, image, device, group, job, execution or claim"`
	ID      string `json:"id" doc:"The record's id; a job's name"`
	Deleted bool   `json:"deleted,omitempty" doc:"The record is gone"`
	Record  any    `json:"record,omitempty" doc:"The record as it stands now"`
}

// FeedFilter restricts the feed; empty fields do not.
type FeedFilter struct {
	Kinds  []string
	Job    string // only that job and its executions
	Device string // only that device and its executions
}

// Feed is a part of the feed.
type Feed struct {
	Events []FeedEvent
	// Rev is where the next call goes on, whether or not anything was found.
	Rev uint64
}

// anyJob is the name under which those wait who want to hear of every change;
// no job can have it.
const anyJob = ""

// feedScan is how many changes one look at the feed passes over at most.
const feedScan = 5000

// revisions takes numbers for one transaction; the counter is written once.
type revisions struct {
	loaded, used bool
	last         uint64
}

func revKey(rev uint64) []byte { return binary.BigEndian.AppendUint64(nil, rev) }

// newestFirst is a key that sorts later times first.
func newestFirst(at time.Time) []byte { return revKey(^uint64(at.UnixNano())) }

func (t *txn) nextRev() (uint64, error) {
	if !t.rev.loaded {
		n, err := readNumber(t, metaRev)
		if err != nil {
			return 0, err
		}
		t.rev.last, t.rev.loaded = n, true
	}
	t.rev.last++
	t.rev.used = true
	return t.rev.last, nil
}

// bump gives a job's progress the next revision.
func (t *txn) bump(p *progressRecord) (err error) {
	p.Rev, err = t.nextRev()
	return err
}

// kindOf is the kind under which the feed tells of a table's records, or "".
// Jobs and executions are not among them: they carry their revision themselves.
func kindOf(table Table) string {
	switch table {
	case tableImageTypes:
		return KindImageType
	case tableDeviceTypes:
		return KindDeviceType
	case tableImages:
		return KindImage
	case tableDevices:
		return KindDevice
	case tableGroups:
		return KindGroup
	case tableClaims:
		return KindClaim
	}
	return ""
}

// touch notes that a record changed.
func (t *txn) touch(table Table, id string) {
	if kind := kindOf(table); kind != "" {
		t.touched[string(keyOf(kind, id))] = true
	}
}

func (t *txn) flushRevisions() error {
	for _, name := range slices.Sorted(maps.Keys(t.touched)) {
		if err := t.moveEvent([]byte(name)); err != nil {
			return err
		}
	}
	clear(t.touched)
	if !t.rev.used {
		return nil
	}
	t.out.events = true
	return writeNumber(t, metaRev, t.rev.last)
}

func (t *txn) moveEvent(name []byte) error {
	at, err := t.Get(tableEventAt, name)
	if err != nil {
		return err
	}
	if at != nil {
		if err := t.Delete(indexEvents, at); err != nil {
			return err
		}
	}
	rev, err := t.nextRev()
	if err != nil {
		return err
	}
	return errors.Join(t.Put(tableEventAt, name, revKey(rev)), t.Put(indexEvents, revKey(rev), name))
}

// LastRev returns the revision of the last change of anything.
func (s *Service) LastRev(ctx context.Context) (uint64, error) {
	var rev uint64
	err := s.store.View(ctx, func(r Reader) (err error) {
		rev, err = readNumber(r, metaRev)
		return err
	})
	return rev, err
}

// Events returns what changed after revision since, 0 being before everything,
// at most limit events. If nothing did that the filter lets through, it waits for
// a change, at most the time given. ErrInvalid for a revision of the future, as
// one of another data folder would be.
func (s *Service) Events(ctx context.Context, since uint64, f FeedFilter, limit int, wait time.Duration) (Feed, error) {
	for _, k := range f.Kinds {
		if !slices.Contains(FeedKinds(), k) {
			return Feed{}, invalid("kind %q is not one of %s", k, strings.Join(FeedKinds(), ", "))
		}
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		changed, done := s.watch.wait(anyJob) // before reading, so that no change is missed
		feed, more, err := s.eventsNow(ctx, since, f, Page{Limit: limit}.limit())
		since = feed.Rev
		if err != nil || len(feed.Events) > 0 || wait <= 0 && !more {
			done()
			return feed, err
		}
		if more {
			done()
			continue
		}
		select {
		case <-changed:
			done()
		case <-timeout.C:
			done()
			return feed, nil
		case <-ctx.Done():
			done()
			return feed, ctx.Err()
		}
	}
}

// eventsNow looks at a bounded part of the feed and says whether there is more.
func (s *Service) eventsNow(ctx context.Context, since uint64, f FeedFilter, limit int) (feed Feed, more bool, err error) {
	err = s.store.View(ctx, func(r Reader) error {
		feed, more = Feed{Events: []FeedEvent{}, Rev: since}, false
		last, err := readNumber(r, metaRev)
		if err != nil {
			return err
		}
		if since > last {
			return invalid("revision %d lies in the future: the last change here is %d", since, last)
		}
		var changes []change
		if changes, more, err = changesSince(r, since, f, feedScan); err != nil {
			return err
		}
		for _, c := range changes {
			if len(feed.Events) == limit {
				more = true
				return nil
			}
			ev, ok, err := eventOf(r, c.rev, c.name, f)
			if err != nil {
				return err
			}
			feed.Rev = c.rev
			if ok {
				feed.Events = append(feed.Events, ev)
			}
		}
		if !more {
			feed.Rev = last
		}
		return nil
	})
	return feed, more, err
}

// change is the last change of a record.
type change struct {
	rev  uint64
	name []byte // kind, id
}

// changesSince returns at most so many of the next changes, in their order, and
// whether there may be more.
func changesSince(r Reader, since uint64, f FeedFilter, most int) (changes []change, more bool, err error) {
	if err := r.Scan(indexEvents, nil, revKey(since), func(k, v []byte) bool {
		if len(changes) == most {
			more = true
			return false
		}
		changes = append(changes, change{numberOf(k), v})
		return true
	}); err != nil {
		return nil, false, err
	}
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, KindExecution) {
		return changes, more, nil
	}
	m := merger{changes: changes, most: most, last: math.MaxUint64}
	if more {
		m.last = changes[len(changes)-1].rev
	}
	jobs := m.jobs()
	if f.Job != "" {
		jobs = []string{f.Job}
	} else if more { // the job of a change may stand further on
		if jobs, err = jobsWithChanges(r); err != nil {
			return nil, false, err
		}
	}
	for _, job := range jobs {
		if err := m.add(r, job, since); err != nil {
			return nil, false, err
		}
	}
	m.cut()
	return m.changes, more || m.more, nil
}

// merger puts the changes of jobs' executions among others.
type merger struct {
	changes []change
	most    int
	last    uint64 // later ones are left out
	more    bool   // some were
}

// jobs are those that changed themselves, as any does whose execution changes.
func (m *merger) jobs() (names []string) {
	for _, c := range m.changes {
		if kind, name, _ := bytes.Cut(c.name, []byte{0}); string(kind) == KindJob {
			names = append(names, string(name))
		}
	}
	return names
}

// add adds the changes of a job's executions.
func (m *merger) add(r Reader, job string, since uint64) error {
	var from [8]byte
	binary.BigEndian.PutUint64(from[:], since)
	n := 0
	err := r.Scan(indexExecChanges, prefixOf(job), append(prefixOf(job), from[:]...), func(k, id []byte) bool {
		rev := numberOf(k)
		if rev > m.last || n == m.most {
			m.more = true
			return false
		}
		n++
		m.changes = append(m.changes, change{rev, keyOf(KindExecution, string(id))})
		return true
	})
	if len(m.changes) > 2*m.most {
		m.cut()
	}
	return err
}

// cut leaves the first changes in their order.
func (m *merger) cut() {
	slices.SortFunc(m.changes, func(a, b change) int { return cmp.Compare(a.rev, b.rev) })
	// Executions of older stores stand in both indexes.
	m.changes = slices.CompactFunc(m.changes, func(a, b change) bool { return a.rev == b.rev })
	if len(m.changes) > m.most {
		m.changes, m.more = m.changes[:m.most], true
		m.last = m.changes[m.most-1].rev
	}
}

// jobsWithChanges returns the jobs that have executions: O(jobs).
func jobsWithChanges(r Reader) (names []string, err error) {
	var after []byte
	for more := true; more && err == nil; {
		more = false
		err = r.Scan(indexExecChanges, nil, after, func(k, _ []byte) bool {
			job := k[:len(k)-9] // NUL and the revision
			names = append(names, string(job))
			after, more = append(job, 1), true // sorts behind all of the job's
			return false
		})
	}
	return names, err
}

// eventOf reads the record that changed; false if the filter keeps it out.
func eventOf(r Reader, rev uint64, name []byte, f FeedFilter) (FeedEvent, bool, error) {
	kind, id, _ := bytes.Cut(name, []byte{0})
	ev := FeedEvent{Rev: rev, Kind: string(kind), ID: string(id)}
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, ev.Kind) {
		return ev, false, nil
	}
	scoped := f.Job != "" || f.Device != ""
	switch ev.Kind {
	case KindJob:
		if f.Device != "" || f.Job != "" && f.Job != ev.ID {
			return ev, false, nil
		}
		job, _, err := readJob(r, ev.ID)
		ev.Record = job
		return ev, err == nil, err
	case KindExecution:
		rec, err := need[executionRecord](r, "execution", ev.ID)
		if err != nil {
			return ev, false, err
		}
		ev.Record = rec.Execution
		return ev, (f.Job == "" || f.Job == rec.Job) && (f.Device == "" || f.Device == rec.Device), nil
	case KindDevice:
		if f.Job != "" || f.Device != "" && f.Device != ev.ID {
			return ev, false, nil
		}
	default:
		if scoped {
			return ev, false, nil
		}
	}
	b, err := r.Get(tableOfKind(ev.Kind), id)
	if err != nil {
		return ev, false, err
	}
	if b == nil {
		ev.Deleted = true
		return ev, true, nil
	}
	ev.Record = json.RawMessage(b)
	return ev, true, nil
}

func tableOfKind(kind string) Table {
	for _, table := range []Table{tableImageTypes, tableDeviceTypes, tableImages, tableDevices, tableGroups, tableClaims} {
		if kindOf(table) == kind {
			return table
		}
	}
	panic(fmt.Sprintf("orchestrator: the feed does not know kind %q", kind))
}
