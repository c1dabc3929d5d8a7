package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"davit/schemas"
)

const (
	// namedInError is how many devices an error spells out.
	namedInError = 10
	// namedInJob is how many devices a job's record keeps of those that were named.
	namedInJob = 1000
)

func (n NewJob) validate() error {
	if err := checkID("image", n.Image); err != nil {
		return err
	}
	if err := checkText("description", n.Description, maxDescription, true); err != nil {
		return err
	}
	if err := distinct("groups", n.Groups, MaxPageLimit); err != nil {
		return err
	}
	if err := distinct("devices", n.Devices, MaxJobDevices); err != nil {
		return err
	}
	return n.validateRollout()
}

// distinct checks a list of ids that may not repeat; the error names the place.
func distinct(field string, ids []string, limit int) error {
	if len(ids) > limit {
		return invalidField(field, "%d entries, at most %d are allowed", len(ids), limit)
	}
	seen := make(map[string]bool, len(ids))
	for i, id := range ids {
		if err := checkID(fmt.Sprintf("%s/%d", field, i), id); err != nil {
			return err
		}
		if seen[id] {
			return invalidField(fmt.Sprintf("%s/%d", field, i), "%q is named twice", id)
		}
		seen[id] = true
	}
	return nil
}

// target is a device that a job is for.
type target struct{ id, deviceType string }

// targets gathers the devices of a job: 48 bytes and the id for each.
type targets struct {
	list    []target
	types   map[string]string // each type once, so that the list shares its bytes
	compact int               // where the list is rid of repeated devices
}

func (ts *targets) add(id, deviceType string) bool {
	shared, ok := ts.types[deviceType]
	if !ok {
		shared = strings.Clone(deviceType)
		ts.types[shared] = shared
	}
	ts.list = append(ts.list, target{strings.Clone(id), shared}) // it may be a part of the device's whole record
	if len(ts.list) >= ts.compact {
		ts.unite()
	}
	return len(ts.list) <= MaxJobDevices
}

// unite puts the list in order, each device once.
func (ts *targets) unite() {
	slices.SortFunc(ts.list, func(a, b target) int { return cmp.Compare(a.id, b.id) })
	ts.list = slices.CompactFunc(ts.list, func(a, b target) bool { return a.id == b.id })
	ts.compact = max(1<<16, 2*len(ts.list))
}

// gather finds the devices that a job would be for now, in order. see is called
// with each of them, more than once with those that the job names more than once.
func (s *Service) gather(ctx context.Context, r Reader, n NewJob, see func(*Device)) ([]target, error) {
	ts := &targets{types: map[string]string{}, compact: 1 << 16}
	add := func(d *Device) bool {
		see(d)
		return ts.add(d.ID, d.Type)
	}
	var d Device
	for i, id := range n.Devices {
		rec, err := r.Get(tableDevices, keyOf(id))
		if err != nil {
			return nil, err
		}
		if rec == nil {
			return nil, missing(fmt.Sprintf("devices/%d", i), "device", id)
		}
		if err := parseDevice(id, rec, &d); err != nil {
			return nil, err
		}
		add(&d)
	}
	for i, id := range n.Groups {
		g, err := find[Group](r, id)
		if err != nil {
			return nil, err
		}
		if g == nil {
			return nil, missing(fmt.Sprintf("groups/%d", i), "group", id)
		}
		if err := membersAt(ctx, r, g, s.now(), add); err != nil {
			return nil, err
		}
	}
	if n.Query != "" {
		if err := s.devicesByQuery(ctx, r, n.Query, add); err != nil {
			return nil, err
		}
	}
	if ts.unite(); len(ts.list) > MaxJobDevices {
		return nil, invalidField("devices", "the job is for more than %d devices, which is the most that is allowed", MaxJobDevices)
	}
	return ts.list, nil
}

// missing is the error for something that a field names and that is not there.
func missing(field, what, id string) error {
	return &FieldError{field, fmt.Errorf("%s %q: %w", what, id, ErrNotFound)}
}

