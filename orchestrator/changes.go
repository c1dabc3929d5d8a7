package orchestrator

import (
	"context"
	"sync"
	"time"
)

// watch wakes those who wait for a job to change.
type watch struct {
	mu   sync.Mutex
	jobs map[string]*waiters
}

type waiters struct {
	changed chan struct{}
	n       int
}

func newWatch() *watch { return &watch{jobs: map[string]*waiters{}} }

// wait returns a channel that is closed at the job's next change, and a
// function to be called once when the caller waits no longer.
func (w *watch) wait(job string) (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ws := w.jobs[job]
	if ws == nil {
		ws = &waiters{changed: make(chan struct{})}
		w.jobs[job] = ws
	}
	ws.n++
	return ws.changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if ws.n--; ws.n == 0 && w.jobs[job] == ws {
			delete(w.jobs, job)
		}
	}
}

func (w *watch) notify(job string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ws := w.jobs[job]; ws != nil {
		close(ws.changed)
		delete(w.jobs, job)
	}
}

// Changes returns what changed in a job after revision since, 0 being before
// its creation. If nothing did, it waits for a change, at most the time given.
func (s *Service) Changes(ctx context.Context, job string, since uint64, wait time.Duration) (JobChanges, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		changed, done := s.watch.wait(job) // before reading, so that no change is missed
		c, err := s.changesNow(ctx, job, since)
		if err != nil || c.Rev > since || wait <= 0 {
			done()
			return c, err
		}
		select {
		case <-changed:
			done()
		case <-timeout.C:
			done()
			return c, nil
		case <-ctx.Done():
			done()
			return c, ctx.Err()
		}
	}
}

func (s *Service) changesNow(ctx context.Context, name string, since uint64) (JobChanges, error) {
	var c JobChanges
	err := s.store.View(ctx, func(r Reader) error {
		job, p, err := readJob(r, name)
		if err != nil {
			return err
		}
		c = JobChanges{Job: job, Rev: max(p.Rev, since), Executions: []Execution{}}
		if p.Rev <= since {
			c.Rev = p.Rev
			return nil
		}
		after := numbered(name, since)[len(name)+1:]
		recs, next, err := listIndex[executionRecord](r, indexExecChanges, name, Page{After: string(after), Limit: MaxPageLimit})
		c.Executions = executionsOf(recs)
		if next != "" {
			c.Rev = numberOf([]byte(next))
		}
		return err
	})
	return c, err
}
