package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"davit/orchestrator/query"
)

const (
	// deviceScan is how many devices one page of a listing looks at; it is more
	// than the longest page has.
	deviceScan = 1500
	// queryChunk is how many devices are held in memory to be looked at by all
	// processors.
	queryChunk = 4096
	// maxSample is how many devices a preview shows at most.
	maxSample = 100
)

// compileQuery compiles a query that stands in the field named.
func compileQuery(field, text string) (*query.Query, error) {
	q, err := query.Compile(text)
	if err != nil {
		return nil, invalidField(field, "%w", err)
	}
	return q, nil
}

// deviceSearch finds devices: where they are read from and which of them count.
type deviceSearch struct {
	deviceSource
	filter  DeviceFilter
	queries []*query.Query
	group   string // the static group that they have to belong to
}

// newSearch compiles a filter and takes the source with the fewest devices. It
// costs one look at a counter for each condition that an index answers.
func newSearch(r Reader, f DeviceFilter) (*deviceSearch, error) {
	d := &deviceSearch{filter: f}
	d.filter.Text = strings.ToLower(f.Text)
	hints, err := d.conditions(r)
	if err != nil {
		return nil, err
	}
	return d, d.choose(r, hints)
}

// choose takes the source with the fewest devices; the members of a static group
// are found only where they are listed.
func (d *deviceSearch) choose(r Reader, hints []query.Hint) error {
	d.deviceSource = deviceSource{table: tableDevices, size: math.MaxInt}
	if d.group != "" {
		d.deviceSource = deviceSource{table: indexDeviceByGroup, prefix: string(prefixOf(d.group))}
	}
	ids := ""
	for _, h := range hints {
		if h.Kind == query.HintIDPrefix && len(h.Value) > len(ids) {
			ids = h.Value
		}
		src, ok, err := sourceOf(r, h)
		if err != nil {
			return err
		}
		if ok && src.size < d.size {
			d.deviceSource = src
		}
	}
	d.ids = ids
	return nil
}

// conditions checks the filter and returns what indexes can answer of it.
func (d *deviceSearch) conditions(r Reader) ([]query.Hint, error) {
	f := &d.filter
	var hints []query.Hint
	add := func(kind query.HintKind, name, value string) {
		if !strings.ContainsRune(name+value, 0) {
			hints = append(hints, query.Hint{Kind: kind, Name: name, Value: value})
		}
	}
	if f.Type != "" {
		add(query.HintType, "", f.Type)
	}
	if f.Online != nil && *f.Online {
		add(query.HintOnline, "", "")
	}
	if name, value, _ := strings.Cut(f.Label, "="); value != "" {
		add(query.HintLabel, name, value)
	}
	if f.Version != "" {
		imageType, version, ok := strings.Cut(f.Version, "=")
		if !ok {
			return nil, invalidField("version", "%q is not of the form IMAGE_TYPE=VERSION", f.Version)
		}
		if version != "" {
			add(query.HintVersion, imageType, version)
		}
	}
	if f.Query != "" {
		q, err := compileQuery("query", f.Query)
		if err != nil {
			return nil, err
		}
		d.queries = append(d.queries, q)
	}
	if f.Group != "" {
		if err := d.within(r, f.Group); err != nil {
			if errors.Is(err, ErrNotFound) {
				err = invalidField("group", "there is no group %q", f.Group)
			}
			return nil, err
		}
	}
	return append(hints, d.hints()...), nil
}

// within restricts the search to a group. The record of a static group, which may
// be long, is not read.
func (d *deviceSearch) within(r Reader, id string) error {
	first, err := anyUnder(r, indexDeviceByGroup, id)
	if err != nil {
		return err
	}
	if first != "" {
		d.group = id
		return nil
	}
	g, err := need[Group](r, "group", id)
	if err != nil {
		return err
	}
	if g.Query == "" {
		d.group = id // and it is empty
		return nil
	}
	return d.dynamic(g)
}

// dynamic restricts the search to what the query of a group finds.
func (d *deviceSearch) dynamic(g *Group) error {
	q, err := query.Compile(g.Query)
	if err != nil {
		return fmt.Errorf("query of group %q: %w", g.ID, err)
	}
	d.queries = append(d.queries, q)
	return nil
}