// unfit returns the devices whose type the image does not fit, the first of
// them as people read them.
func unfit(image *Image, list []target) (first []string, all int) {
	for _, t := range list {
		if slices.Contains(image.DeviceTypes, t.deviceType) {
			continue
		}
		if all++; all <= namedInError {
			first = append(first, fmt.Sprintf("%s (%s)", t.id, t.deviceType))
		}
	}
	return first, all
}

// awaits says whether devices may come to the job's target that it does not have yet.
func (n *NewJob) awaits() bool {
	return n.Rollout != nil && n.Rollout.Continuous && (len(n.Groups) > 0 || n.Query != "")
}

// resolve returns a job's devices in order and checks that each of them takes
// the image, and its signature where the device's type requires one.
func (s *Service) resolve(ctx context.Context, r Reader, n NewJob) ([]target, error) {
	image, err := usableImage(r, n.Image)
	if err != nil {
		return nil, err
	}
	list, err := s.gather(ctx, r, n, func(*Device) {})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && !n.awaits() {
		return nil, invalidField("devices", "the job has no device; name devices, groups that have some, or a query that finds some")
	}
	first, all := unfit(image, list)
	if all == 0 {
		return list, s.checkSigned(ctx, r, n, list)
	}
	more := ""
	if all > len(first) {
		more = fmt.Sprintf(" and %d more", all-len(first))
	}
	id, _, _ := strings.Cut(first[0], " ")
	field := "devices"
	switch i := slices.Index(n.Devices, id); {
	case i >= 0:
		field = fmt.Sprintf("devices/%d", i)
	case len(n.Groups) > 0:
		field = "groups"
	case n.Query != "":
		field = "query"
	}
	return nil, invalidField(field, "image %q is for device types %s; it does not fit %s%s", n.Image,
		strings.Join(image.DeviceTypes, ", "), strings.Join(first, ", "), more)
}

// usableImage returns an image that a new job may use.
func usableImage(r Reader, id string) (*Image, error) {
	image, err := find[Image](r, id)
	switch {
	case err != nil:
		return nil, err
	case image == nil:
		return nil, missing("image", "image", id)
	case !image.ArchivedAt.IsZero():
		return nil, invalidField("image", "image %q is archived; restore it, or take another one", id)
	}
	return image, nil
}

// CreateJob makes a job for the devices that n names, those that its groups
// have now and those that its query finds now, and starts it if asked to, in the
// same transaction. ErrInvalid names devices whose type is not among the image's, and a
// type that requires signatures which an image of the job does not have.
func (s *Service) CreateJob(ctx context.Context, n NewJob) (Job, error) {
	if err := checkID("name", n.Name); err != nil {
		return Job{}, err
	}
	if err := n.validate(); err != nil {
		return Job{}, err
	}
	if err := s.refuseKnown(ctx, n.Name); err != nil {
		return Job{}, err
	}
	var list []member
	var waves []waveRecord
	if err := s.store.View(ctx, func(r Reader) error {
		targets, err := s.resolve(ctx, r, n)
		if err != nil {
			return err
		}
		list, waves, err = n.order(ctx, r, s.now(), targets)
		return err
	}); err != nil {
		return Job{}, err
	}
	var job Job
	_, err := s.commit(ctx, func(t *txn) (err error) {
		job, err = t.createJob(ctx, n, list, waves)
		return err
	})
	if err != nil || !n.Start {
		return job, err
	}
	return s.finishWork(ctx, n.Name)
}

// refuseKnown refuses a repeated request and a name that is taken before their
// devices are looked at; the transaction looks again.
func (s *Service) refuseKnown(ctx context.Context, name string) error {
	return s.store.View(ctx, func(r Reader) error {
		if err := newTxn(ctx, readOnly{r}, s.now()).once(ctx); err != nil {
			return err
		}
		return vacant[jobRecord](r, "job", name)
	})
}

