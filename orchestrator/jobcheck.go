package orchestrator

import (
	"errors"
	"maps"
	"slices"

	"davit/schemas"
)

// jobSum is what the executions of a job add up to.
type jobSum struct {
	counts map[schemas.State]int
	causes map[schemas.Cause]int
	rev    uint64 // the highest revision of an execution
	// ends are the attempts that ended with success and otherwise; forgotten says
	// that there are more, which executions do not remember any longer.
	succeeded, failed int
	forgotten         bool
	// what the history of the job says of the same
	history *historyRecord
	// what the rollout counts: retries, ends by cause, the same by wave, and by lane
	// those under way
	retries  int
	outcomes outcomes
	waves    []waveRecord
	lanes    map[int]int
}

func (c *checker) sumOf(job string) *jobSum {
	if c.jobs[job] == nil {
		c.jobs[job] = &jobSum{counts: map[schemas.State]int{}, causes: map[schemas.Cause]int{}}
	}
	return c.jobs[job]
}

func (j *jobSum) count(e *executionRecord) {
	j.counts[e.State]++
	if e.Cause != schemas.CauseNone {
		j.causes[e.Cause]++
	}
	j.rev = max(j.rev, e.Rev)
	switch {
	case e.State == schemas.StateSucceeded:
		j.succeeded++
	case e.State.Final():
		j.failed++
	}
	for _, a := range e.History {
		switch {
		case a.State == schemas.StateSucceeded && a.Version == "": // it fell back later
			j.succeeded++
		case a.State.Final() && a.State != schemas.StateSucceeded:
			j.failed++
		}
	}
	j.forgotten = j.forgotten || e.Attempt > len(e.History)+1
	j.retries += e.Retries
	countEnds(&j.outcomes, &e.Tracked)
	if e.Wave > 0 {
		j.wave(e.Wave).count("", e.State)
		j.wave(e.Wave).Met += met(&e.Tracked)
		countEnds(&j.wave(e.Wave).Outcomes, &e.Tracked)
	}
	if e.open() {
		if j.lanes == nil {
			j.lanes = map[int]int{}
		}
		j.lanes[e.Lane]++
	}
}

func countEnds(o *outcomes, t *Tracked) {
	if t.Ended {
		o.ended(true, schemas.CauseNone, t.Failing)
	}
}

// wave is what the executions of one wave add up to.
func (j *jobSum) wave(number int) *waveRecord {
	for len(j.waves) < number {
		j.waves = append(j.waves, waveRecord{})
	}
	return &j.waves[number-1]
}

func (c *checker) job(j *jobRecord) error {
	if err := c.refers(tableJobs, j.Name, tableProgress, j.Name); err != nil {
		return err
	}
	return c.refers(tableJobs, j.Name, tableImages, j.Image)
}

func (c *checker) execution(e *executionRecord) error {
	c.sumOf(e.Job).count(e)
	c.attempts(e)
	if !e.State.Valid() || !e.Cause.Valid() {
		c.violation("execution %q has state %q and cause %q, which are not of the contract", e.ID, e.State, e.Cause)
	}
	if failed := e.State.Final() && e.State != schemas.StateSucceeded; failed != (e.Cause != schemas.CauseNone) {
		c.violation("execution %q is %s with cause %q", e.ID, e.State, e.Cause)
	}
	if e.BytesDone > e.BytesTotal {
		c.violation("execution %q has done %d of %d bytes", e.ID, e.BytesDone, e.BytesTotal)
	}
	if e.open() {
		if other := c.under[e.Device]; other != "" {
			c.violation("device %q has two executions under way, %q and %q", e.Device, other, e.ID)
		}
		c.under[e.Device] = e.ID
	}
	if !e.State.Final() {
		if err := c.refers(tableExecutions, e.ID, tableDevices, e.Device); err != nil {
			return err
		}
	}
	if err := c.refers(tableExecutions, e.ID, tableImages, e.Image); err != nil {
		return err
	}
	return c.refers(tableExecutions, e.ID, tableJobs, e.Job)
}

