package orchestrator

import (
	"sync"
	"time"

	"davit/orchestrator/query"
)

// plan is a job's rollout made ready to be asked: what the records of the job and
// its images say, which never changes. nil stands for a job without a rollout.
type plan struct {
	*Rollout
	windows *timetable
	links   []link // of a job that leads over several versions
	last    link
	groups  []string // what it targets, besides the devices that were named
	query   string

	mu   sync.Mutex
	open map[string]opening // by zone, as found last
}

// opening is whether the windows are open in a zone, from one moment to another.
type opening struct {
	from, to time.Time // to is zero for ever
	open     bool
}

// plans remembers the plans of jobs, the queries of continuous ones, the types of
// devices and the images that are offered, so that none of them is decoded for every event.
type plans struct {
	types   *remembered[DeviceType]
	images  *remembered[Image]
	mu      sync.Mutex
	byName  map[string]*plan
	queries map[string]*query.Query // by their text
}

// maxPlans is how many plans and queries are remembered; then they are read anew.
const maxPlans = 4096

func newPlans() *plans {
	return &plans{types: newRemembered[DeviceType](), images: newRemembered[Image](), byName: map[string]*plan{}, queries: map[string]*query.Query{}}
}

// query returns a compiled query.
func (c *plans) query(text string) (*query.Query, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queries[text]; q != nil {
		return q, nil
	}
	q, err := compileQuery("query", text)
	if err != nil {
		return nil, err
	}
	if len(c.queries) >= maxPlans {
		clear(c.queries)
	}
	c.queries[text] = q
	return q, nil
}

// forget drops the plan of a job: there is none of that name any more, or a new one.
func (c *plans) forget(job string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, job)
}

// of returns the plan of a job that is in the store.
func (c *plans) of(r Reader, job string) (*plan, error) {
	c.mu.Lock()
	p, ok := c.byName[job]
	c.mu.Unlock()
	if ok {
		return p, nil
	}
	rec, err := need[jobRecord](r, "job", job)
	if err != nil {
		return nil, err
	}
	if p, err = readPlan(r, rec); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byName) >= maxPlans {
		clear(c.byName)
	}
	c.byName[job] = p
	return p, nil
}

func readPlan(r Reader, rec *jobRecord) (*plan, error) {
	if rec.Rollout == nil {
		return nil, nil
	}
	p := &plan{Rollout: rec.Rollout, groups: rec.Groups, query: rec.Query, open: map[string]opening{}}
	if s := p.Schedule; s != nil {
		var err error
		if p.windows, err = compileWindows(s.Windows); err != nil {
			return nil, err
		}
	}
	if len(p.Via) == 0 {
		return p, nil
	}
	for _, id := range p.Via {
		image, err := need[Image](r, "image", id)
		if err != nil {
			return nil, err
		}
		p.links = append(p.links, linkOf(image))
	}
	image, err := need[Image](r, "image", rec.Image)
	if err == nil {
		p.last = linkOf(image)
	}
	return p, err
}

func linkOf(m *Image) link {
	return link{Image: m.ID, Version: m.Version, MinVersion: m.MinVersion, SHA256: m.SHA256, Size: m.Size, VersionID: m.VersionID}
}

// connected says whether the job offers its image to connected devices only:
// where a device that is not there would take the place of another, or be told at
// a time when it may not.
func (p *plan) connected() bool {
	if p == nil {
		return false
	}
	return p.Pace != nil || p.Schedule != nil || p.Timeouts != nil && p.Timeouts.Answer > 0 || p.Action != "" && p.Action != ActionInstall
}

// past says whether the job's end has passed, which its record may not say yet.
func (p *plan) past(now time.Time) bool {
	return p != nil && p.Schedule != nil && !p.Schedule.End.IsZero() && !p.Schedule.End.After(now)
}

// openIn says whether the windows are open for devices of a zone, and when that
// changes next; zero for never.
func (p *plan) openIn(zone string, now time.Time) (bool, time.Time) {
	if p == nil || p.Schedule == nil {
		return true, time.Time{}
	}
	if p.Schedule.Start.After(now) {
		return false, p.Schedule.Start
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok := p.open[zone]; ok && !now.Before(o.from) && (o.to.IsZero() || now.Before(o.to)) {
		return o.open, o.to
	}
	var where *time.Location
	if zone != "" {
		where, _ = time.LoadLocation(zone) // lanes have only zones that can be loaded
	}
	o := opening{from: now}
	o.open, o.to = p.windows.at(now, where)
	p.open[zone] = o
	return o.open, o.to
}

// zoneOf is the zone that a device's windows are read in, "" for the windows' own.
func (p *plan) zoneOf(d *Device) string {
	if p == nil || p.Schedule == nil || p.Schedule.DeviceZone == "" {
		return ""
	}
	zone := d.Labels[p.Schedule.DeviceZone]
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		return ""
	}
	return zone
}
