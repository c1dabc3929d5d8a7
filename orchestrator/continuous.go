package orchestrator

import (
	"errors"
	"slices"

	"davit/orchestrator/query"
	"davit/schemas"
)

// Continuous jobs take devices that come to their target later. Whatever may bring
// a device there, which is its creation, a change of its labels, a hello, or the
// edit of a group or of the image, has it matched against the continuous jobs that
// are active, which an index names: one look at an index for a job that has it
// already, one evaluation of its queries for each other.

// match has a device join the continuous jobs that it belongs to by now.
func (t *txn) match(dev *Device) error {
	var names []string
	if err := t.Scan(indexJobContinuous, nil, nil, func(_, name []byte) bool {
		names = append(names, string(name))
		return true
	}); err != nil {
		return err
	}
	for _, name := range names {
		if err := t.matchJob(name, dev); err != nil {
			return err
		}
	}
	return nil
}

// matchNow is match for a device whose record may just have been written.
func (t *txn) matchNow(device string) error {
	some, err := anyUnderPrefix(t, indexJobContinuous, nil)
	if err != nil || !some {
		return err
	}
	dev, err := need[Device](t, "device", device)
	if err != nil {
		return err
	}
	return t.match(dev)
}

// matchJob has a device join a continuous job if it belongs to its target. One
// that was turned away for the version that it ran is tried again.
func (t *txn) matchJob(name string, dev *Device) error {
	e, err := t.executionOf(name, dev.ID)
	if err != nil {
		return err
	}
	if e != nil {
		if e.State != schemas.StateRejected || e.Cause != schemas.CauseMinVersion || dev.Versions[e.ImageType] == e.HostVersion {
			return nil
		}
		return t.step(dev.ID, dev, Retry{e.ID, e.Attempt})
	}
	pl, err := t.plan(name)
	if err != nil {
		return err
	}
	in, err := t.targeted(pl, dev)
	if err != nil || !in {
		return err
	}
	rec, image, err := t.jobAndImage(name)
	if err != nil || !slices.Contains(image.DeviceTypes, dev.Type) {
		return err
	}
	return t.join(rec, image, dev)
}

// targeted says whether a device belongs to what the job targets now.
func (t *txn) targeted(pl *plan, dev *Device) (bool, error) {
	for _, g := range pl.groups {
		if in, err := t.belongs(g, dev); err != nil || in {
			return in, err
		}
	}
	if pl.query == "" {
		return false, nil
	}
	return t.found(pl.query, dev)
}

// found says whether a query finds a device.
func (t *txn) found(text string, dev *Device) (bool, error) {
	m := t.matchers[text]
	if m == nil {
		q, err := t.plans.query(text)
		if err != nil {
			return false, err
		}
		if t.matchers == nil {
			t.matchers = map[string]*matcher{}
		}
		m = (&deviceSearch{queries: []*query.Query{q}}).at(t.now)
		t.matchers[text] = m
	}
	return m.match(dev)
}

// join makes an execution for a device that came to a job later.
func (t *txn) join(rec *jobRecord, image *Image, dev *Device) error {
	p, err := t.job(rec.Name)
	if err != nil {
		return err
	}
	if p.has(taskStart) {
		return nil // it may be among those that are still to come; taskMatch follows
	}
	wave, err := t.waveOf(rec, p, dev)
	if err != nil {
		return err
	}
	if wave > 0 {
		p.Waves[wave-1].Devices++
	}
	p.Joined++
	t.progress[p.Name].moved = true
	if err := t.bump(p); err != nil {
		return err
	}
	return t.addExecution(p, rec, image, dev, wave)
}

// waveOf is the wave of a device that comes to a job later: the one that names it,
// or the one that its rank falls into.
func (t *txn) waveOf(rec *jobRecord, p *progressRecord, dev *Device) (int, error) {
	if len(p.Waves) == 0 {
		return 0, nil
	}
	for i := range rec.Rollout.Waves {
		w := &rec.Rollout.Waves[i]
		if slices.Contains(w.Devices, dev.ID) {
			return i + 1, nil
		}
		if w.Group == "" {
			continue
		}
		if in, err := t.belongs(w.Group, dev); err != nil || in {
			return i + 1, err
		}
	}
	bounds := make([]uint64, len(p.Waves))
	for i := range p.Waves {
		bounds[i] = p.Waves[i].Bound
	}
	return rec.Rollout.waveFor(rankOf(rec.Rollout.Seed, dev.ID), bounds), nil
}

// matchPart looks at the next devices of the fleet for one job, because its target
// itself has changed.
func (t *txn) matchPart(p *progressRecord, task *jobTask) error {
	var found []Device
	var failed error
	last := ""
	var after []byte
	if task.After != "" {
		after = keyOf(task.After)
	}
	if err := t.Scan(tableDevices, nil, after, func(k, rec []byte) bool {
		var d Device
		last = string(k)
		if failed = parseDevice(last, rec, &d); failed == nil {
			found = append(found, d)
		}
		return failed == nil && len(found) < t.batch
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	for i := range found {
		if err := t.matchJob(p.Name, &found[i]); err != nil {
			return err
		}
	}
	if len(found) < t.batch {
		p.done(taskMatch)
		return nil
	}
	task.After = last
	return nil
}

// rematch has the continuous jobs that an index names for a group or an image look
// for devices that have come to their target.
func (t *txn) rematch(index Table, id string) error {
	var names []string
	if err := t.Scan(index, prefixOf(id), nil, func(_, name []byte) bool {
		names = append(names, string(name))
		return true
	}); err != nil {
		return err
	}
	for _, name := range names {
		p, err := t.job(name)
		if err != nil {
			return err
		}
		if !p.catches() {
			continue
		}
		p.add(jobTask{Kind: taskMatch})
		t.progress[name].moved = true
		if err := t.bump(p); err != nil {
			return err
		}
	}
	return nil
}

// catches says whether a job takes devices that come to its target.
func (p *progressRecord) catches() bool { return p.Continuous && p.active() && !p.Ended }

// matchAtOnce is how many devices that came to a group are matched in the
// transaction that put them there.
const matchAtOnce = 1000

// joined has the devices matched that the edit of a group brought to it.
func (t *txn) joined(old, rec *Group) error {
	if rec.Query != old.Query {
		return t.rematch(indexJobByGroup, rec.ID)
	}
	had := make(map[string]bool, len(old.Devices))
	for _, id := range old.Devices {
		had[id] = true
	}
	added := slices.DeleteFunc(slices.Clone(rec.Devices), func(id string) bool { return had[id] })
	if len(added) > matchAtOnce {
		return t.rematch(indexJobByGroup, rec.ID)
	}
	for _, id := range added {
		if err := t.matchNow(id); err != nil {
			return err
		}
	}
	return nil
}
