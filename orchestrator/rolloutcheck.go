package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// horizon is how far ahead a job looks for its windows.
const horizon = 5 * 365 * 24 * time.Hour

// check checks what a rollout says against what there is now: the devices that
// the job is for, in the order of their ids, groups and images. It returns the
// explicit wave of each device that one names.
func (r *Rollout) check(ctx context.Context, rd Reader, now time.Time, image *Image, list []target) (named map[string]int, err error) {
	if r == nil {
		return nil, nil
	}
	if err := firstOf(
		func() error { return r.checkPaceGroups(rd) },
		func() error { return r.checkVia(rd, image) },
		func() error { return r.checkRollBack(rd, image) },
		func() error { return r.Schedule.opens(now) },
	); err != nil {
		return nil, err
	}
	if named, err = r.namedBy(ctx, rd, now, list); err != nil {
		return nil, err
	}
	return named, r.checkThresholds(len(list), named)
}

func (r *Rollout) checkPaceGroups(rd Reader) error {
	if r.Pace == nil {
		return nil
	}
	for i := range r.Pace.Groups {
		if _, err := needField[Group](rd, element("rollout/pace/groups", i)+"/group", "group", r.Pace.Groups[i].Group); err != nil {
			return err
		}
	}
	return nil
}

// checkVia checks the images that devices are led through.
func (r *Rollout) checkVia(rd Reader, image *Image) error {
	if len(r.Via) == 0 {
		return nil
	}
	links := make([]link, len(r.Via))
	for i, id := range r.Via {
		field := element("rollout/via", i)
		if id == image.ID {
			return invalidField(field, "image %q is the one that the job leads to; leave it out here", id)
		}
		via, err := fitting(rd, field, id, image)
		if err != nil {
			return err
		}
		links[i] = linkOf(via)
	}
	return checkChain(links, linkOf(image))
}

// fitting returns an image that devices of the job can get besides the job's own.
func fitting(rd Reader, field, id string, image *Image) (*Image, error) {
	m, err := needField[Image](rd, field, "image", id)
	if err != nil {
		return nil, err
	}
	if !m.ArchivedAt.IsZero() {
		return nil, invalidField(field, "image %q is archived; restore it, or take another one", id)
	}
	if m.ImageType != image.ImageType {
		return nil, invalidField(field, "image %q is of image type %s, and the job's image of %s", id, m.ImageType, image.ImageType)
	}
	for _, t := range image.DeviceTypes {
		if !slices.Contains(m.DeviceTypes, t) {
			return nil, invalidField(field, "image %q is not for device type %s, which the job's image is for", id, t)
		}
	}
	return m, nil
}

func (r *Rollout) checkRollBack(rd Reader, image *Image) error {
	for i := range r.Stop {
		id, field := r.Stop[i].RollBack, element("rollout/stop", i)+"/roll_back"
		if id == "" {
			continue
		}
		m, err := fitting(rd, field, id, image)
		if err != nil {
			return err
		}
		if m.Version == image.Version {
			return invalidField(field, "image %q has version %s, as the job's own: no device would be brought back by it", id, m.Version)
		}
	}
	return nil
}

// opens refuses a schedule that is over, and windows that never open in it. By
// the zones of devices they may open up to a day before and after.
func (s *Schedule) opens(now time.Time) error {
	if s == nil {
		return nil
	}
	if !s.End.IsZero() && !s.End.After(now) {
		return invalidField("rollout/schedule/end", "%s is over", s.End.Format(time.RFC3339))
	}
	table, err := compileWindows(s.Windows)
	if err != nil || table == nil {
		return err
	}
	from, to := later(now, s.Start), s.End
	if to.IsZero() {
		to = from.Add(horizon)
	}
	if s.DeviceZone != "" {
		from, to = from.Add(-24*time.Hour), to.Add(24*time.Hour)
	}
	if open, edge := table.at(from, nil); open || !edge.IsZero() && edge.Before(to) {
		return nil
	}
	if s.End.IsZero() {
		return invalidField("rollout/schedule/windows", "none of them opens in the five years from %s", from.Format(time.RFC3339))
	}
	return invalidField("rollout/schedule/windows", "none of them opens between %s and %s", from.Format(time.RFC3339), to.Format(time.RFC3339))
}

// namedBy gives the devices that explicit waves name their waves; the earlier one
// has a device that two of them name.
func (r *Rollout) namedBy(ctx context.Context, rd Reader, now time.Time, list []target) (map[string]int, error) {
	named := map[string]int{}
	for i := range r.Waves {
		w, field := &r.Waves[i], element("rollout/waves", i)
		for j, id := range w.Devices {
			if !among(list, id) {
				return nil, invalidField(element(field+"/devices", j), "device %q is not among the job's; a wave is a part of them", id)
			}
			if named[id] == 0 {
				named[id] = i + 1
			}
		}
		if w.Group == "" {
			continue
		}
		found, err := nameGroup(ctx, rd, now, w.Group, field+"/group", i+1, list, named)
		if err != nil {
			return nil, err
		}
		if found == 0 && !r.Continuous {
			return nil, invalidField(field+"/group", "none of the job's devices belongs to group %q", w.Group)
		}
	}
	return named, nil
}

// nameGroup gives the job's devices that belong to a group the wave, and says how
// many there are.
func nameGroup(ctx context.Context, rd Reader, now time.Time, group, field string, wave int, list []target, named map[string]int) (found int, err error) {
	g, err := needField[Group](rd, field, "group", group)
	if err != nil {
		return 0, err
	}
	return found, membersAt(ctx, rd, g, now, func(d *Device) bool {
		if among(list, d.ID) {
			if found++; named[d.ID] == 0 {
				named[strings.Clone(d.ID)] = wave // it may be a part of the device's whole record
			}
		}
		return true
	})
}

// among says whether a device is in a list in order.
func among(list []target, id string) bool {
	_, ok := slices.BinarySearchFunc(list, id, func(t target, id string) int { return cmp.Compare(t.id, id) })
	return ok
}

// checkThresholds refuses stop rules that wait for more devices than there are.
func (r *Rollout) checkThresholds(devices int, named map[string]int) error {
	own := *r
	own.Waves = slices.Clone(r.Waves) // complete changes them
	own.complete()
	largest, err := own.largestWave(devices, named)
	if err != nil || r.Continuous {
		return err
	}
	for i := range r.Stop {
		s, field := &r.Stop[i], element("rollout/stop", i)
		most, where := devices, "the job has"
		if s.Over == OverWave {
			most, where = largest, "the largest wave has"
		}
		if s.Count > most {
			return invalidField(field+"/count", "%s can never have failed: %s %d", countOf(s.Count, "device"), where, most)
		}
		if s.MinSample > most {
			return invalidField(field+"/min_sample", "%s can never have come to an end: %s %d", countOf(s.MinSample, "device"), where, most)
		}
	}
	return nil
}

// largestWave is how many devices the largest wave has; it refuses waves that
// cannot be filled.
func (r *Rollout) largestWave(devices int, named map[string]int) (int, error) {
	sizes := make([]int, len(r.Waves))
	for _, wave := range named {
		sizes[wave-1]++
	}
	ends, err := r.cut(devices - len(named))
	if err != nil || len(ends) == 0 {
		return devices, err
	}
	at := 0
	for i, end := range ends {
		sizes[i] += end - at
		at = end
	}
	return slices.Max(sizes), nil
}

// countOf is a number with what it counts: "1 device", "3 devices".
func countOf(n int, word string) string { return fmt.Sprintf("%d %s", n, plural(n, word)) }
