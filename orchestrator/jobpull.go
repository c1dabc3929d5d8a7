package orchestrator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"davit/schemas"
)

// look brings a job up to date whose counts, state or time have changed: it
// comes to its end, waves are released, lanes open and close, and those that are
// ready are pulled where there is room. The transaction writes the record.
func (t *txn) look(p *progressRecord) error {
	pl, err := t.plan(p.Name)
	if err != nil {
		return err
	}
	starved := p.Starved
	p.WakeAt, p.Waits, p.WaitsUntil, p.Starved = time.Time{}, "", time.Time{}, false
	delete(t.views, p.Name)
	if pl != nil && p.active() {
		p.end(pl, t.now)
		if !p.Ended {
			p.openLanes(pl, t.now) // while it is paused too: windows may call back what goes on
		}
	}
	if p.State == JobRunning && !p.Ended {
		if pl != nil {
			if err := t.advance(p, pl); err != nil {
				return err
			}
		}
		if pl != nil || t.limit > 0 || starved { // another job waits for nothing but a pause
			if err := t.findRoom(p, pl); err != nil {
				return err
			}
		}
	}
	p.complete(pl, t.now)
	return nil
}

// tooLate is what executions say that the end of their job has canceled.
const tooLate = "the job came to its end before the device had accepted the image"

// end ends a job whose time is over: what nobody has accepted is canceled, the
// rest finishes.
func (p *progressRecord) end(pl *plan, now time.Time) {
	if pl.Schedule == nil || pl.Schedule.End.IsZero() || p.Ended {
		return
	}
	if pl.Schedule.End.After(now) {
		p.wake(now, pl.Schedule.End, "")
		return
	}
	p.Ended = true
	// Every device gets its execution, also when the start is not through.
	p.Work = slices.DeleteFunc(p.Work, func(task jobTask) bool { return task.Kind != taskStart })
	p.add(jobTask{Kind: taskCancel, Finish: true, Why: tooLate})
}

// openLanes notes which lanes have opened or closed, and when the next one does.
func (p *progressRecord) openLanes(pl *plan, now time.Time) {
	if pl.Schedule == nil {
		return
	}
	why, open := waitsWindow, false
	if pl.Schedule.Start.After(now) {
		why = waitsStart
	}
	var next time.Time
	for i := range p.Lanes {
		is, edge := pl.openIn(p.Lanes[i].Zone, now)
		if !is && p.Lanes[i].Open {
			p.add(jobTask{Kind: taskSettle})
		}
		p.Lanes[i].Open = is
		open = open || is
		if !edge.IsZero() && (next.IsZero() || edge.Before(next)) {
			next = edge
		}
	}
	if len(p.Lanes) == 0 {
		open, next = pl.openIn("", now)
	}
	if open {
		why = ""
	}
	p.wake(now, next, why)
}

// findRoom has ready executions pulled if the job's limits leave room for some, or
// notes when they will.
func (t *txn) findRoom(p *progressRecord, pl *plan) error {
	if p.has(taskPull) {
		return nil
	}
	candidate := false
	for i := range p.lanes() {
		wave, ok, err := t.firstReady(p.Name, i)
		if err != nil {
			return err
		}
		if !ok || wave > p.Wave {
			continue
		}
		if i < len(p.Lanes) {
			if open, _ := pl.openIn(p.Lanes[i].Zone, t.now); !open {
				continue
			}
			if n, at := p.groupRoom(pl, p.Lanes[i].Groups, t.now); n <= 0 {
				p.wake(t.now, at, "")
				continue
			}
		}
		candidate = true
	}
	if !candidate {
		return nil
	}
	switch n, at := p.room(pl, t.now); {
	case n <= 0:
		p.wake(t.now, at, "")
	case t.limit > 0:
		p.Starved = true // places are shared out by turns (share)
	default:
		p.add(jobTask{Kind: taskPull})
	}
	return nil
}

// complete ends a job of which nothing is left to do.
func (p *progressRecord) complete(pl *plan, now time.Time) {
	if len(p.Work) > 0 || p.unfinished() > 0 {
		return
	}
	switch {
	case p.active() && (pl == nil || !pl.Continuous || p.Ended):
		p.State, p.CompletedAt = JobCompleted, now
	case p.State == JobCanceled && p.RollBack != "" && p.RollBackJob == "" && p.Counts[schemas.StateSucceeded] > 0:
		p.add(jobTask{Kind: taskRollBack})
	case p.State == JobCanceled && p.CompletedAt.IsZero():
		p.CompletedAt = now
	default:
		return
	}
	p.WakeAt, p.Waits = time.Time{}, ""
}