// order puts a job's devices in the order in which they have their turn, and
// makes the rollout complete. Without a rollout that is the order of their ids.
func (n *NewJob) order(ctx context.Context, r Reader, now time.Time, list []target) ([]member, []waveRecord, error) {
	if n.Rollout == nil {
		ms := make([]member, len(list))
		for i, x := range list {
			ms[i].target = x
		}
		return ms, nil, nil
	}
	image, err := usableImage(r, n.Image)
	if err != nil {
		return nil, nil, err
	}
	named, err := n.Rollout.check(ctx, r, now, image, list)
	if err != nil {
		return nil, nil, err
	}
	own := *n.Rollout // the caller's is left alone
	own.Waves = slices.Clone(own.Waves)
	n.Rollout = &own
	if own.Seed == "" {
		own.Seed = n.Name
	}
	own.complete()
	ms, bounds, err := own.place(own.Seed, list, named)
	if err != nil {
		return nil, nil, err
	}
	waves := make([]waveRecord, len(own.Waves))
	for i := range waves {
		waves[i].Bound = bounds[i]
	}
	for i := range ms {
		if ms[i].wave > 0 {
			waves[ms[i].wave-1].Devices++
		}
	}
	return ms, waves, nil
}

func (t *txn) createJob(ctx context.Context, n NewJob, list []member, waves []waveRecord) (Job, error) {
	if err := t.once(ctx); err != nil {
		return Job{}, err
	}
	if err := vacant[jobRecord](t, "job", n.Name); err != nil {
		return Job{}, err
	}
	if _, err := usableImage(t, n.Image); err != nil {
		return Job{}, err
	}
	return t.newJob(n, list, waves)
}

// newJob writes the records of a job, and starts it if it is to be.
func (t *txn) newJob(n NewJob, list []member, waves []waveRecord) (Job, error) {
	rec := &jobRecord{
		Name: n.Name, Image: n.Image, Devices: n.Devices[:min(len(n.Devices), namedInJob)], Groups: n.Groups,
		Query: n.Query, Description: n.Description, Targets: len(list),
		IgnoreValidation: n.IgnoreValidation, Rollout: n.Rollout, Revision: 1, CreatedAt: t.now,
	}
	p := &progressRecord{Name: n.Name, State: JobDraft, Counts: map[schemas.State]int{}, Waves: waves}
	p.Continuous = n.Rollout != nil && n.Rollout.Continuous
	if n.Rollout != nil && n.Rollout.Pace != nil {
		p.Groups = make([]groupCount, len(n.Rollout.Pace.Groups))
	}
	if err := t.bump(p); err != nil {
		return Job{}, err
	}
	if err := t.putTargets(n.Name, list); err != nil {
		return Job{}, err
	}
	draft := jobOf(rec, p)
	if err := t.audit("create", KindJob, n.Name, nil, draft); err != nil {
		return Job{}, err
	}
	job := draft
	if n.Start {
		if err := t.begin(p); err != nil {
			return Job{}, err
		}
		t.out.waves += p.Wave
		job = jobOf(rec, p)
		if err := t.audit("start", KindJob, n.Name, draft, job); err != nil {
			return Job{}, err
		}
	}
	t.plans.forget(rec.Name) // of a job that had the name once
	return job, errors.Join(put(t, nil, rec), put(t, nil, p))
}

// putTargets writes the devices of a job in parts, those of each wave by
// themselves: job, wave (4 bytes) and number of the part (4 bytes).
func (t *txn) putTargets(job string, list []member) error {
	ids := make([]string, 0, t.batch)
	wave, n := 0, uint64(0)
	write := func() error {
		if len(ids) == 0 {
			return nil
		}
		err := putJSON(t, tableTargets, numbered(job, uint64(wave)<<32|n), ids)
		ids, n = ids[:0], n+1
		return err
	}
	for i := range list {
		if list[i].wave != wave || len(ids) == t.batch {
			if err := write(); err != nil {
				return err
			}
		}
		wave = list[i].wave
		ids = append(ids, list[i].id)
	}
	return write()
}

// waveOfPart is the wave that the key of a part of a job's targets names.
func waveOfPart(key []byte) int { return int(numberOf(key) >> 32) }

func putJSON(w Writer, table Table, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", table, key, err)
	}
	return w.Put(table, key, b)
}

// readOnly lets what only reads have a transaction on a snapshot.
type readOnly struct{ Reader }

var errReadOnly = errors.New("orchestrator: a snapshot cannot be written to")

func (readOnly) Put(Table, []byte, []byte) error { return errReadOnly }
func (readOnly) Delete(Table, []byte) error      { return errReadOnly }
