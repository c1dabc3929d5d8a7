package orchestrator

import (
	"context"
	"slices"
	"time"

	"davit/schemas"
)

// defaultHelloTimeout is how long a connected device may stay without a hello
// before it is shown as silent, unless its type says otherwise.
const defaultHelloTimeout = 30 * time.Minute

// Fleet returns the fleet in figures, from counters.
func (s *Service) Fleet(ctx context.Context) (FleetSummary, error) {
	var f FleetSummary
	err := s.store.View(ctx, func(r Reader) error {
		f = FleetSummary{
			ByType: map[string]int{}, Versions: map[string]map[string]int{}, Images: map[string]int{},
			Jobs: map[JobState]int{}, Executions: map[schemas.State]int{},
		}
		for kind, add := range map[string]func(by []string, n int){
			countDevices: func(by []string, n int) { f.ByType[by[0]] = n; f.Devices += n },
			countOnline:  func(_ []string, n int) { f.Online = n },
			countImages:  func(by []string, n int) { f.Images[by[0]] = n },
			countJobs:    func(by []string, n int) { f.Jobs[JobState(by[0])] = n },
			countVersions: func(by []string, n int) {
				if f.Versions[by[0]] == nil {
					f.Versions[by[0]] = map[string]int{}
				}
				f.Versions[by[0]][by[1]] = n
			},
		} {
			if err := readCounters(r, kind, add); err != nil {
				return err
			}
		}
		all, err := readTotals(r)
		for state, n := range all {
			f.Executions[state] = int(n)
		}
		return err
	})
	return f, err
}

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
		out = DeviceDetail{Device: *dev}
		dt, err := need[DeviceType](r, "device type", dev.Type)
		if err != nil {
			return err
		}
		out.Silent = dev.silent(dt, s.now())
		if out.Groups, err = groupsOf(r, dev, s.now()); err != nil {
			return err
		}
		st, records, err := load(r, id, dev, "")
		for i := range st.Executions {
			if x := &st.Executions[i]; x.open() {
				out.Execution = &records[x.ID].Execution
			} else {
				out.Waiting++
			}
		}
		return err
	})
	return out, err
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
func groupsOf(r Reader, dev *Device, now time.Time) ([]string, error) {
	groups := []string{}
	if err := r.Scan(indexGroupByDevice, prefixOf(dev.ID), nil, func(_, id []byte) bool {
		groups = append(groups, string(id))
		return true
	}); err != nil {
		return nil, err
	}
	var dynamic []string
	if err := r.Scan(indexGroupDynamic, nil, nil, func(_, id []byte) bool {
		dynamic = append(dynamic, string(id))
		return true
	}); err != nil {
		return nil, err
	}
	for _, id := range dynamic {
		g, err := need[Group](r, "group", id)
		if err != nil {
			return nil, err
		}
		d := &deviceSearch{}
		if err := d.dynamic(g); err != nil {
			return nil, err
		}
		ok, err := d.at(now).match(dev)
		if err != nil {
			return nil, err
		}
		if ok {
			groups = append(groups, id)
		}
	}
	slices.Sort(groups)
	return groups, nil
}
