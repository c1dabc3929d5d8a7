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
		if a.State.Final() {
			j.failed++
		}
	}
	j.forgotten = j.forgotten || e.Attempt > len(e.History)+1
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
		if a.State != schemas.StateQueued && !retryable(a.State) {
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
	if !maps.Equal(p.Causes, found.causes) {
		c.violation("job %q counts the causes %v, its executions have %v", p.Name, p.Causes, found.causes)
	}
	if found.rev > p.Rev {
		c.violation("job %q is at revision %d, one of its executions at %d", p.Name, p.Rev, found.rev)
	}
	c.historyOf(p.Name, found)
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
	case p.active() && len(p.Work) == 0 && open == 0:
		c.violation("job %q is %s, but all its executions have ended", p.Name, p.State)
	case p.State == JobCompleted && (open > 0 || len(p.Work) > 0):
		c.violation("job %q is completed, but %d of its executions have not ended", p.Name, open)
	case p.State == JobCanceled && len(p.Work) == 0 && open > 0:
		c.violation("job %q is canceled, but %d of its executions have not ended", p.Name, open)
	}
	return nil
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
