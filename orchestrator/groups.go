package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// CreateGroup makes a group of devices that exist, or a dynamic one of those
// that its query finds.
func (s *Service) CreateGroup(ctx context.Context, n NewGroup) (Group, error) {
	rec := Group{ID: n.ID, Description: n.Description, Devices: members(n.Devices), Query: n.Query, Revision: 1}
	if err := n.validate(); err != nil {
		return Group{}, err
	}
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		rec.CreatedAt = t.now
		if err := vacant[Group](t, "group", n.ID); err != nil {
			return inField("id", ErrExists, err)
		}
		if err := knownDevices(t, n.Devices); err != nil {
			return err
		}
		return errors.Join(put(t, nil, &rec), t.audit("create", KindGroup, rec.ID, nil, &rec))
	})
	return rec, err
}

func (n NewGroup) validate() error {
	if err := checkID("id", n.ID); err != nil {
		return err
	}
	if n.Query != "" && len(n.Devices) > 0 {
		return invalidField("devices", "a group has either a list of devices or a query; leave one of them out")
	}
	return checkGroup(&n.Description, n.Devices, n.Query)
}

// UpdateGroup changes what the patch names; a static group stays static and a
// dynamic one dynamic. Jobs keep the devices that the group had when they were
// created. ErrStale if the patch names another revision.
func (s *Service) UpdateGroup(ctx context.Context, id string, p GroupPatch) (Group, error) {
	var devices []string
	var query string
	set(&devices, p.Devices)
	set(&query, p.Query)
	if err := checkGroup(p.Description, devices, query); err != nil {
		return Group{}, err
	}
	var rec Group
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Group](t, "group", id)
		if err != nil {
			return err
		}
		if err := p.check("group", id, old.Revision); err != nil {
			return err
		}
		if err := p.fits(old); err != nil {
			return err
		}
		rec = *old
		rec.Revision++
		set(&rec.Description, p.Description)
		set(&rec.Query, p.Query)
		if p.Devices != nil {
			rec.Devices = members(devices)
		}
		if err := knownDevices(t, devices); err != nil {
			return err
		}
		if err := errors.Join(put(t, old, &rec), t.audit("update", KindGroup, id, old, &rec)); err != nil {
			return err
		}
		return t.joined(old, &rec)
	})
	return rec, err
}

// fits refuses a patch that would make a static group dynamic or the reverse.
func (p *GroupPatch) fits(g *Group) error {
	switch {
	case g.Query == "" && p.Query != nil && *p.Query != "":
		return invalidField("query", "group %q lists its devices and stays so; create another group for a query", g.ID)
	case g.Query != "" && p.Query != nil && *p.Query == "":
		return invalidField("query", "group %q is what its query finds and stays so; the query cannot be empty", g.ID)
	case g.Query != "" && p.Devices != nil && len(*p.Devices) > 0:
		return invalidField("devices", "group %q is what its query finds and stays so; create another group for a list of devices", g.ID)
	}
	return nil
}

// members returns the devices in order, each once.
func members(devices []string) []string {
	out := append([]string{}, devices...)
	slices.Sort(out)
	return slices.Compact(out)
}

// checkGroup checks what people enter for a group.
func checkGroup(description *string, devices []string, query string) error {
	if err := checkNames(nil, description); err != nil {
		return err
	}
	if len(devices) > MaxJobDevices {
		return invalidField("devices", "%d entries, at most %d are allowed", len(devices), MaxJobDevices)
	}
	for i, id := range devices {
		if err := checkID(fmt.Sprintf("devices/%d", i), id); err != nil {
			return err
		}
	}
	if query == "" {
		return nil
	}
	_, err := compileQuery("query", query)
	return err
}

func knownDevices(r Reader, ids []string) error {
	for i, id := range ids {
		b, err := r.Get(tableDevices, keyOf(id))
		if err != nil {
			return err
		}
		if b == nil {
			return &FieldError{fmt.Sprintf("devices/%d", i), fmt.Errorf("device %q: %w", id, ErrNotFound)}
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
		if err := unused(t, "group", id, "claim", indexClaimByGroup); err != nil {
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
		return errors.Join(remove(t, rec), t.audit("delete", KindGroup, id, rec, nil))
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
