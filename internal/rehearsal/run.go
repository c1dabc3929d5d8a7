package rehearsal

import (
	"context"
	"errors"
	"time"

	"davit/orchestrator"
)

// run plays from moment to moment.
func (w *world) run(ctx context.Context) error {
	timer := w.start // of the service: it has something to do at once
	for {
		if w.moved || !timer.IsZero() && !timer.After(w.now()) {
			var err error
			if timer, err = w.settle(ctx); err != nil {
				return err
			}
			over, err := w.look(ctx)
			if err != nil || over {
				return err
			}
		}
		next, ok := w.next(timer)
		switch {
		case !ok:
			w.teller.add(w, EventEnd, 0, "nothing more happens by itself")
			return nil
		case next > w.cfg.Until:
			w.at = w.cfg.Until
			w.teller.sample(w.at)
			w.teller.add(w, EventEnd, 0, "the play ends after %s, before the job has come to its end", Span(w.cfg.Until))
			return nil
		}
		w.at = next
		w.teller.sample(w.at)
		if err := w.happen(ctx); err != nil {
			return err
		}
	}
}

// next is the next moment at which something happens. Timers are looked at at whole
// seconds as well, and never before they are due.
func (w *world) next(timer time.Time) (at time.Duration, ok bool) {
	if !timer.IsZero() {
		at, ok = max(w.at, (timer.Sub(w.start)+time.Second-1).Truncate(time.Second)), true
	}
	if len(w.queue) > 0 && (!ok || w.queue[0].at < at) {
		at, ok = w.queue[0].at, true
	}
	return at, ok
}

func (w *world) now() time.Time { return w.start.Add(w.at) }

// happen has everything happen that is due at this moment.
func (w *world) happen(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		e, ok := w.pop()
		if !ok {
			return nil
		}
		var err error
		switch {
		case e.act == actPhase && e.valid == e.d.valid:
			err = w.proceed(ctx, e.d)
		case e.act == actToggle:
			err = w.toggle(ctx, e.d)
		case e.act == actFall:
			err = w.fall(ctx, e.d, e.valid)
		case e.act == actPeople:
			w.moved = true
			err = e.do()
		}
		if err != nil {
			return err
		}
	}
}

// settle has the service do all that is due at this moment, and says when its next
// timer is due.
func (w *world) settle(ctx context.Context) (next time.Time, err error) {
	w.moved = false
	for {
		if next, err = w.service.Advance(ctx); err != nil {
			return next, err
		}
		n, err := w.service.PublishPending(ctx)
		if err != nil || n == 0 {
			return next, err
		}
	}
}

// look tells what has become of the job and says whether the play is over.
func (w *world) look(ctx context.Context) (over bool, err error) {
	job, err := w.service.Job(ctx, jobName)
	if err != nil {
		return false, err
	}
	if w.observe != nil {
		w.observe(job)
	}
	var back *orchestrator.Job
	if job.RollBackJob != "" {
		b, err := w.service.Job(ctx, job.RollBackJob)
		if err != nil && !errors.Is(err, orchestrator.ErrNotFound) {
			return false, err // it is named before it is made
		}
		if err == nil {
			back = &b
		}
	}
	w.teller.tell(w, &job, back)
	w.over = job.State == orchestrator.JobCompleted || job.State == orchestrator.JobCanceled
	w.ask(ctx, &job)
	if w.busy > 0 || w.falling > 0 {
		return false, nil
	}
	ended := func(j *orchestrator.Job) bool { return !j.CompletedAt.IsZero() }
	stands := job.State == orchestrator.JobPaused && job.InProgress == 0
	return (ended(&job) || stands) && (back == nil || ended(back)), nil
}

// ask has people do what the job waits for, after the time that they take.
func (w *world) ask(ctx context.Context, job *orchestrator.Job) {
	if job.State != orchestrator.JobRunning || job.Rollout == nil {
		return
	}
	for _, v := range job.Waves {
		if v.State == orchestrator.WaveApproval {
			w.once(asked{approve: v.Number}, func() error {
				_, err := w.service.ApproveWave(ctx, jobName, orchestrator.ApproveRequest{Wave: v.Number})
				return notNow(err)
			})
		}
	}
	switch r := job.Rollout; {
	case r.Action == orchestrator.ActionConfirm && r.ConfirmBy != orchestrator.ByProduct:
		w.once(asked{confirm: true}, func() error {
			_, err := w.service.ConfirmJob(ctx, jobName, orchestrator.DevicesRequest{})
			return notNow(err)
		})
	case w.held > 0:
		w.once(asked{install: w.installs + 1}, func() error {
			w.held = 0 // what is downloaded later is asked for anew
			w.installs++
			_, err := w.service.InstallJob(ctx, jobName, orchestrator.DevicesRequest{})
			return notNow(err)
		})
	}
}

// asked is something that people are asked for.
type asked struct {
	approve int // the wave
	confirm bool
	install int // for the how manieth time
}

// once has people do something, if they were not asked for it before.
func (w *world) once(what asked, do func() error) {
	if !w.asked[what] {
		w.asked[what] = true
		w.after(w.cfg.People, event{act: actPeople, do: do})
	}
}

// notNow is the error of what people wanted, without that it does not fit any more.
func notNow(err error) error {
	if errors.Is(err, orchestrator.ErrConflict) {
		return nil
	}
	return err
}