// matcher is a search as of one time, for use by one goroutine.
type matcher struct {
	*deviceSearch
	queries []*query.Matcher
	scratch Device
}

func (d *deviceSearch) at(now time.Time) *matcher {
	m := &matcher{deviceSearch: d}
	for _, q := range d.queries {
		m.queries = append(m.queries, q.At(now))
	}
	return m
}

// look decodes a record and returns the device if it is among those that are
// searched for, otherwise nil.
func (m *matcher) look(id string, rec []byte) (*Device, error) {
	dev := &m.scratch
	if err := parseDevice(id, rec, dev); err != nil {
		return nil, err
	}
	ok, err := m.match(dev)
	if err != nil || !ok {
		return nil, err
	}
	out := *dev
	// The maps are the caller's now.
	dev.Labels, dev.Versions = nil, nil
	return &out, nil
}

// match says whether a device is among those that are searched for.
func (m *matcher) match(dev *Device) (bool, error) {
	if !m.filter.matches(dev) {
		return false, nil
	}
	if len(m.queries) == 0 {
		return true, nil
	}
	view := query.Device{
		ID: dev.ID, Type: dev.Type, Online: dev.Online, Labels: dev.Labels, Versions: dev.Versions, Module: dev.Module,
		Dialect: dev.Dialect, Seen: dev.LastSeen, Hello: dev.HelloAt, Created: dev.CreatedAt,
	}
	for _, q := range m.queries {
		if ok, err := q.Match(&view); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// matches says whether a device meets the filter, but for group and query. Its
// text is in lower case.
func (f *DeviceFilter) matches(dev *Device) bool {
	if f.Type != "" && f.Type != dev.Type || f.Online != nil && *f.Online != dev.Online {
		return false
	}
	if f.Label != "" {
		name, want, valued := strings.Cut(f.Label, "=")
		if value, ok := dev.Labels[name]; !ok || valued && value != want {
			return false
		}
	}
	if f.Version != "" {
		imageType, version, _ := strings.Cut(f.Version, "=")
		if dev.Versions[imageType] != version {
			return false
		}
	}
	if f.Text == "" || strings.Contains(strings.ToLower(dev.ID), f.Text) {
		return true
	}
	for name, value := range dev.Labels {
		if strings.Contains(strings.ToLower(name), f.Text) || strings.Contains(strings.ToLower(value), f.Text) {
			return true
		}
	}
	return false
}

// record reads a device that a source names; nil if a list names one that does
// not exist.
func (d *deviceSearch) record(r Reader, id string) ([]byte, error) {
	rec, err := r.Get(tableDevices, keyOf(id))
	if err == nil && rec == nil && d.members == nil {
		err = fmt.Errorf("index %s names device %q, which does not exist; run davit check", d.table, id)
	}
	return rec, err
}

// page reads a page of a search. It looks at a bounded number of devices: the
// page may be short, or empty, and still have a next one.
func (d *deviceSearch) page(r Reader, now time.Time, p Page) (items []Device, next string, err error) {
	items = []Device{}
	m := d.at(now)
	looked, last := 0, ""
	serr := d.scan(r, p.After, func(id string, rec []byte) bool {
		if len(items) == p.limit() || looked == deviceScan {
			next = last
			return false
		}
		looked++
		last = id
		if rec == nil {
			if rec, err = d.record(r, id); err != nil || rec == nil {
				return err == nil
			}
		}
		var dev *Device
		if dev, err = m.look(id, rec); dev != nil {
			items = append(items, *dev)
		}
		return err == nil
	})
	return items, next, errors.Join(err, serr)
}

// all calls fn for every device that is found, in the order of their ids, until
// it returns false. Devices are decoded and looked at by all processors, a
// bounded number of them at a time.
func (d *deviceSearch) all(ctx context.Context, r Reader, now time.Time, fn func(*Device) bool) error {
	work := make([]found, 0, queryChunk)
	var failed error
	more := true
	finish := func() bool {
		if failed = ctx.Err(); failed == nil {
			failed = d.look(work, now)
		}
		for i := range work {
			if more = failed == nil && (work[i].dev == nil || fn(work[i].dev)); !more {
				break
			}
		}
		clear(work)
		work = work[:0]
		return more
	}
	err := d.scan(r, "", func(id string, rec []byte) bool {
		if rec == nil {
			if rec, failed = d.record(r, id); failed != nil || rec == nil {
				return failed == nil
			}
		}
		work = append(work, found{id: id, rec: rec})
		return len(work) < queryChunk || finish()
	})
	if err == nil && failed == nil && more {
		finish()
	}
	return errors.Join(err, failed)
}

// found is a device that a source has; dev is nil unless it matches.
type found struct {
	id  string
	rec []byte
	dev *Device
}

// look decodes devices and keeps those that match, on all processors.
func (d *deviceSearch) look(work []found, now time.Time) error {
	if len(work) == 0 {
		return nil
	}
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	n := 0
	for part := range slices.Chunk(work, (len(work)+workers-1)/workers) {
		failed := &errs[n]
		n++
		wg.Go(func() { *failed = d.lookAt(part, now) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *deviceSearch) lookAt(part []found, now time.Time) error {
	m := d.at(now)
	for i := range part {
		f := &part[i]
		var err error
		if f.dev, err = m.look(f.id, f.rec); err != nil {
			return err
		}
	}
	return nil
}

// plan says in a sentence how the search goes about it.
func (d *deviceSearch) plan() string {
	switch {
	case d.name != "" && d.ids != "":
		return fmt.Sprintf("Looked at the devices in %s whose id begins with %q.", d.name, d.ids)
	case d.name != "":
		return fmt.Sprintf("Looked at the %d devices in %s.", d.size, d.name)
	case d.ids != "":
		return fmt.Sprintf("Looked at the devices whose id begins with %q.", d.ids)
	}
	return "Looked at every device: no index answers a part of the query."
}

// devicesByQuery calls fn for every device that a query finds, in the order of
// their ids, until it returns false.
func (s *Service) devicesByQuery(ctx context.Context, r Reader, text string, fn func(*Device) bool) error {
	d, err := newSearch(r, DeviceFilter{Query: text})
	if err != nil {
		return err
	}
	return d.all(ctx, r, s.now(), fn)
}

// membersAt calls fn for every device that belongs to a group at a moment, in the
// order of their ids, until it returns false.
func membersAt(ctx context.Context, r Reader, g *Group, now time.Time, fn func(*Device) bool) error {
	d := &deviceSearch{}
	if g.Query == "" {
		d.group = g.ID
	} else if err := d.dynamic(g); err != nil {
		return err
	}
	if err := d.choose(r, d.hints()); err != nil {
		return err
	}
	return d.all(ctx, r, now, fn)
}

// hints are those of all queries.
func (d *deviceSearch) hints() []query.Hint {
	var hints []query.Hint
	for _, q := range d.queries {
		hints = append(hints, q.Hints()...)
	}
	return hints
}

// PreviewQuery says what a query finds now: it looks at every device that the
// best index leaves. sample is how many of them it shows.
func (s *Service) PreviewQuery(ctx context.Context, text string, sample int) (QueryPreview, error) {
	out := QueryPreview{}
	sample = min(max(sample, 0), maxSample)
	err := s.store.View(ctx, func(r Reader) error {
		out = QueryPreview{Sample: []Device{}}
		if text == "" {
			return invalidField("query", "the query is empty; write for example: online")
		}
		d, err := newSearch(r, DeviceFilter{Query: text})
		if err != nil {
			return err
		}
		out.Plan = d.plan()
		return d.all(ctx, r, s.now(), func(dev *Device) bool {
			out.Count++
			if dev.Online {
				out.Online++
			}
			if len(out.Sample) < sample {
				out.Sample = append(out.Sample, *dev)
			}
			return true
		})
	})
	return out, err
}

// GroupDevices lists the devices that belong to a group now, by id. It looks
// at a bounded number of devices: a page may be short, or empty, and still have a
// next one.
func (s *Service) GroupDevices(ctx context.Context, group string, p Page) ([]Device, string, error) {
	var items []Device
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		d := &deviceSearch{}
		if err := d.within(r, group); err != nil {
			return err
		}
		if err := d.choose(r, d.hints()); err != nil {
			return err
		}
		var err error
		items, next, err = d.page(r, s.now(), p)
		return err
	})
	return items, next, err
}