// pullPart has the rules look at the next ready executions of a job.
func (t *txn) pullPart(p *progressRecord) error {
	moved, err := t.pull(p, t.batch)
	if err != nil {
		return err
	}
	if moved < t.batch {
		p.done(taskPull)
	}
	return nil
}

// pull has the rules look at the first n ready executions, some of each lane, as
// long as the job has room, and says how many of them are not ready any more.
func (t *txn) pull(p *progressRecord, n int) (moved int, err error) {
	pl, err := t.plan(p.Name)
	if err != nil {
		return 0, err
	}
	before := t.gone
	for {
		round := t.gone
		each := max(1, (n-(t.gone-before)+p.lanes()-1)/p.lanes())
		for lane := range p.lanes() {
			if err := t.pullLane(p, pl, lane, min(each, n-(t.gone-before))); err != nil {
				return 0, err
			}
		}
		if t.gone == round || t.gone-before >= n {
			return t.gone - before, nil
		}
	}
}

// pullLane does that in one lane.
func (t *txn) pullLane(p *progressRecord, pl *plan, lane, n int) error {
	if n <= 0 {
		return nil
	}
	if room, _ := p.room(pl, t.now); room < n {
		n = room
	}
	if n <= 0 {
		return nil
	}
	devices, err := t.nextReady(p, lane, n)
	if err != nil {
		return err
	}
	for _, id := range devices {
		v, err := t.viewOf(p.Name)
		if err != nil || v.Paused || v.Over || v.Full || v.Closed[lane] || v.FullLanes[lane] {
			return err
		}
		dev, err := find[Device](t, id)
		if err != nil {
			return err
		}
		if err := t.step(id, dev, Settle{}); err != nil {
			return err
		}
	}
	return nil
}

// share gives the places that the service's own limit leaves to the jobs that
// wait for one, each time to the one with the fewest devices in progress, and says
// whether there was one to give.
func (s *Service) share(ctx context.Context) (more bool, err error) {
	if s.maxInProgress == 0 {
		return false, nil
	}
	_, err = s.commit(ctx, func(t *txn) error {
		more = false
		t.fair = true
		jobs, err := t.starved()
		if err != nil {
			return err
		}
		for given := 0; given < t.batch && len(jobs) > 0; given++ {
			left, err := t.left()
			if err != nil || left <= 0 {
				return err
			}
			slices.SortStableFunc(jobs, func(a, b *progressRecord) int { return cmp.Compare(a.inProgress(), b.inProgress()) })
			p := jobs[0]
			moved, err := t.pull(p, 1)
			if err != nil {
				return err
			}
			if moved == 0 {
				jobs = jobs[1:]
				continue
			}
			more = true
		}
		return nil
	})
	return more, err
}

// starved returns the jobs that wait for a place; they are looked at again when
// the transaction ends.
func (t *txn) starved() ([]*progressRecord, error) {
	var names []string
	if err := t.Scan(indexJobStarved, nil, nil, func(_, name []byte) bool {
		names = append(names, string(name))
		return true
	}); err != nil {
		return nil, err
	}
	jobs := make([]*progressRecord, 0, len(names))
	for _, name := range names {
		p, err := t.job(name)
		if err != nil {
			return nil, err
		}
		t.progress[name].moved = true
		jobs = append(jobs, p)
	}
	return jobs, nil
}

// left is how many more devices may be in progress, of all jobs together. While
// jobs wait for a place, only share gives one.
func (t *txn) left() (int, error) {
	if t.limit == 0 {
		return unlimited, nil
	}
	if !t.fair {
		waiting, err := anyUnderPrefix(t, indexJobStarved, nil)
		if err != nil || waiting {
			return 0, err
		}
	}
	if err := t.needTotals(); err != nil {
		return 0, err
	}
	n := t.limit
	for s, c := range t.totals {
		if s != schemas.StateQueued && !s.Final() {
			n -= int(c)
		}
	}
	return max(0, n), nil
}
