package orchestrator

import (
	"context"
	"maps"
	"slices"
	"time"

	"davit/schemas"
)

const (
	// historyPoints is how many steps a job's history has at most.
	historyPoints = 120
	// historyStep is the length of a step at first.
	historyStep = time.Second
)

// historyRecord counts how a job's executions ended over time. When it is full
// two steps become one, so that it never grows, however long the job takes.
type historyRecord struct {
	Job       string    `json:"job"`
	Start     time.Time `json:"start"`
	Step      Duration  `json:"step"`
	Succeeded []int     `json:"succeeded"`
	Failed    []int     `json:"failed"`
}

func (h *historyRecord) table() Table       { return tableHistory }
func (h *historyRecord) id() string         { return h.Job }
func (h *historyRecord) entries() []entry   { return nil }
func (h *historyRecord) counters() []string { return nil }

// add counts an execution that ended at a time.
func (h *historyRecord) add(at time.Time, succeeded bool) {
	since := max(0, at.Sub(h.Start)) // a clock that was set back
	for since/time.Duration(h.Step) >= historyPoints {
		h.Succeeded, h.Failed = halved(h.Succeeded), halved(h.Failed)
		h.Step *= 2
	}
	i := int(since / time.Duration(h.Step))
	for len(h.Succeeded) <= i {
		h.Succeeded, h.Failed = append(h.Succeeded, 0), append(h.Failed, 0)
	}
	if succeeded {
		h.Succeeded[i]++
	} else {
		h.Failed[i]++
	}
}

func halved(counts []int) []int {
	out := make([]int, (len(counts)+1)/2)
	for i, n := range counts {
		out[i/2] += n
	}
	return out
}

// tellEnd counts the end of an execution, or takes back the cause of one that
// is tried again.
func (t *txn) tellEnd(p *progressRecord, old *executionRecord, to *Tracked) error {
	if old != nil && old.Cause != schemas.CauseNone {
		if p.Causes[old.Cause]--; p.Causes[old.Cause] == 0 {
			delete(p.Causes, old.Cause)
		}
	}
	if !to.State.Final() || to.State == schemas.StateSucceeded && to.Version != to.goal() {
		return nil // a step on the way is no end
	}
	if to.Cause != schemas.CauseNone {
		if p.Causes == nil {
			p.Causes = map[schemas.Cause]int{}
		}
		p.Causes[to.Cause]++
	}
	h := t.history[p.Name]
	if h == nil {
		var err error
		if h, err = find[historyRecord](t, p.Name); err != nil {
			return err
		}
		if h == nil {
			h = &historyRecord{Job: p.Name, Start: p.StartedAt, Step: Duration(historyStep)}
		}
		if t.history == nil {
			t.history = map[string]*historyRecord{}
		}
		t.history[p.Name] = h
	}
	h.add(t.now, to.State == schemas.StateSucceeded)
	return nil
}

// flushHistory writes the histories that the transaction changed.
func (t *txn) flushHistory() error {
	for _, job := range slices.Sorted(maps.Keys(t.history)) {
		if err := put(t, nil, t.history[job]); err != nil {
			return err
		}
	}
	clear(t.history)
	return nil
}

// JobHistory returns how a job's executions ended over time: at most 120 steps
// from its start on. An execution that is tried again counts once for each end.
func (s *Service) JobHistory(ctx context.Context, name string) (JobHistory, error) {
	var out JobHistory
	err := s.store.View(ctx, func(r Reader) error {
		p, err := need[progressRecord](r, "job", name)
		if err != nil {
			return err
		}
		out = JobHistory{Start: p.StartedAt, Step: Duration(historyStep), Points: []HistoryPoint{}}
		h, err := find[historyRecord](r, name)
		if err != nil || h == nil {
			return err
		}
		out.Start, out.Step = h.Start, h.Step
		for i := range h.Succeeded {
			out.Points = append(out.Points, HistoryPoint{h.Succeeded[i], h.Failed[i]})
		}
		return nil
	})
	return out, err
}
