package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// defaultHelloTimeout is how long a connected device may stay without a hello
// before it is shown as silent, unless its type says otherwise.
const defaultHelloTimeout = 30 * time.Minute

// DeviceDetail returns a device with the groups that it belongs to now, what is
// under way on it and what waits. It evaluates the query of every dynamic group on
// this one device.
func (s *Service) DeviceDetail(ctx context.Context, id string) (DeviceDetail, error) {
	var out DeviceDetail
	err := s.store.View(ctx, func(r Reader) error {
		dev, err := need[Device](r, "device", id)
		if err != nil {
			return err
		}
		d, err := newDescriber(r, s.now())
		if err != nil {
			return err
		}
		out, err = d.describe(dev)
		return err
	})
	return out, err
}

// DeviceDetails is Devices with what DeviceDetail says of each device. Dynamic
// groups are read, and their queries compiled, once for a page. Each device of the
// page costs a look at its own entries of two indexes, the execution that is under
// way on it, and one evaluation of each of those queries.
func (s *Service) DeviceDetails(ctx context.Context, f DeviceFilter, p Page) ([]DeviceDetail, string, error) {
	var out []DeviceDetail
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		search, err := newSearch(r, f)
		if err != nil {
			return err
		}
		now := s.now()
		items, after, err := search.page(r, now, p)
		if err != nil {
			return err
		}
		d, err := newDescriber(r, now)
		if err != nil {
			return err
		}
		out, next = make([]DeviceDetail, len(items)), after
		for i := range items {
			if out[i], err = d.describe(&items[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return out, next, err
}

// describer says of devices what other records of one snapshot say of them.
type describer struct {
	Reader
	now     time.Time
	types   map[string]*DeviceType // those of the devices so far
	dynamic []dynamicGroup         // all there are
}

// dynamicGroup is a dynamic group that is ready to be asked about devices.
type dynamicGroup struct {
	id string
	*matcher
}

func newDescriber(r Reader, now time.Time) (*describer, error) {
	d := &describer{Reader: r, now: now, types: map[string]*DeviceType{}}
	var ids []string
	if err := r.Scan(indexGroupDynamic, nil, nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return true
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		g, err := need[Group](r, "group", id)
		if err != nil {
			return nil, err
		}
		search := &deviceSearch{}
		if err := search.dynamic(g); err != nil {
			return nil, err
		}
		d.dynamic = append(d.dynamic, dynamicGroup{id, search.at(now)})
	}
	return d, nil
}

func (d *describer) describe(dev *Device) (DeviceDetail, error) {
	out := DeviceDetail{Device: *dev}
	dt, err := d.deviceType(dev.Type)
	if err != nil {
		return out, err
	}
	out.Silent = dev.silent(dt, d.now)
	if out.Groups, err = d.groupsOf(dev); err != nil {
		return out, err
	}
	mark, err := find[claimMark](d, dev.ID)
	if err != nil {
		return out, err
	}
	if mark != nil {
		out.Claim = mark.Claim
	}
	out.Execution, out.Waiting, err = d.underWay(dev.ID)
	return out, err
}

// underWay returns the execution that is under way on a device, nil if none is, and
// how many wait. Only a device that is marked in tableOffers has one: records are
// read of no other, and no further than to that one, which is the first unless
// those before it may not be offered.
func (d *describer) underWay(device string) (*Execution, int, error) {
	var ids []string
	if err := d.Scan(indexExecOpen, prefixOf(device), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return true
	}); err != nil {
		return nil, 0, err
	}
	mark, err := d.Get(tableOffers, keyOf(device))
	if err != nil || mark == nil {
		return nil, len(ids), err
	}
	for _, id := range ids {
		e, err := need[executionRecord](d, "execution", id)
		if err != nil {
			return nil, 0, fmt.Errorf("index %s of device %q: %w", indexExecOpen, device, err)
		}
		if e.open() {
			return &e.Execution, len(ids) - 1, nil
		}
	}
	return nil, len(ids), nil
}

func (d *describer) deviceType(id string) (*DeviceType, error) {
	if dt := d.types[id]; dt != nil {
		return dt, nil
	}
	dt, err := need[DeviceType](d, "device type", id)
	if err == nil {
		d.types[id] = dt
	}
	return dt, err
}

// silent says whether a device is connected and has not said hello for longer
// than its type allows. One that has never said hello is given the time from when
// it connected.
func (d *Device) silent(t *DeviceType, now time.Time) bool {
	limit := time.Duration(t.HelloTimeout)
	if limit <= 0 {
		limit = defaultHelloTimeout
	}
	since := d.HelloAt
	if since.IsZero() {
		since = d.LastSeen
	}
	return d.Online && now.Sub(since) > limit
}

// groupsOf returns the groups that a device belongs to, in order.
func (d *describer) groupsOf(dev *Device) ([]string, error) {
	groups := []string{}
	if err := d.Scan(indexGroupByDevice, prefixOf(dev.ID), nil, func(_, id []byte) bool {
		groups = append(groups, string(id))
		return true
	}); err != nil {
		return nil, err
	}
	for _, g := range d.dynamic {
		ok, err := g.match(dev)
		if err != nil {
			return nil, err
		}
		if ok {
			groups = append(groups, g.id)
		}
	}
	slices.Sort(groups)
	return groups, nil
}
