package orchestrator

import (
	"math"
	"slices"
	"time"

	"davit/schemas"
)

// How long an update takes as long as no other tells: what a slow line carries,
// and what a host MCU needs besides.
const (
	reckonedRate = 9000 // bytes per second
	reckonedBoot = 30 * time.Second
)

// How many records are looked at to learn from earlier updates.
const (
	sampledUpdates = 100
	sampledImages  = 20
	sampledJobs    = 5 // of each image
)

// times says for the job's image and those that devices are led through how long
// an update with them takes.
func (p *preview) times(r Reader) (map[string]time.Duration, error) {
	times := map[string]time.Duration{}
	all := chained(p.links, linkOf(p.image))
	for _, l := range all {
		took, err := earlierUpdates(r, p.image.ImageType, l.Size)
		if err != nil {
			return nil, err
		}
		times[l.Image] = time.Duration(float64(l.Size)/reckonedRate*float64(time.Second)).Round(time.Second) + reckonedBoot
		about := ""
		if len(all) > 1 {
			about = " with version " + l.Version
		}
		if len(took) == 0 {
			p.assume("An update%s takes %v: its %d bytes at %d bytes per second, and %v to boot. No earlier update tells more.",
				about, times[l.Image], l.Size, reckonedRate, reckonedBoot)
			continue
		}
		slices.Sort(took)
		times[l.Image] = took[len(took)/2].Round(time.Second)
		p.assume("An update%s takes %v, which is the median of the last %s with images of type %s and about its size.",
			about, times[l.Image], countOf(len(took), "update"), p.image.ImageType)
	}
	return times, nil
}

// earlierUpdates are how long the last updates took that succeeded, with images of
// the type and at least half and at most double the size. The indexes lead there
// from the newest images over their newest jobs.
func earlierUpdates(r Reader, imageType string, size uint64) (took []time.Duration, err error) {
	images, err := firstIDs(r, indexImageByType, imageType, sampledImages)
	if err != nil {
		return nil, err
	}
	for _, id := range images {
		m, err := need[Image](r, "image", id)
		if err != nil {
			return nil, err
		}
		if m.Size < size/2 || m.Size/2 > size {
			continue
		}
		jobs, err := firstIDs(r, indexJobByImage, id, sampledJobs)
		if err != nil {
			return nil, err
		}
		for _, job := range jobs {
			found, err := inStates(r, job, []schemas.State{schemas.StateSucceeded}, "", sampledUpdates-len(took))
			if err != nil {
				return nil, err
			}
			for _, x := range found {
				e, err := need[executionRecord](r, "execution", x.id)
				if err != nil {
					return nil, err
				}
				if d := e.EndedAt.Sub(e.OfferedAt); !e.OfferedAt.IsZero() && d > 0 {
					took = append(took, d)
				}
			}
			if len(took) >= sampledUpdates {
				return took, nil
			}
		}
	}
	return took, nil
}

// firstIDs returns the first records that an index holds for id.
func firstIDs(r Reader, index Table, id string, limit int) (ids []string, err error) {
	err = r.Scan(index, prefixOf(id), nil, func(_, key []byte) bool {
		ids = append(ids, string(key))
		return len(ids) < limit
	})
	return ids, err
}

// waveLoad is what the devices of a wave come to.
type waveLoad struct {
	offers  int           // each step of a device's way is one
	work    time.Duration // of all devices, one after another
	longest time.Duration // of any of them
	groups  []waveLoad    // of those in each group with a pace
}

// add takes a device, with a bit for each group with a pace that it is in.
func (l *waveLoad) add(took time.Duration, steps int, groups uint16) {
	l.offers += steps
	l.work = sumOf(l.work, took)
	l.longest = max(l.longest, took)
	for i := range l.groups {
		if groups&(1<<i) != 0 {
			l.groups[i].add(took, steps, 0)
		}
	}
}

// places is how long the devices take where only so many may be in progress; 0 is
// any number.
func (l *waveLoad) places(limit int) time.Duration {
	if limit == 0 {
		return 0
	}
	return l.work / time.Duration(limit)
}

// rated is how long it takes until the last one was offered its image and has ended,
// at a steady rate; 0 is none.
func (l *waveLoad) rated(perMinute int) time.Duration {
	if perMinute == 0 || l.offers == 0 {
		return 0
	}
	return l.after(float64(l.offers) / float64(perMinute))
}

