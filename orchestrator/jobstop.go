package orchestrator

import (
	"maps"

	"davit/schemas"
)

// judgeEnds counts how an execution's attempts ended and applies the stop rules,
// in the same transaction: nothing is offered any more after the report that
// breaks a rule.
func (t *txn) judgeEnds(p *progressRecord, pl *plan, old *executionRecord, to *Tracked) error {
	var ended bool
	var failing schemas.Cause
	if old != nil {
		ended, failing = old.Ended, old.Failing
	}
	if to.Ended == ended && to.Failing == failing {
		return nil
	}
	first := to.Ended && !ended
	p.Outcomes.ended(first, failing, to.Failing)
	var wave *waveRecord
	if to.Wave > 0 {
		wave = &p.Waves[to.Wave-1]
		wave.Outcomes.ended(first, failing, to.Failing)
	}
	if pl == nil {
		return nil
	}
	for i := range pl.Stop {
		rule := &pl.Stop[i]
		if !p.active() {
			return nil
		}
		now, base, over := p.Outcomes, p.Forgiven, ""
		if rule.Over == OverWave && wave != nil {
			now, base, over = wave.Outcomes, wave.Forgiven, " in "+pl.Waves[to.Wave-1].title()
		}
		if why, broken := rule.broken(now, base); broken {
			if err := t.stop(p, rule, why+over); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop does what a stop rule says.
func (t *txn) stop(p *progressRecord, rule *StopRule, why string) error {
	if rule.Action != StopAbort && rule.Action != StopRecall {
		if p.State == JobPaused {
			return nil
		}
		return t.pauseFor(p, why)
	}
	return t.byItself(p, stopActionCancel, func() {
		p.State, p.Reason, p.RollBack = JobCanceled, why, rule.RollBack
		p.Work = []jobTask{{Kind: taskCancel, Finish: rule.Action == StopAbort, Why: "the job was stopped: " + why}}
	})
}

// pauseFor pauses a job for a reason of its own.
func (t *txn) pauseFor(p *progressRecord, why string) error {
	return t.byItself(p, stopActionPause, func() {
		p.State, p.Reason = JobPaused, why
		p.add(jobTask{Kind: taskSettle})
	})
}

// What the service does to a job by itself, as the audit log and the metrics say it.
const (
	stopActionPause  = "pause"
	stopActionCancel = "cancel"
)

// byItself has the service do something to a job that people could have done.
func (t *txn) byItself(p *progressRecord, action string, do func()) error {
	rec, err := need[jobRecord](t, "job", p.Name)
	if err != nil {
		return err
	}
	before := jobOf(rec, p)
	do()
	delete(t.views, p.Name)
	if err := t.bump(p); err != nil {
		return err
	}
	t.out.stops = append(t.out.stops, stopped{p.Name, action, p.Reason})
	actor := t.actor
	t.actor = Actor{Name: ActorSystem, Kind: ActorSystem}
	defer func() { t.actor = actor }()
	return t.audit(action, KindJob, p.Name, before, jobOf(rec, p))
}

// stopped is a job that the service paused or canceled by itself.
type stopped struct{ job, action, why string }

// forgive has stop rules count anew, because a person lets the job go on.
func (p *progressRecord) forgive() {
	p.Forgiven = p.Outcomes.clone()
	for i := range p.Waves {
		p.Waves[i].Forgiven = p.Waves[i].Outcomes.clone()
	}
}

func (o outcomes) clone() outcomes { return outcomes{o.Sample, maps.Clone(o.Failing)} }
