package rehearsal

import (
	"fmt"
	"slices"

	"davit/orchestrator"
)

// adapt returns the rollout as it is played: a copy, nil if there is none. What is
// not modelled is refused rather than left out.
func (w *world) adapt() (*orchestrator.Rollout, error) {
	if w.cfg.Rollout == nil {
		return nil, nil
	}
	r := *w.cfg.Rollout
	known := func(group string) bool {
		return slices.ContainsFunc(w.cfg.Fleet.Groups, func(g Group) bool { return g.Name == group })
	}
	var groups []string
	for _, v := range r.Waves {
		groups = append(groups, v.Group)
	}
	if r.Pace != nil {
		for _, g := range r.Pace.Groups {
			groups = append(groups, g.Group)
		}
	}
	for _, g := range groups {
		if g != "" && !known(g) {
			return nil, fmt.Errorf("the rollout names group %s; say which part of the fleet belongs to it, for example %s=5%%", g, g)
		}
	}
	if n := len(named(&r)); n > w.cfg.Fleet.Devices {
		return nil, fmt.Errorf("the rollout names %d devices and the fleet has %d", n, w.cfg.Fleet.Devices)
	}
	r.Stop, r.Via = slices.Clone(r.Stop), slices.Clone(r.Via)
	return &r, nil
}

// named are the devices that a rollout names.
func named(r *orchestrator.Rollout) []string {
	if r == nil {
		return nil
	}
	var ids []string
	for _, v := range r.Waves {
		for _, id := range v.Devices {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
