package orchestrator

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"davit/schemas"
)

// entry is one entry of a secondary index.
type entry struct {
	table      Table
	key, value []byte
}

// stored is a record: it knows its place and every index entry that has to
// exist because of it. put, remove and Check all go by entries, so an index
// cannot be forgotten in one of them.
type stored[T any] interface {
	*T
	table() Table
	id() string
	entries() []entry
	// counters are the keys of the numbers that count the record (counters.go).
	counters() []string
}

// jobRecord is the part of a job that never changes.
type jobRecord struct {
	Name             string    `json:"name"`
	Image            string    `json:"image"`
	Devices          []string  `json:"devices,omitempty"`
	Groups           []string  `json:"groups,omitempty"`
	Query            string    `json:"query,omitempty"`
	Description      string    `json:"description,omitempty"`
	Targets          int       `json:"targets"`
	IgnoreValidation bool      `json:"ignore_validation,omitempty"`
	Rollout          *Rollout  `json:"rollout,omitempty"`
	Revision         uint64    `json:"revision"`
	CreatedAt        time.Time `json:"created_at"`
}

// progressRecord is the part of a job that changes with its executions. It is
// small, because every change of an execution rewrites it.
type progressRecord struct {
	Name   string                `json:"name"`
	State  JobState              `json:"state"`
	Work   []jobTask             `json:"work,omitempty"`
	Counts map[schemas.State]int `json:"counts"`
	// Causes counts the executions that ended without success.
	Causes map[schemas.Cause]int `json:"causes,omitempty"`
	// Rev is the revision (feed.go) of the last change of the job or of one of
	// its executions; it is higher than those of all its executions.
	Rev uint64 `json:"rev"`
	// Seq numbers the jobs by their start, Added counts its executions.
	Seq         uint64    `json:"seq,omitempty"`
	Added       uint64    `json:"added,omitempty"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"`

	// Reason is why it was paused or canceled, if no person did it.
	Reason string `json:"reason,omitempty"`
	// Ended says that its schedule's end has passed.
	Ended bool `json:"ended,omitempty"`
	// Wave is the last one that was released, Waves what is counted of each.
	Wave  int          `json:"wave,omitempty"`
	Waves []waveRecord `json:"waves,omitempty"`
	// Lanes, Groups and NextOffer are what its pace goes by (joblanes.go).
	Lanes     []lane       `json:"lanes,omitempty"`
	Groups    []groupCount `json:"groups,omitempty"`
	NextOffer time.Time    `json:"next_offer,omitzero"`
	// Outcomes are counted for stop rules, Forgiven what they leave out.
	Outcomes outcomes `json:"outcomes,omitzero"`
	Forgiven outcomes `json:"forgiven,omitzero"`
	// Retries counts those of the retry policy, Joined the devices that came to
	// a continuous job after its creation.
	Retries int `json:"retries,omitempty"`
	Joined  int `json:"joined,omitempty"`
	// Continuous: devices that come to the target later join it.
	Continuous bool `json:"continuous,omitempty"`
	// Waits is what it waits for, WakeAt when it is looked at again.
	Waits      waits     `json:"waits,omitempty"`
	WaitsUntil time.Time `json:"waits_until,omitzero"`
	WakeAt     time.Time `json:"wake_at,omitzero"`
	// Starved: it has ready devices and waits for a place of the service's limit.
	Starved bool `json:"starved,omitempty"`
	// RollBack is the image that its devices are to get back, by RollBackJob.
	RollBack    string `json:"roll_back,omitempty"`
	RollBackJob string `json:"roll_back_job,omitempty"`
	// Expiring: it is being deleted (retention.go); its executions are gone in part.
	Expiring bool `json:"expiring,omitempty"`
}

// unfinished counts the executions that have not ended.
func (p *progressRecord) unfinished() int {
	n := 0
	for s, c := range p.Counts {
		if !s.Final() {
			n += c
		}
	}
	return n
}

// executionRecord is an execution with the facts that the rules need.
type executionRecord struct {
	Tracked
	// Rev is the revision (feed.go) of the last change.
	Rev uint64 `json:"rev"`
	// packed says that it is stored so (recordpack.go). One that is JSON stands in
	// indexEvents besides, as all did before there were packed ones.
	packed bool
}

func (t *ImageType) table() Table       { return tableImageTypes }
func (t *ImageType) id() string         { return t.ID }
func (t *ImageType) entries() []entry   { return nil }
func (t *ImageType) counters() []string { return nil }

