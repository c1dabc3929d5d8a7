package orchestrator

import (
	"maps"
	"math"
	"slices"
	"time"

	"davit/schemas"
)

// lane is what devices of a job have in common that may hold them back: the zone
// that their windows are read in, and the groups with a pace that they belong to.
type lane struct {
	Zone   string `json:"zone,omitempty"`
	Groups uint64 `json:"groups,omitempty"` // bit i is set for the plan's pace group i
	// Open is whether its windows were open when that was looked at last.
	Open bool `json:"open,omitempty"`
}

// maxLanes is how many lanes a job may have; devices beyond that are in the first
// one with their groups, where the windows' own zones hold.
const maxLanes = 1024

// groupCount is what is counted of a group with a pace.
type groupCount struct {
	InProgress int       `json:"in_progress,omitempty"`
	NextOffer  time.Time `json:"next_offer,omitzero"`
}

// laneOf returns the lane of devices with these properties, a new one if there is
// none.
func (p *progressRecord) laneOf(zone string, groups uint64) int {
	find := func(zone string) int {
		return slices.IndexFunc(p.Lanes, func(l lane) bool { return l.Zone == zone && l.Groups == groups })
	}
	i := find(zone)
	if i < 0 && len(p.Lanes) >= maxLanes {
		i = max(0, find(""))
	}
	if i < 0 {
		p.Lanes = append(slices.Clone(p.Lanes), lane{Zone: zone, Groups: groups})
		i = len(p.Lanes) - 1
	}
	return i
}

// inProgress is how many devices were offered the image and have not ended.
func (p *progressRecord) inProgress() int {
	n := 0
	for s, c := range p.Counts {
		if s != schemas.StateQueued && !s.Final() {
			n += c
		}
	}
	return n
}

// room is how many more devices a pace lets through at this moment, and if that is
// none, when more may be; zero if that does not depend on time.
func room(inProgress, limit, perMinute int, next, now time.Time) (int, time.Time) {
	n := math.MaxInt32
	if limit > 0 {
		n = max(0, limit-inProgress)
	}
	if n == 0 || perMinute <= 0 {
		return n, time.Time{}
	}
	m, at := allowance(next, perMinute, now)
	return min(n, m), at
}

// room is what the job's own pace leaves.
func (p *progressRecord) room(pl *plan, now time.Time) (int, time.Time) {
	if pl == nil || pl.Pace == nil {
		return math.MaxInt32, time.Time{}
	}
	return room(p.inProgress(), pl.Pace.MaxInProgress, pl.Pace.rate(p.Counts[schemas.StateSucceeded]), p.NextOffer, now)
}

// groupRoom is what the paces of a lane's groups leave.
func (p *progressRecord) groupRoom(pl *plan, groups uint64, now time.Time) (n int, at time.Time) {
	n = math.MaxInt32
	for i := range p.Groups {
		if groups&(1<<i) == 0 {
			continue
		}
		g, limit := &p.Groups[i], &pl.Pace.Groups[i]
		m, when := room(g.InProgress, limit.MaxInProgress, limit.PerMinute, g.NextOffer, now)
		if n = min(n, m); m == 0 && when.After(at) {
			at = when
		}
	}
	return n, at
}

// view is what the rules on a device need to know of the job. left is how many
// more offers the service's own limit leaves.
func (p *progressRecord) view(pl *plan, left int, now time.Time) *JobView {
	v := &JobView{
		Paused: p.State == JobPaused, Over: p.State == JobCanceled || p.State == JobCompleted || p.Ended || pl.past(now), Past: pl.past(now),
		Connected: pl.connected() || left != unlimited, Wave: p.Wave, Full: left <= 0, Started: p.StartedAt,
	}
	if pl == nil {
		return v
	}
	v.Plan, v.links, v.last = pl.Rollout, pl.links, pl.last
	v.NoRetries = pl.Retry != nil && pl.Retry.Budget > 0 && p.Retries >= pl.Retry.Budget
	if n, _ := p.room(pl, now); n <= 0 {
		v.Full = true
	}
	for i, l := range p.Lanes {
		if open, _ := pl.openIn(l.Zone, now); !open {
			v.Closed = with(v.Closed, i)
		}
		if n, _ := p.groupRoom(pl, l.Groups, now); n <= 0 {
			v.FullLanes = with(v.FullLanes, i)
		}
	}
	return v
}

// unlimited is how many offers the service leaves that has no limit of its own.
const unlimited = math.MaxInt32

func with(set map[int]bool, i int) map[int]bool {
	if set == nil {
		set = map[int]bool{}
	}
	set[i] = true
	return set
}

// offered takes note of an offer, or of an end, for the paces.
func (p *progressRecord) paced(pl *plan, t *Tracked, from schemas.State, now time.Time) {
	if pl == nil || pl.Pace == nil {
		return
	}
	was, is := from != "" && from != schemas.StateQueued && !from.Final(), t.open()
	if was == is {
		return
	}
	offered := 0
	if is {
		offered = 1
		p.NextOffer = spend(p.NextOffer, pl.Pace.rate(p.Counts[schemas.StateSucceeded]), now, offered)
	}
	if t.Lane >= len(p.Lanes) {
		return
	}
	for i := range p.Groups {
		if p.Lanes[t.Lane].Groups&(1<<i) == 0 {
			continue
		}
		g := &p.Groups[i]
		if !is {
			g.InProgress--
			continue
		}
		g.InProgress++
		g.NextOffer = spend(g.NextOffer, pl.Pace.Groups[i].PerMinute, now, offered)
	}
}

// copied returns the record with maps and lists of its own, to be changed.
func (p *progressRecord) copied() *progressRecord {
	now := *p
	now.Counts, now.Causes, now.Work = maps.Clone(p.Counts), maps.Clone(p.Causes), slices.Clone(p.Work)
	now.Lanes, now.Groups, now.Waves = slices.Clone(p.Lanes), slices.Clone(p.Groups), slices.Clone(p.Waves)
	now.Outcomes, now.Forgiven = p.Outcomes.clone(), p.Forgiven.clone()
	for i := range now.Waves {
		now.Waves[i].Outcomes, now.Waves[i].Forgiven = p.Waves[i].Outcomes.clone(), p.Waves[i].Forgiven.clone()
	}
	return &now
}