// attempts checks what an execution remembers of its earlier attempts.
func (c *checker) attempts(e *executionRecord) {
	if e.Attempt < 1 || len(e.History) != min(e.Attempt-1, maxHistory) {
		c.violation("execution %q is at attempt %d and remembers %d earlier ones", e.ID, e.Attempt, len(e.History))
		return
	}
	for i, a := range e.History {
		if want := e.Attempt - len(e.History) + i; a.Attempt != want {
			c.violation("execution %q has attempt %d in its history where %d belongs", e.ID, a.Attempt, want)
		}
		if a.State != schemas.StateQueued && a.State != schemas.StateSucceeded && !retryable(a.State) {
			c.violation("execution %q had attempt %d %s, after which there is no other", e.ID, a.Attempt, a.State)
		}
	}
}

func (c *checker) history(h *historyRecord) error {
	if len(h.Succeeded) != len(h.Failed) || len(h.Succeeded) > historyPoints || h.Step < Duration(historyStep) {
		c.violation("the history of job %q has %d and %d steps of %v", h.Job, len(h.Succeeded), len(h.Failed), h.Step)
	}
	c.sumOf(h.Job).history = h
	return c.refers(tableHistory, h.Job, tableJobs, h.Job)
}

// historyOf checks that every end of an execution is counted in its job's history.
func (c *checker) historyOf(job string, found *jobSum) {
	succeeded, failed := 0, 0
	if h := found.history; h != nil {
		for _, n := range h.Succeeded {
			succeeded += n
		}
		for _, n := range h.Failed {
			failed += n
		}
	}
	if succeeded != found.succeeded || failed < found.failed || failed > found.failed && !found.forgotten {
		c.violation("the history of job %q counts %d successes and %d other ends, its executions have %d and %d",
			job, succeeded, failed, found.succeeded, found.failed)
	}
}

// progress runs after the executions were counted.
func (c *checker) progress(p *progressRecord) error {
	if err := c.refers(tableProgress, p.Name, tableJobs, p.Name); err != nil {
		return err
	}
	found := c.sumOf(p.Name)
	for _, s := range schemas.States() {
		if p.Counts[s] != found.counts[s] {
			c.violation("job %q counts %d executions %s, there are %d", p.Name, p.Counts[s], s, found.counts[s])
		}
	}
	if p.Expiring {
		return nil // the rest counts executions that are gone
	}
	if !maps.Equal(p.Causes, found.causes) {
		c.violation("job %q counts the causes %v, its executions have %v", p.Name, p.Causes, found.causes)
	}
	if found.rev > p.Rev {
		c.violation("job %q is at revision %d, one of its executions at %d", p.Name, p.Rev, found.rev)
	}
	c.historyOf(p.Name, found)
	c.rollout(p, found)
	for i, task := range p.Work {
		if slices.ContainsFunc(p.Work[:i], func(other jobTask) bool { return other.Kind == task.Kind }) {
			c.violation("job %q has %q left to do twice", p.Name, task.Kind)
		}
	}
	c.seq = max(c.seq, p.Seq)
	open := p.unfinished()
	switch {
	case p.State == JobDraft && len(found.counts) > 0:
		c.violation("job %q is a draft and has executions", p.Name)
	case p.active() && len(p.Work) == 0 && open == 0 && !c.goesOn(p):
		c.violation("job %q is %s, but all its executions have ended", p.Name, p.State)
	case p.State == JobCompleted && (open > 0 || len(p.Work) > 0):
		c.violation("job %q is completed, but %d of its executions have not ended", p.Name, open)
	case p.State == JobCanceled && len(p.Work) == 0 && found.counts[schemas.StateQueued]+found.counts[schemas.StateOffered] > 0:
		c.violation("job %q is canceled, but devices are still to be offered its image", p.Name)
	case p.State == JobCanceled && !p.CompletedAt.IsZero() && open > 0:
		c.violation("job %q is canceled and completed, but %d of its executions have not ended", p.Name, open)
	}
	return nil
}

// goesOn says whether a job waits for devices that may come to it.
func (c *checker) goesOn(p *progressRecord) bool {
	rec, err := find[jobRecord](c, p.Name)
	return err == nil && rec != nil && rec.Rollout != nil && rec.Rollout.Continuous && !p.Ended
}

