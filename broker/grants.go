package broker

import "slices"

// grant is one subscription.
type grant struct {
	qos byte
	id  int32 // Subscription Identifier (MQTT 5, 3.8.2.1.2), or 0
}

// grants are subscriptions by their filters. A device has three, and a fleet many devices:
// a few are a list, which takes a third of a map's memory, and more are a map. Nil holds
// none.
type grants struct {
	few  []filterGrant
	many map[string]grant
}

type filterGrant struct {
	filter string
	grant
}

// fewGrants is how many are a list.
const fewGrants = 8

func (g *grants) find(filter string) (grant, bool) {
	if g == nil {
		return grant{}, false
	}
	if g.many != nil {
		found, ok := g.many[filter]
		return found, ok
	}
	if i := g.index(filter); i >= 0 {
		return g.few[i].grant, true
	}
	return grant{}, false
}

func (g *grants) index(filter string) int {
	return slices.IndexFunc(g.few, func(f filterGrant) bool { return f.filter == filter })
}

func (g *grants) set(filter string, to grant) {
	i := g.index(filter)
	switch {
	case g.many != nil:
		g.many[filter] = to
	case i >= 0:
		g.few[i].grant = to
	case len(g.few) < fewGrants:
		g.few = append(g.few, filterGrant{filter, to})
	default:
		g.many = map[string]grant{filter: to}
		for _, f := range g.few {
			g.many[f.filter] = f.grant
		}
		g.few = nil
	}
}

func (g *grants) drop(filter string) {
	if g == nil {
		return
	}
	delete(g.many, filter)
	if i := g.index(filter); i >= 0 {
		g.few = slices.Delete(g.few, i, i+1)
	}
}

// all calls yield with each of them, in any order.
func (g *grants) all(yield func(filter string, to grant) bool) {
	if g == nil {
		return
	}
	for _, f := range g.few {
		if !yield(f.filter, f.grant) {
			return
		}
	}
	for filter, to := range g.many {
		if !yield(filter, to) {
			return
		}
	}
}
