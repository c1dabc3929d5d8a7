package orchestrator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// CreateDevice makes a device known. ErrExists if the id is taken, ErrNotFound
// if there is no such device type, ErrInvalid otherwise.
func (s *Service) CreateDevice(ctx context.Context, n NewDevice) (Device, error) {
	if err := n.validate(); err != nil {
		return Device{}, err
	}
	var rec Device
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		if err := t.admissible(n); err != nil {
			return err
		}
		rec = t.newDevice(n)
		return errors.Join(put(t, nil, &rec), t.audit("create", KindDevice, rec.ID, nil, &rec), t.matchNow(rec.ID))
	})
	return rec, err
}

func (t *txn) newDevice(n NewDevice) Device {
	return Device{ID: n.ID, Type: n.Type, Labels: maps.Clone(n.Labels), Versions: map[string]string{}, Revision: 1, CreatedAt: t.now}
}

// admissible refuses a device whose id is taken or whose type does not exist.
func (t *txn) admissible(n NewDevice) error {
	if err := vacant[Device](t, "device", n.ID); err != nil {
		return inField("id", ErrExists, err)
	}
	_, err := need[DeviceType](t, "device type", n.Type)
	return inField("type", ErrNotFound, err)
}

// inField says which field of the request an error of the kind is about.
func inField(field string, kind, err error) error {
	if errors.Is(err, kind) {
		return &FieldError{field, err}
	}
	return err
}

// UpdateDevice changes a device's labels; its type never changes. ErrStale if
// the patch names another revision.
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
		if err := p.check("device", id, old.Revision); err != nil {
			return err
		}
		rec = *old
		rec.Revision++
		if p.Labels != nil {
			rec.Labels = maps.Clone(*p.Labels)
		}
		return errors.Join(put(t, old, &rec), t.audit("update", KindDevice, id, old, &rec), t.matchNow(id))
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
		st, _, err := load(t, id, rec)
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
		return errors.Join(remove(t, rec), t.mark(id, st.Retained, true), t.unclaim(id), t.audit("delete", KindDevice, id, rec, nil))
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

// TypesOf returns the types of devices in their order, "" for those that are not known.
func (s *Service) TypesOf(ctx context.Context, ids []string) ([]string, error) {
	types := make([]string, len(ids))
	err := s.store.View(ctx, func(r Reader) error {
		for i, id := range ids {
			d, err := find[Device](r, id)
			if err != nil {
				return err
			}
			if d != nil {
				types[i] = d.Type
			}
		}
		return nil
	})
	return types, err
}

// Devices lists the devices that meet a filter, by id. It reads the index with
// the fewest of them and looks at a bounded number of devices: a page may be short,
// or empty, and still have a next one.
func (s *Service) Devices(ctx context.Context, f DeviceFilter, p Page) ([]Device, string, error) {
	var items []Device
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		d, err := newSearch(r, f)
		if err != nil {
			return err
		}
		items, next, err = d.page(r, s.now(), p)
		return err
	})
	return items, next, err
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
		recs, n, err := listIndex[executionRecord](r, indexExecByDevice, id, Page{After: string(after), Limit: p.Limit})
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
