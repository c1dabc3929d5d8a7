package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

// registryStart is when the first thing of a registry happened.
var registryStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// RegistryDevice is device number i of a registry: four types, sixteen sites,
// eight versions, every third online, the last a hundred of a label of their own.
func RegistryDevice(i, of int) Device {
	d := Device{
		ID: fmt.Sprintf("dev-%06d", i), Type: fmt.Sprintf("type-%d", i%4), Online: i%3 == 0,
		Versions: map[string]string{"application": fmt.Sprintf("1.%d.0", i/4%8), "bootloader": "3.1"},
		Labels:   map[string]string{"site": fmt.Sprintf("site-%d", i/4%16), "serial": fmt.Sprintf("SN%08X", uint32(i)*2654435761)},
		Module:   "esp32-4.2", Dialect: "ayla", MaxChunk: 4096, Revision: 1, CreatedAt: registryStart,
		LastSeen: registryStart.Add(time.Duration(i) * time.Second), HelloAt: registryStart.Add(time.Duration(i) * time.Second),
	}
	if i >= of-100 {
		d.Labels["ring"] = "canary"
	}
	return d
}

// BuildRegistry fills an empty store through put, in big transactions: devices
// as RegistryDevice says, 40 groups (every fourth dynamic, the second of a tenth of
// the devices, the others of 100), 50 images, and jobs, the first of which has an
// execution on every device and the others on 100.
func BuildRegistry(ctx context.Context, store Store, devices, jobs int) error {
	b := &registryBuilder{ctx: ctx, store: store, devices: devices}
	for _, step := range []func() error{b.catalog, b.fleet, b.groups, func() error { return b.jobs(jobs) }} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type registryBuilder struct {
	ctx     context.Context
	store   Store
	devices int
}

// batches calls fn for 0 to n-1, 5,000 to a transaction.
func (b *registryBuilder) batches(n int, fn func(t *txn, i int) error) error {
	const batch = 5000
	for from := 0; from < n; from += batch {
		if err := b.store.Update(b.ctx, func(w Writer) error {
			t := newTxn(b.ctx, w, registryStart.Add(time.Duration(from)*time.Second))
			for i := from; i < min(from+batch, n); i++ {
				if err := fn(t, i); err != nil {
					return err
				}
			}
			return t.flush()
		}); err != nil {
			return err
		}
	}
	return nil
}

func (b *registryBuilder) catalog() error {
	return b.batches(50, func(t *txn, i int) error {
		if i < 2 {
			id := []string{"application", "bootloader"}[i]
			if err := put(t, nil, &ImageType{ID: id, Name: id, Revision: 1, CreatedAt: t.now}); err != nil {
				return err
			}
		}
		if i < 4 {
			id := fmt.Sprintf("type-%d", i)
			if err := put(t, nil, &DeviceType{ID: id, Name: id, Dialect: "ayla", Revision: 1, CreatedAt: t.now, ImageTypes: []EnabledImageType{
				{ID: "application", VersionProperty: "app_version"}, {ID: "bootloader", VersionProperty: "boot_version"},
			}}); err != nil {
				return err
			}
		}
		m := &Image{
			ID: fmt.Sprintf("img-%03d", i), ImageType: "application", DeviceTypes: []string{"type-0", "type-1", "type-2", "type-3"},
			Version: fmt.Sprintf("1.%d.0", i), Size: 1 << 16, SHA256: fmt.Sprintf("%064x", i), Format: "binary",
			Tags: []string{fmt.Sprintf("tag-%d", i%5)}, Revision: 1, CreatedAt: t.now.Add(time.Duration(i) * time.Second),
		}
		if err := put(t, nil, m); err != nil {
			return err
		}
		return t.audit("create", KindImage, m.ID, nil, m)
	})
}

func (b *registryBuilder) fleet() error {
	return b.batches(b.devices, func(t *txn, i int) error {
		d := RegistryDevice(i, b.devices)
		if err := put(t, nil, &d); err != nil {
			return err
		}
		t.actor = Actor{Name: fmt.Sprintf("user-%d", i%7), Kind: ActorUser}
		return t.audit("create", KindDevice, d.ID, nil, &d)
	})
}

func (b *registryBuilder) groups() error {
	return b.batches(40, func(t *txn, i int) error {
		g := &Group{ID: fmt.Sprintf("group-%02d", i), Devices: []string{}, Revision: 1, CreatedAt: t.now}
		if i%4 == 0 {
			g.Query = fmt.Sprintf(`type == "type-%d" and version.application < "1.5"`, i/4%4)
			return put(t, nil, g)
		}
		members := min(100, b.devices)
		if i == 1 {
			members = b.devices / 10
		}
		for n := range members {
			g.Devices = append(g.Devices, RegistryDevice(n*b.devices/members, b.devices).ID)
		}
		return put(t, nil, g)
	})
}

func (b *registryBuilder) jobs(jobs int) error {
	for j := range jobs {
		p := &progressRecord{Name: fmt.Sprintf("job-%03d", j), State: JobRunning, Counts: map[schemas.State]int{}, Causes: map[schemas.Cause]int{}, Seq: uint64(j + 1)}
		targets := min(100, b.devices)
		if j == 0 {
			targets = b.devices
		}
		if err := b.batches(targets, func(t *txn, i int) error { return t.registryExecution(p, i, targets) }); err != nil {
			return err
		}
		if err := b.batches(1, func(t *txn, _ int) error { return t.registryJob(p, targets) }); err != nil {
			return err
		}
	}
	return nil
}

// registryExecution makes one in ten executions fail and one in ten wait.
func (t *txn) registryExecution(p *progressRecord, i, of int) error {
	rev, err := t.nextRev()
	if err != nil {
		return err
	}
	e := &executionRecord{Rev: rev, Tracked: Tracked{Order: p.Seq<<32 | uint64(i), SHA256: fmt.Sprintf("%064x", 1), Execution: Execution{
		ID: fmt.Sprintf("ex-%s-%06d", p.Name, i), Job: p.Name, Device: RegistryDevice(i, of).ID, Image: "img-001", ImageType: "application",
		Version: "1.1.0", Attempt: 1, State: schemas.StateSucceeded, BytesDone: 1 << 16, BytesTotal: 1 << 16, CreatedAt: t.now, EndedAt: t.now,
	}}}
	switch i % 10 {
	case 0:
		e.State, e.Cause = schemas.StateFailed, schemas.CauseSerial
		p.Causes[e.Cause]++
	case 1:
		e.State, e.BytesDone, e.EndedAt = schemas.StateQueued, 0, time.Time{}
	}
	p.Added++
	if err := t.count(p, "", e.State); err != nil {
		return err
	}
	return put(t, nil, e)
}

func (t *txn) registryJob(p *progressRecord, targets int) error {
	job := &jobRecord{Name: p.Name, Image: "img-001", Targets: targets, Revision: 1, CreatedAt: t.now.Add(time.Duration(p.Seq) * time.Minute)}
	p.StartedAt = job.CreatedAt
	if err := t.bump(p); err != nil {
		return err
	}
	if err := writeNumber(t, metaJobSeq, p.Seq); err != nil {
		return err
	}
	if err := put(t, nil, job); err != nil {
		return err
	}
	return put(t, nil, &progressRecord{
		Name: p.Name, State: p.State, Counts: maps.Clone(p.Counts), Causes: maps.Clone(p.Causes), Rev: p.Rev, Seq: p.Seq, Added: p.Added, StartedAt: p.StartedAt,
	})
}

// ParseDevice is parseDevice.
func ParseDevice(rec []byte, into *Device) error { return parseDevice("x", rec, into) }

// Work does the next parts of a job's work, and says whether more is left.
func Work(ctx context.Context, s *Service, job string) (bool, error) {
	return s.work(ctx, job, promptParts)
}

// ParseGroup is Group.parse.
func ParseGroup(rec []byte, g *Group) bool { return g.parse(rec) }

// Recover is what Run does before anything else.
func Recover(ctx context.Context, s *Service) error { return s.recover(ctx) }

// PublishNext brings the offer topic of the next device that is marked up to date
// with the store, as a worker of Run does, and names it; "" if none is marked.
// Repeated says that what stands there was only to be said again.
func PublishNext(ctx context.Context, s *Service) (device string, repeated bool, err error) {
	device, repeated, _ = s.outbox.pop(time.Now())
	if device == "" {
		return "", false, nil
	}
	cleared, err := s.publishOffer(ctx, device)
	if cleared != nil {
		_, err = s.commit(ctx, cleared.note)
	}
	s.outbox.done(device, err != nil)
	return device, repeated, err
}

// ExecutionRecord is executionRecord.
type ExecutionRecord = executionRecord

// FieldTables are the records with a table of fields.
func FieldTables() map[string]FieldTable {
	return map[string]FieldTable{
		"execution": tableOf(executionFields),
		"device":    tableOf(deviceFields),
		"attempt":   tableOf(attemptFields),
		"progress":  tableOf(progressFields),
		"task":      tableOf(taskFields),
		"wave":      tableOf(waveFields),
		"lane":      tableOf(laneFields),
		"group":     tableOf(groupCountFields),
		"outcomes":  tableOf(outcomesFields),
	}
}

// FieldTable is a table of fields: a record without values, and what the table
// writes of any.
type FieldTable struct {
	Empty  any
	Names  []string
	Append func(rec any) ([]byte, error)
	Parse  func(b []byte) (any, bool)
}

func tableOf[T any](fields []field[T]) FieldTable {
	t := FieldTable{
		Empty:  new(T),
		Append: func(rec any) ([]byte, error) { return appendFields(make([]byte, 0, 1024), fields, rec.(*T)) },
		Parse: func(b []byte) (any, bool) {
			rec, p := new(T), recordParser{rest: string(b)}
			return rec, parseFields(&p, fields, rec) && p.rest == ""
		},
	}
	for _, f := range fields {
		t.Names = append(t.Names, f.key[1:len(f.key)-2])
	}
	return t
}

// PackExecution packs an execution; false if that cannot be done.
func PackExecution(rec *ExecutionRecord) (b []byte, ok bool) {
	b, rec.packed = executionPacking.append([]byte{packedMark}, rec)
	return b, rec.packed
}

// FeedFrom reads the names of what changed, with their revisions, in parts of at most
// so many, and how many parts that took.
func FeedFrom(ctx context.Context, s *Service, since uint64, f FeedFilter, most int) (names []string, parts int, err error) {
	err = s.store.View(ctx, func(r Reader) error {
		for more := true; more; parts++ {
			changes, m, err := changesSince(r, since, f, most)
			if err != nil {
				return err
			}
			for _, c := range changes {
				since = c.rev
				names = append(names, fmt.Sprintf("%d %q", c.rev, c.name))
			}
			more = m
		}
		return nil
	})
	return names, parts, err
}

// StoreAsJSON puts an execution in the store as those before the packed ones are.
func StoreAsJSON(w Writer, id string) error {
	rec, err := need[executionRecord](w, "execution", id)
	if err != nil {
		return err
	}
	b, err := json.Marshal(rec)
	return errors.Join(err, w.Put(tableExecutions, keyOf(id), b), w.Put(indexEvents, revKey(rec.Rev), keyOf(KindExecution, id)))
}

// StoredExecution is how an execution is stored.
func StoredExecution(rec *ExecutionRecord) ([]byte, error) { return rec.appendTo(nil) }

// ReadExecution reads an execution as it is stored.
func ReadExecution(b []byte) (*ExecutionRecord, bool) {
	rec := new(executionRecord)
	return rec, rec.parse(b)
}

// PackedNames are the names of the fields of both packings in the order of their tags.
func PackedNames() (execution, attempt []string) {
	return namesOf(executionPacking), namesOf(attemptPacking)
}

func namesOf[T any](p *packing[T]) []string {
	var names []string
	for _, f := range p.byTag[1:] {
		names = append(names, f.key[1:len(f.key)-2])
	}
	return names
}

// EditExecution changes an execution as it is stored.
func EditExecution(w Writer, id string, change func(*ExecutionRecord)) error {
	rec, err := need[executionRecord](w, "execution", id)
	if err != nil {
		return err
	}
	change(rec)
	b, err := rec.appendTo(nil)
	if err != nil {
		return err
	}
	return w.Put(tableExecutions, keyOf(id), b)
}

// ExecutionIDs are the ids of n executions of one transaction.
func ExecutionIDs(at time.Time, n int) []string {
	t := newTxn(context.Background(), nil, at)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = t.executionID()
	}
	return ids
}

// GoesOn says whether a report concerns its execution alone.
func GoesOn(t *Tracked, s *schemas.Status) bool { return accepted(s.State) && goesOn(t, s) }

// TakeTogether sets how many reports one transaction takes at most.
func TakeTogether(s *Service, most int) { s.together.most = most }

// Lasting is lasting.
func Lasting(ev Event) bool { return lasting(ev) }

// TurnOf is turnOf.
func TurnOf(rec []byte) (state schemas.State, priority int, ok bool) { return turnOf(rec) }

// Transitions is how many executions entered a state with a cause.
func (m *Metrics) Transitions(state, cause string) float64 {
	return testutil.ToFloat64(m.transitions.WithLabelValues(state, cause))
}

// HellosHeard is how many devices are remembered whose hello has led to no offer yet.
func (s *Service) HellosHeard() int {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return len(s.outbox.heard)
}

// RemembersDevice says whether the service keeps something in a session's memory.
func (s *Service) RemembersDevice(m Memory) bool {
	s.streamer.mu.Lock()
	defer s.streamer.mu.Unlock()
	return *m.Memory() != nil
}