func (t *DeviceType) table() Table       { return tableDeviceTypes }
func (t *DeviceType) id() string         { return t.ID }
func (t *DeviceType) counters() []string { return nil }
func (t *DeviceType) entries() []entry {
	es := make([]entry, 0, len(t.ImageTypes))
	for _, it := range t.ImageTypes {
		es = append(es, entry{indexDeviceTypeByImageType, keyOf(it.ID, t.ID), keyOf(t.ID)})
	}
	return es
}

func (m *Image) table() Table { return tableImages }
func (m *Image) id() string   { return m.ID }
func (m *Image) counters() []string {
	if !m.ArchivedAt.IsZero() {
		return nil
	}
	return []string{counterOf(countImages, m.ImageType)}
}
func (m *Image) entries() []entry {
	place := append(newestFirst(m.CreatedAt), m.ID...)
	under := func(id string) []byte { return append(prefixOf(id), place...) }
	all := indexImageByTime
	if !m.ArchivedAt.IsZero() {
		all = indexImageArchived
	}
	es := []entry{
		{all, place, keyOf(m.ID)},
		{indexImageByType, under(m.ImageType), keyOf(m.ID)},
		{indexImageByBlob, keyOf(m.SHA256, m.ID), keyOf(m.ID)},
	}
	if m.Manifest != nil {
		es = append(es, entry{indexImageByBlob, keyOf(m.Manifest.SHA256, m.ID), keyOf(m.ID)})
	}
	for _, dt := range m.DeviceTypes {
		es = append(es, entry{indexImageByDeviceType, under(dt), keyOf(m.ID)})
	}
	for _, tag := range m.Tags {
		es = append(es, entry{indexImageByTag, under(tag), keyOf(m.ID)})
	}
	return es
}

func (d *Device) table() Table { return tableDevices }
func (d *Device) id() string   { return d.ID }
func (d *Device) counters() []string {
	cs := []string{counterOf(countDevices, d.Type)}
	if d.Online {
		cs = append(cs, counterOf(countOnline))
	}
	if d.quarantined() {
		cs = append(cs, counterOf(countQuarantined))
	}
	for imageType, version := range d.Versions {
		cs = append(cs, counterOf(countVersions, imageType, version))
	}
	for name, value := range d.Labels {
		cs = append(cs, counterOf(countLabels, name, value))
	}
	return cs
}
func (d *Device) entries() []entry {
	es := []entry{{indexDeviceByType, keyOf(d.Type, d.ID), keyOf(d.ID)}}
	if d.Online {
		es = append(es, entry{indexDeviceOnline, keyOf(d.ID), keyOf(d.ID)})
	}
	if d.quarantined() {
		es = append(es, entry{indexDeviceQuarantined, keyOf(d.ID), keyOf(d.ID)})
	}
	for name, value := range d.Labels {
		es = append(es, entry{indexDeviceByLabel, keyOf(name+"="+value, d.ID), keyOf(d.ID)})
	}
	for imageType, version := range d.Versions {
		es = append(es, entry{indexDeviceByVersion, keyOf(imageType, version, d.ID), keyOf(d.ID)})
	}
	return es
}

func (g *Group) table() Table       { return tableGroups }
func (g *Group) id() string         { return g.ID }
func (g *Group) counters() []string { return nil }
func (g *Group) entries() []entry {
	es := make([]entry, 0, 2*len(g.Devices)+1)
	for _, d := range g.Devices {
		es = append(es, entry{indexGroupByDevice, keyOf(d, g.ID), keyOf(g.ID)}, entry{indexDeviceByGroup, keyOf(g.ID, d), keyOf(d)})
	}
	if g.Query != "" {
		es = append(es, entry{indexGroupDynamic, keyOf(g.ID), keyOf(g.ID)})
	}
	return es
}

func (j *jobRecord) table() Table       { return tableJobs }
func (j *jobRecord) id() string         { return j.Name }
func (j *jobRecord) counters() []string { return nil }
func (j *jobRecord) entries() []entry {
	es := []entry{{indexJobByTime, append(newestFirst(j.CreatedAt), j.Name...), keyOf(j.Name)}}
	for _, image := range j.images() {
		es = append(es, entry{indexJobByImage, append(append(prefixOf(image), newestFirst(j.CreatedAt)...), j.Name...), keyOf(j.Name)})
	}
	for _, g := range j.groups() {
		es = append(es, entry{indexJobByGroup, keyOf(g, j.Name), keyOf(j.Name)})
	}
	return es
}

