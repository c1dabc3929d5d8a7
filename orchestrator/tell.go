package orchestrator

import (
	"context"
	"log/slog"
	"time"

	"davit/schemas"
)

// stateChange says that an execution came from one state, "" if it is new, to another.
type stateChange struct {
	from schemas.State
	to   *Tracked // not to be changed
}

// tellStops logs and counts what was done to jobs by themselves.
func (s *Service) tellStops(stops []stopped) {
	for _, x := range stops {
		s.metrics.stopped(x.action)
		s.log.Warn("job stopped by itself", slog.String("job", x.job), slog.String("action", x.action), slog.String("reason", x.why))
	}
}

// tell logs and counts what changed. A new execution that is offered at once is one
// line in the log.
func (s *Service) tell(changes []stateChange) {
	logs := s.log.Enabled(context.Background(), slog.LevelInfo)
	for i, c := range changes {
		to := c.to
		s.metrics.transition(to.State, to.Cause)
		if n := len(to.History); n > 0 && c.from != "" && c.from != schemas.StateQueued && to.State == schemas.StateQueued {
			s.metrics.again(&to.History[n-1], !to.NotBefore.IsZero())
		}
		if !logs || c.from == "" && i+1 < len(changes) && changes[i+1].to.ID == to.ID {
			continue
		}
		from := c.from
		if i > 0 && changes[i-1].from == "" && changes[i-1].to.ID == to.ID {
			from = ""
		}
		s.logChange(from, to)
	}
}

// logChange writes a line about an execution: there are two at least for each one of
// every job, so it does without what the logger finds out about its caller, and has
// no more attributes than a record holds without memory of its own, unless there is a
// cause.
func (s *Service) logChange(from schemas.State, to *Tracked) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "execution changed", 0)
	r.AddAttrs(slog.String("job", to.Job), slog.String("device", to.Device), slog.String("execution", to.ID),
		slog.String("from", string(from)), slog.String("state", string(to.State)))
	if to.Cause != schemas.CauseNone || to.Detail != "" {
		r.AddAttrs(slog.String("cause", string(to.Cause)), slog.String("detail", to.Detail))
	}
	_ = s.log.Handler().Handle(context.Background(), r) // a log that fails has nowhere to say so
}
