package orchestrator

import (
	"context"
	"log/slog"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// stateChange says that an execution came from one state, "" if it is new, to another,
// with what is told of it: the record itself is used again.
type stateChange struct {
	from, to               schemas.State
	job, device, execution string
	cause                  schemas.Cause
	detail                 string
	// ended is the attempt that it came to the queue from, if it did, and delayed
	// whether the next one has to wait.
	ended   *Attempt
	delayed bool
}

func changeOf(from schemas.State, to *Tracked) stateChange {
	c := stateChange{from: from, to: to.State, job: to.Job, device: to.Device, execution: to.ID, cause: to.Cause, detail: to.Detail}
	if n := len(to.History); n > 0 && from != "" && from != schemas.StateQueued && to.State == schemas.StateQueued {
		c.ended, c.delayed = &to.History[n-1], !to.NotBefore.IsZero()
	}
	return c
}

// tellStops logs and counts what was done to jobs by themselves.
func (s *Service) tellStops(stops []stopped) {
	for _, x := range stops {
		s.metrics.stopped(x.action)
		s.log.Warn("job stopped by itself", "event", logevent.JobStopped, slog.String("job", x.job), slog.String("action", x.action), slog.String("reason", x.why))
	}
}

// tell logs and counts what changed. A new execution that is offered at once is one
// line in the log.
func (s *Service) tell(changes []stateChange) {
	logs := s.log.Enabled(context.Background(), slog.LevelInfo)
	for i := range changes {
		c := &changes[i]
		s.metrics.transition(c.to, c.cause)
		if c.ended != nil {
			s.metrics.again(c.ended, c.delayed)
		}
		if !logs || c.from == "" && i+1 < len(changes) && changes[i+1].execution == c.execution {
			continue
		}
		from := c.from
		if i > 0 && changes[i-1].from == "" && changes[i-1].execution == c.execution {
			from = ""
		}
		s.logChange(from, c)
	}
}

// logChange writes a line about an execution: there are two at least for each one of
// every job, so it does without what the logger finds out about its caller, and has
// no more attributes than a record holds without memory of its own, unless there is a
// cause.
func (s *Service) logChange(from schemas.State, c *stateChange) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "execution changed", 0)
	r.AddAttrs(logevent.Execution(string(c.to)).Attr(), slog.String("job", c.job), slog.String("device", c.device), slog.String("execution", c.execution),
		slog.String("from", string(from)))
	if c.cause != schemas.CauseNone || c.detail != "" {
		r.AddAttrs(slog.String("cause", string(c.cause)), slog.String("detail", c.detail))
	}
	_ = s.log.Handler().Handle(context.Background(), r) // a log that fails has nowhere to say so
}
