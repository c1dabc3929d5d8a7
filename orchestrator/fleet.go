package orchestrator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// CreateDevice makes a device known.
func (s *Service) CreateDevice(ctx context.Context, n NewDevice) (Device, error) {
	if err := n.validate(); err != nil {
		return Device{}, err
	}
	var rec Device
	_, err := s.commit(ctx, func(t *txn) error {
		rec = Device{ID: n.ID, Type: n.Type, Labels: maps.Clone(n.Labels), Versions: map[string]string{}, CreatedAt: t.now}
		if err := vacant[Device](t, "device", n.ID); err != nil {
			return err
		}
		if _, err := need[DeviceType](t, "device type", n.Type); err != nil {
			return err
		}
		return put(t, nil, &rec)
	})
	return rec, err
}

// UpdateDevice changes a device's labels; its type never changes.
func (s *Service) UpdateDevice(ctx context.Context, id string, p DevicePatch) (Device, error) {
	if p.Labels != nil {
		if err := checkLabels(*p.Labels); err != nil {
			return Device{}, err
		}
	}
	var rec Device
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Device](t, "device", id)
		if err != nil {
			return err
		}
		rec = *old
		if p.Labels != nil {
			rec.Labels = maps.Clone(*p.Labels)
		}
		return put(t, old, &rec)
	})
	return rec, err
}

// DeleteDevice forgets a device. It is refused while a group names the device,
// while a job that was not started targets it (which costs a look at the
// targets of such jobs), and while an execution on it has not ended. Ended
// executions stay in their jobs.
func (s *Service) DeleteDevice(ctx context.Context, id string) error {
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[Device](t, "device", id)
		if err != nil {
			return err
		}
		if err := unused(t, "device", id, "group", indexGroupByDevice); err != nil {
			return err
		}
		st, _, err := load(t, id, rec, "")
		if err != nil {
			return err
		}
		if len(st.Executions) > 0 {
			return fmt.Errorf("device %q: %w: it is in use by job %q, which has not ended on it; cancel the job first", id, ErrConflict, st.Executions[0].Job)
		}
		if job, err := targetedBy(t, id); err != nil || job != "" {
			if err == nil {
				err = fmt.Errorf("device %q: %w: it is in use by job %q, which targets it; cancel the job first", id, ErrConflict, job)
			}
			return err
		}
		// The note brings the outbox to clear what the broker retains of the
		// device, after a crash as well.
		t.out.resync = append(t.out.resync, id)
		return errors.Join(remove(t, rec), t.mark(id, st.Retained, true))
	})
	return err
}

// targetedBy returns a job that has the device among the targets which are not
// executions yet, or "". It reads all such targets.
func targetedBy(r Reader, device string) (string, error) {
	var job string
	var failed error
	err := r.Scan(tableTargets, nil, nil, func(k, v []byte) bool {
		var ids []string
		if failed = decode(v, &ids); failed != nil {
			return false
		}
		if slices.Contains(ids, device) {
			job = string(k[:len(k)-9])
		}
		return job == ""
	})
	if failed != nil {
		err = failed
	}
	return job, err
}

// Device returns one device.
func (s *Service) Device(ctx context.Context, id string) (Device, error) {
	return one[Device](ctx, s.store, "device", id)
}

// Devices lists devices by id.
func (s *Service) Devices(ctx context.Context, _ DeviceFilter, p Page) ([]Device, string, error) {
	return list[Device](ctx, s.store, p)
}

// DeviceExecutions lists a device's executions, the newest job first.
func (s *Service) DeviceExecutions(ctx context.Context, id string, p Page) ([]Execution, string, error) {
	after, err := hex.DecodeString(p.After)
	if err != nil {
		return nil, "", invalid("after: not a cursor of this listing")
	}
	var out []Execution
	var next string
	err = s.store.View(ctx, func(r Reader) error {
		if _, err := need[Device](r, "device", id); err != nil {
			return err
		}
		recs, n, err := listIndex[executionRecord](r, indexExecByDevice, id, Page{After: string(after), Limit: p.Limit}, nil)
		out, next = executionsOf(recs), hex.EncodeToString([]byte(n))
		return err
	})
	return out, next, err
}

func executionsOf(recs []executionRecord) []Execution {
	out := make([]Execution, 0, len(recs))
	for i := range recs {
		out = append(out, recs[i].Execution)
	}
	return out
}

// CreateGroup makes a group of devices that exist.
func (s *Service) CreateGroup(ctx context.Context, n NewGroup) (Group, error) {
	rec := Group{ID: n.ID, Description: n.Description, Devices: members(n.Devices)}
	if err := checkGroup(&rec); err != nil {
		return Group{}, err
	}
	_, err := s.commit(ctx, func(t *txn) error {
		rec.CreatedAt = t.now
		if err := vacant[Group](t, "group", n.ID); err != nil {
			return err
		}
		if err := knownDevices(t, rec.Devices); err != nil {
			return err
		}
		return put(t, nil, &rec)
	})
	return rec, err
}

// UpdateGroup changes what the patch names. Jobs keep the devices that the
// group had when they were created.
func (s *Service) UpdateGroup(ctx context.Context, id string, p GroupPatch) (Group, error) {
	var rec Group
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Group](t, "group", id)
		if err != nil {
			return err
		}
		rec = *old
		set(&rec.Description, p.Description)
		if p.Devices != nil {
			rec.Devices = members(*p.Devices)
		}
		if err := checkGroup(&rec); err != nil {
			return err
		}
		if err := knownDevices(t, rec.Devices); err != nil {
			return err
		}
		return put(t, old, &rec)
	})
	return rec, err
}

// members returns the devices in order, each once.
func members(devices []string) []string {
	out := append([]string{}, devices...)
	slices.Sort(out)
	return slices.Compact(out)
}

func checkGroup(g *Group) error {
	if err := checkID("id", g.ID); err != nil {
		return err
	}
	if err := checkText("description", g.Description, maxDescription, true); err != nil {
		return err
	}
	return distinctIDs("devices", g.Devices, MaxJobDevices)
}

func knownDevices(r Reader, ids []string) error {
	for _, id := range ids {
		b, err := r.Get(tableDevices, keyOf(id))
		if err != nil {
			return err
		}
		if b == nil {
			return fmt.Errorf("device %q: %w", id, ErrNotFound)
		}
	}
	return nil
}

// DeleteGroup deletes a group unless a job that has not ended names it.
func (s *Service) DeleteGroup(ctx context.Context, id string) error {
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[Group](t, "group", id)
		if err != nil {
			return err
		}
		var jobs []string
		if err := t.Scan(indexJobByGroup, prefixOf(id), nil, func(_, name []byte) bool {
			jobs = append(jobs, string(name))
			return true
		}); err != nil {
			return err
		}
		for _, name := range jobs {
			p, err := need[progressRecord](t, "job", name)
			if err != nil {
				return err
			}
			if p.State.open() {
				return fmt.Errorf("group %q: %w: it is in use by job %q, which has not ended", id, ErrConflict, name)
			}
		}
		return remove(t, rec)
	})
	return err
}

// Group returns one group.
func (s *Service) Group(ctx context.Context, id string) (Group, error) {
	return one[Group](ctx, s.store, "group", id)
}

// Groups lists groups by id.
func (s *Service) Groups(ctx context.Context, p Page) ([]Group, string, error) {
	return list[Group](ctx, s.store, p)
}