// rollout checks what a job counts for its waves, paces and rules.
func (c *checker) rollout(p *progressRecord, found *jobSum) {
	if p.Retries != found.retries {
		c.violation("job %q counts %d retries, its executions have %d", p.Name, p.Retries, found.retries)
	}
	if !sameOutcomes(p.Outcomes, found.outcomes) {
		c.violation("job %q counts the ends %v, its executions have %v", p.Name, p.Outcomes, found.outcomes)
	}
	for i := range p.Waves {
		w, want := &p.Waves[i], found.wave(i+1)
		if w.Queued != want.Queued || w.InProgress != want.InProgress || w.Succeeded != want.Succeeded || w.Failed != want.Failed ||
			w.Canceled != want.Canceled || w.Met != want.Met || !sameOutcomes(w.Outcomes, want.Outcomes) {
			c.violation("wave %d of job %q counts %+v, its executions have %+v", i+1, p.Name, *w, *want)
		}
	}
	if len(found.waves) > len(p.Waves) {
		c.violation("job %q has %d waves, its executions know %d", p.Name, len(p.Waves), len(found.waves))
	}
	for i, g := range p.Groups {
		n := 0
		for lane, open := range found.lanes {
			if lane < len(p.Lanes) && p.Lanes[lane].Groups&(1<<i) != 0 {
				n += open
			}
		}
		if g.InProgress != n {
			c.violation("job %q counts %d devices in progress in its pace group %d, there are %d", p.Name, g.InProgress, i, n)
		}
	}
}

func sameOutcomes(a, b outcomes) bool {
	return a.Sample == b.Sample && maps.Equal(a.Failing, b.Failing)
}

// ready checks the index of executions that only their job holds back: those that
// are there have to be queued, on a device on which nothing is under way, or only the
// offer of a lower priority.
func (c *checker) ready() error {
	var failed error
	err := c.Scan(indexExecReady, nil, nil, func(k, id []byte) bool {
		var e *executionRecord
		if e, failed = find[executionRecord](c, string(id)); failed != nil {
			return false
		}
		var current *executionRecord
		if e != nil && c.under[e.Device] != "" {
			if current, failed = find[executionRecord](c, c.under[e.Device]); failed != nil {
				return false
			}
		}
		switch {
		case e == nil:
			c.violation("index %s entry %q points to execution %q, which does not exist", indexExecReady, k, id)
		case string(e.readyKey()) != string(k):
			c.violation("index %s entry %q is not where execution %q belongs", indexExecReady, k, id)
		case e.State != schemas.StateQueued || e.Downloaded:
			c.violation("execution %q is %s and stands in index %s", id, e.State, indexExecReady)
		case current != nil && (current.State != schemas.StateOffered || current.Priority >= e.Priority):
			c.violation("execution %q stands in index %s, but execution %q of priority %d is %s on its device", id, indexExecReady, current.ID, current.Priority, current.State)
		}
		return true
	})
	return errors.Join(err, failed)
}

// lists checks the devices of jobs that are still to become executions, and
// those of executions that are still to be tried again.
func (c *checker) lists() error {
	return errors.Join(
		leftOver[[]string](c, tableTargets, "targets", func(p *progressRecord) bool { return p.State == JobDraft || p.has(taskStart) || p.has(taskCancel) }),
		leftOver[retryPart](c, tableRetries, "devices to retry", func(p *progressRecord) bool { return p.has(taskListed) || p.has(taskCancel) }),
	)
}

// leftOver checks the parts of a table's lists, and that the job that each
// belongs to is going to take them.
func leftOver[T any](c *checker, table Table, what string, expects func(*progressRecord) bool) error {
	left := map[string]bool{}
	if err := c.Scan(table, nil, nil, func(k, v []byte) bool {
		var part T
		if err := decode(v, &part); err != nil || len(k) < 9 {
			c.violation("record %s %q does not decode: %v", table, k, err)
			return true
		}
		left[string(k[:len(k)-9])] = true
		return true
	}); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		p, err := find[progressRecord](c, name)
		if err != nil {
			continue // reported with the records
		}
		if p == nil || !expects(p) {
			c.violation("job %q has %s left over, but nothing is left to do with them", name, what)
		}
	}
	return nil
}