// images are all that the job may deploy.
func (j *jobRecord) images() []string {
	all := []string{j.Image}
	if r := j.Rollout; r != nil {
		all = append(all, r.Via...)
		for _, rule := range r.Stop {
			if rule.RollBack != "" {
				all = append(all, rule.RollBack)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// groups are all that the job needs: those that it targets and those of its
// waves and paces.
func (j *jobRecord) groups() []string {
	all := slices.Clone(j.Groups)
	if r := j.Rollout; r != nil {
		for _, w := range r.Waves {
			if w.Group != "" {
				all = append(all, w.Group)
			}
		}
		if r.Pace != nil {
			for _, g := range r.Pace.Groups {
				all = append(all, g.Group)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *progressRecord) table() Table { return tableProgress }
func (p *progressRecord) id() string   { return p.Name }
func (p *progressRecord) counters() []string {
	return []string{counterOf(countJobs, string(p.State))}
}
func (p *progressRecord) entries() []entry {
	es := []entry{{indexEvents, revKey(p.Rev), keyOf(KindJob, p.Name)}}
	if len(p.Work) > 0 {
		es = append(es, entry{indexJobWork, keyOf(p.Name), keyOf(p.Name)})
	}
	if !p.WakeAt.IsZero() {
		es = append(es, timerEntry(p.WakeAt, timerJob, p.Name))
	}
	if p.catches() {
		es = append(es, entry{indexJobContinuous, keyOf(p.Name), keyOf(p.Name)})
	}
	if p.Starved {
		es = append(es, entry{indexJobStarved, keyOf(p.Name), keyOf(p.Name)})
	}
	if p.ended() {
		es = append(es, p.endedEntry())
	}
	return es
}

// ended says whether the job has come to its end; only retrying it changes that.
func (p *progressRecord) ended() bool {
	return (p.State == JobCompleted || p.State == JobCanceled) && !p.CompletedAt.IsZero()
}

func (p *progressRecord) endedEntry() entry {
	return entry{indexJobEnded, append(revKey(uint64(p.CompletedAt.UnixNano())), p.Name...), keyOf(p.Name)}
}

func (e *executionRecord) table() Table       { return tableExecutions }
func (e *executionRecord) id() string         { return e.ID }
func (e *executionRecord) counters() []string { return nil }
func (e *executionRecord) entries() []entry   { return e.entriesIn(&keyMaker{}, nil) }
func (e *executionRecord) entriesIn(k *keyMaker, es []entry) []entry {
	id := k.ids(e.ID)
	es = append(es,
		entry{indexExecByJob, k.ids(e.Job, e.Device), id},
		entry{indexExecByDevice, k.numbered(e.Device, ^e.Order), id},
		entry{indexExecByState, k.ids(e.Job, string(e.State), e.Device), id},
		entry{indexExecChanges, k.numbered(e.Job, e.Rev), id},
	)
	if !e.packed {
		es = append(es, entry{indexEvents, k.number(e.Rev), k.ids(KindExecution, e.ID)})
	}
	if !e.State.Final() {
		es = append(es, entry{indexExecOpen, k.numbered(e.Device, e.Order), id})
	}
	if e.failed() {
		es = append(es, e.failedEntry(k, id))
	}
	if e.Wave > 0 {
		es = append(es, entry{indexExecByWave, k.inWave(e.Job, e.Wave, e.Device), id})
	}
	if !e.DueAt.IsZero() {
		es = append(es, timerEntry(e.DueAt, timerExecution, e.ID))
	}
	return es
}

// failed says whether the execution has ended without success by itself; only trying it
// again changes that.
func (e *executionRecord) failed() bool {
	return e.State.Final() && e.State != schemas.StateSucceeded && e.State != schemas.StateCanceled
}

func (e *executionRecord) failedEntry(k *keyMaker, id []byte) entry {
	return entry{indexExecFailed, k.newest(e.EndedAt, e.ID), id}
}

// waveKey is the beginning of the keys of a job's wave.
func waveKey(job string, wave int) []byte {
	return binary.BigEndian.AppendUint16(prefixOf(job), uint16(wave))
}

// The kinds of timer.
const (
	timerExecution = 'e'
	timerJob       = 'j'
)

// timerEntry is the entry of a record that has to be looked at at a time.
func timerEntry(at time.Time, kind byte, id string) entry {
	return entry{indexTimers, append(append(timerKey(at), kind), id...), keyOf(id)}
}

// timerKey is where in indexTimers the entries of a time begin.
func timerKey(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))
}

// decode reads a record strictly: an unknown field or trailing data means that
// something else wrote it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}

// read is decode for a record, by its own codec if it has one.
func read[T any](b []byte, rec *T) error {
	if q, ok := any(rec).(interface{ parse([]byte) bool }); ok {
		if q.parse(b) {
			return nil
		}
		*rec = *new(T)
	}
	return decode(b, rec)
}

// find returns the record with the id, or nil if there is none.
func find[T any, P stored[T]](r Reader, id string) (P, error) {
	p := P(new(T))
	b, err := r.Get(p.table(), keyOf(id))
	if err != nil || b == nil {
		return nil, err
	}
	if err := read(b, (*T)(p)); err != nil {
		return nil, fmt.Errorf("record %s %q does not decode: %w", p.table(), id, err)
	}
	return p, nil
}

// need is find for a record that has to be there; what names it for people.
func need[T any, P stored[T]](r Reader, what, id string) (P, error) {
	p, err := find[T, P](r, id)
	if err == nil && p == nil {
		err = fmt.Errorf("%s %q: %w", what, id, ErrNotFound)
	}
	return p, err
}

// anyUnder returns the key of the first record that an index holds for id, or "".
func anyUnder(r Reader, index Table, id string) (string, error) {
	var found string
	err := r.Scan(index, prefixOf(id), nil, func(_, key []byte) bool {
		found = string(key)
		return false
	})
	return found, err
}

// totals are the executions of all jobs by state, in the order of
// schemas.States, as eight bytes each, MSB first.
type totals map[schemas.State]uint64

func readTotals(r Reader) (totals, error) {
	t := totals{}
	b, err := r.Get(tableMeta, keyOf(metaTotals))
	if err != nil || b == nil {
		return t, err
	}
	states := schemas.States()
	if len(b) != 8*len(states) {
		return nil, fmt.Errorf("record %s %q has %d bytes, want %d", tableMeta, metaTotals, len(b), 8*len(states))
	}
	for i, s := range states {
		t[s] = binary.BigEndian.Uint64(b[8*i:])
	}
	return t, nil
}

func writeTotals(w Writer, t totals) error {
	states := schemas.States()
	b := make([]byte, 0, 8*len(states))
	for _, s := range states {
		b = binary.BigEndian.AppendUint64(b, t[s])
	}
	return w.Put(tableMeta, keyOf(metaTotals), b)
}

// readNumber returns a number of tableMeta, 0 if it was never written.
func readNumber(r Reader, name string) (uint64, error) {
	b, err := r.Get(tableMeta, keyOf(name))
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("record %s %q has %d bytes, want 8", tableMeta, name, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func writeNumber(w Writer, name string, n uint64) error {
	return w.Put(tableMeta, keyOf(name), binary.BigEndian.AppendUint64(nil, n))
}

// nextJobSeq takes the next job start number.
func nextJobSeq(w Writer) (uint64, error) {
	n, err := readNumber(w, metaJobSeq)
	if err != nil {
		return 0, err
	}
	return n + 1, writeNumber(w, metaJobSeq, n+1)
}

// confirmed are the versions that the rules go by: those that the module
// vouches for.
func (d *Device) confirmed() map[string]string {
	versions := maps.Clone(d.Versions)
	for _, imageType := range d.Unconfirmed {
		delete(versions, imageType)
	}
	return versions
}

// reporting returns the device with the versions that are confirmed now. Those
// that no longer are stay to be seen, marked as such.
func (d *Device) reporting(confirmed map[string]string) Device {
	changed := *d
	changed.Versions = maps.Clone(d.Versions)
	if changed.Versions == nil {
		changed.Versions = map[string]string{}
	}
	maps.Copy(changed.Versions, confirmed)
	changed.Unconfirmed = nil
	for imageType := range changed.Versions {
		if _, ok := confirmed[imageType]; !ok {
			changed.Unconfirmed = append(changed.Unconfirmed, imageType)
		}
	}
	slices.Sort(changed.Unconfirmed)
	return changed
}