// after is so many minutes and the longest update.
func (l *waveLoad) after(minutes float64) time.Duration {
	return sumOf(time.Duration(min(minutes*float64(time.Minute), float64(math.MaxInt64/4))), l.longest)
}

// estimate goes through a rollout in time, as if every device were connected and
// succeeded.
type estimate struct {
	r         *Rollout
	windows   *timetable
	from, at  time.Time // when it begins, and how far it is
	succeeded int
	limit     int  // of devices in progress, of all jobs; 0 for none
	endless   bool // the windows let it never end
}

// maxWindowsGone is how many openings of windows an estimate goes through.
const maxWindowsGone = 5000

func newEstimate(r *Rollout, limit int, now time.Time) (*estimate, error) {
	if r == nil {
		r = &Rollout{}
	}
	e := &estimate{r: r, limit: limit, from: now, at: now}
	if r.Schedule == nil {
		return e, nil
	}
	e.from = later(now, r.Schedule.Start)
	e.at = e.from
	var err error
	e.windows, err = compileWindows(r.Schedule.Windows)
	return e, err
}

// wave goes through a wave and says how long it takes. Devices that are in
// progress when the windows close finish.
func (e *estimate) wave(l waveLoad, soak time.Duration) time.Duration {
	began := e.at
	if l.offers > 0 {
		busy := max(l.longest, l.places(e.limit), e.paced(l), e.grouped(l))
		e.through(busy - l.longest)
		e.at = e.at.Add(l.longest)
	}
	e.succeeded += l.offers
	e.at = e.at.Add(soak)
	return e.at.Sub(began)
}

// grouped is how long the slowest group with a pace takes.
func (e *estimate) grouped(l waveLoad) (slowest time.Duration) {
	if e.r.Pace == nil {
		return 0
	}
	for i, pace := range e.r.Pace.Groups {
		g := &l.groups[i]
		slowest = max(slowest, g.places(pace.MaxInProgress), g.rated(pace.PerMinute))
	}
	return slowest
}

// paced is how long the wave takes at the job's own pace, whose rate grows with success.
func (e *estimate) paced(l waveLoad) time.Duration {
	p := e.r.Pace
	if p == nil {
		return 0
	}
	busy := l.places(p.MaxInProgress)
	left, at := l.offers, e.succeeded
	var sum float64 // in minutes
	for left > 0 {
		rate := p.rate(at)
		if rate == 0 {
			return busy
		}
		n := left
		if p.Ramp != nil && rate != p.perMinute() && rate < math.MaxInt32 {
			n = min(left, p.Ramp.After-at%p.Ramp.After)
		}
		sum += float64(n) / float64(rate)
		left, at = left-n, at+n
	}
	return max(busy, l.after(sum))
}

// through lets so much time pass while windows are open, and finds an open one to
// begin with.
func (e *estimate) through(d time.Duration) {
	for range maxWindowsGone {
		open, edge := e.windows.at(e.at, nil)
		switch {
		case open && (edge.IsZero() || d < edge.Sub(e.at)):
			e.at = e.at.Add(d)
			return
		case edge.IsZero():
			e.endless = true
			return
		case open:
			d -= edge.Sub(e.at)
		}
		e.at = edge
	}
	e.endless = true
}

// assumptions says what the estimate rests on.
func (p *preview) assumptions(e *estimate) {
	p.assume("Every device is connected, free and succeeds at its first try.")
	r := e.r
	if slices.ContainsFunc(r.Waves, func(w Wave) bool { return w.Approve }) {
		p.assume("Whoever approves waves does so at once.")
	}
	switch r.Action {
	case ActionSoft, ActionConfirm, ActionDownload:
		p.assume("Nobody puts the update off, and whoever has to agree or to give the command does so at once.")
	}
	if e.limit > 0 {
		p.assume("The job has all %s that the service lets be in progress at once; no other job takes any of them.", countOf(e.limit, "device"))
	}
	s := r.Schedule
	if s == nil {
		return
	}
	if s.DeviceZone != "" {
		p.assume("The windows are read in their own zones and not in those of the devices.")
	}
	switch {
	case e.endless:
		p.assume("The windows are too short: it would take longer than the time that was looked at.")
	case !s.End.IsZero() && e.at.After(s.End):
		p.assume("It would not be done by its end at %s; devices that have not accepted by then are canceled.", s.End.Format(time.RFC3339))
	}
}
