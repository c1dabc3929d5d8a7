package orchestrator

import (
	"fmt"
	"maps"
	"slices"

	"davit/schemas"
)

// loadDevice reads a device's aggregate without its executions.
func loadDevice(r Reader, device string, dev *Device) (State, error) {
	st := State{Device: device}
	if dev != nil {
		st.Online, st.Quarantined = dev.Online, dev.quarantined()
		st.Versions = dev.confirmed()
		if err := nameVersions(r, dev.Type, st.Versions); err != nil {
			return st, err
		}
	}
	mark, err := r.Get(tableOffers, keyOf(device))
	st.Retained = mark != nil
	return st, err
}

// load reads a device's aggregate: its executions that have not ended, and
// those named, if they are the device's. dev may be nil for a device that does not
// exist (any more). The cost is O(executions that have not ended).
func load(r Reader, device string, dev *Device, also ...string) (State, map[string]*executionRecord, error) {
	open, err := openOf(r, device)
	if err != nil {
		return State{}, nil, err
	}
	return loadThese(r, device, dev, open, also)
}

// loadThese reads an aggregate of executions that have to be there, and of others
// that may be.
func loadThese(r Reader, device string, dev *Device, ids, also []string) (State, map[string]*executionRecord, error) {
	st, err := loadDevice(r, device, dev)
	if err != nil {
		return st, nil, err
	}
	named := len(ids)
	for _, id := range also {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	records := make(map[string]*executionRecord, len(ids))
	for i, id := range ids {
		e, err := find[executionRecord](r, id)
		switch {
		case err != nil:
			return st, nil, err
		case e == nil && i >= named, e != nil && e.Device != device:
			continue
		case e == nil:
			return st, nil, fmt.Errorf("index %s of device %q names execution %q, which does not exist; run davit check", indexExecOpen, device, id)
		}
		records[id] = e
		st.Executions = append(st.Executions, e.Tracked)
	}
	slices.SortFunc(st.Executions, func(a, b Tracked) int { return before(&a, &b) })
	return st, records, nil
}

// openOf returns a device's executions that have not ended, in the order of their
// jobs' start.
func openOf(r Reader, device string) (ids []string, err error) {
	err = r.Scan(indexExecOpen, prefixOf(device), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return true
	})
	return ids, err
}

// see adds to the aggregate what the rules may ask of the jobs. view finds it. A map
// that is there is used again.
func (s *State) see(view func(job string) (*JobView, error), also ...string) error {
	if s.Jobs == nil {
		s.Jobs = make(map[string]*JobView, len(s.Executions))
	}
	clear(s.Jobs)
	for i := range s.Executions {
		also = append(also, s.Executions[i].Job)
	}
	for _, job := range also {
		if s.Jobs[job] != nil {
			continue
		}
		v, err := view(job)
		if err != nil {
			return err
		}
		s.Jobs[job] = v
	}
	return nil
}

// concerned are the executions that an event is about, besides those that have not
// ended.
func (t *txn) concerned(device string, dev *Device, ev Event) ([]string, error) {
	switch e := ev.(type) {
	case Reported:
		return []string{e.Status.Execution}, nil
	case Cancel:
		return []string{e.Execution}, nil
	case Retry:
		return []string{e.Execution}, nil
	case Heard:
		if dev != nil {
			return t.succeeded(device, dev, e.Versions)
		}
	}
	return nil, nil
}

// lookedBack is how many of a device's last executions are looked at for the one
// that brought it to the version that it ran.
const lookedBack = 8

// succeeded returns the last executions of the image types whose version is now
// reported to be another one, if they ended with success.
func (t *txn) succeeded(device string, dev *Device, versions map[string]string) ([]string, error) {
	changed := map[string]bool{}
	for imageType, version := range versions {
		changed[imageType] = version != "" && dev.Versions[imageType] != version
	}
	var found, ids []string
	if !slices.Contains(slices.Collect(maps.Values(changed)), true) {
		return nil, nil
	}
	if err := t.Scan(indexExecByDevice, prefixOf(device), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return len(ids) < lookedBack
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		e, err := need[executionRecord](t, "execution", id)
		if err != nil {
			return nil, err
		}
		if !changed[e.ImageType] || !e.Met {
			continue
		}
		changed[e.ImageType] = false // it is the last one of its type
		if e.State == schemas.StateSucceeded {
			found = append(found, id)
		}
	}
	return found, nil
}

// loadAll reads all of a device's aggregate that an event may concern.
func (t *txn) loadAll(device string, dev *Device, ev Event) (State, map[string]*executionRecord, error) {
	also, err := t.concerned(device, dev, ev)
	if err != nil {
		return State{}, nil, err
	}
	return load(t, device, dev, also...)
}
