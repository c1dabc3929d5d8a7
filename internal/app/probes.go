package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"davit/gateway"
	"davit/internal/machine"
)

const (
	// slowCommit is how long a commit may take before the service says that it is not ready: a
	// disk writes in milliseconds, and one that has to tidy up in a second or two.
	slowCommit = 10 * time.Second
	// stuckCommit and stuckRound are how long a commit, and a round of the rollout loop, may take
	// before nothing but a restart is thought to help. A round makes some hundreds of commits.
	stuckCommit = 2 * time.Minute
	stuckRound  = 5 * time.Minute
)

// checks are the conditions for being ready.
func (s *Server) checks() []gateway.Check {
	return []gateway.Check{
		{Name: "orchestrator", Remedy: "wait: it takes seconds for a large fleet", Healthy: func(context.Context) error {
			select {
			case <-s.service.Ready():
				return nil
			default:
				return errors.New("the records are being recovered")
			}
		}},
		{Name: "broker", Remedy: "devices get no offers and no images until the link stands again; look at the log, and at the broker if it is another program", Healthy: s.sessions.Health},
		{Name: "commits", Remedy: "look at the disk of the data folder (dmesg, iostat); nothing is lost, and the service goes on when it writes again",
			Healthy: notLonger(slowCommit, "a commit of records has been under way for %s: the disk is slow or hangs", s.committing)},
		{Name: "storage", Remedy: "make room on the disk of the data folder, or have it written again; the service goes on by itself (docs/datafolder.md)", Healthy: s.recorded,
			Detail: func(context.Context) string { return s.service.RetentionHeld() }},
		{Name: "running", Remedy: "wait for its end, or for the service that is started in its place", Healthy: func(context.Context) error {
			if s.stopping.Load() {
				return errors.New("the service is shutting down")
			}
			return nil
		}},
	}
}

// clockKept says whether an NTP client keeps the machine's clock.
func clockKept() bool {
	yes, known := machine.This().Synchronised()
	return yes && known
}

// vital are the conditions for being alive, which fail only when a restart is what helps.
func (s *Server) vital() []gateway.Check {
	const restart = "restart the service; keep its log, and a profile if --pprof is on, for a report"
	return []gateway.Check{
		{Name: "commits", Remedy: restart, Healthy: notLonger(stuckCommit, "a commit of records has been under way for %s", s.committing)},
		{Name: "rollouts", Remedy: restart, Healthy: notLonger(stuckRound, "the rollout loop has not come to the end of a round for %s", s.service.Advancing)},
	}
}

// notLonger is healthy while something takes no longer than a limit; the sentence says how long it does.
func notLonger(limit time.Duration, sentence string, took func() time.Duration) func(context.Context) error {
	return func(context.Context) error {
		if d := took(); d > limit {
			return fmt.Errorf(sentence, d.Round(time.Second))
		}
		return nil
	}
}
