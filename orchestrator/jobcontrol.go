package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// control is what people do to a job. ask changes the job's progress, and says
// false if there is nothing to do; the work that it leaves is begun at once and
// finished by Run.
func (s *Service) control(ctx context.Context, name, action string, ask func(*txn, *jobRecord, *progressRecord) (bool, error)) (Job, error) {
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[jobRecord](t, "job", name)
		if err != nil {
			return err
		}
		p, err := t.job(name)
		if err != nil {
			return err
		}
		before := jobOf(rec, p)
		changed, err := ask(t, rec, p)
		if err != nil || !changed {
			return err
		}
		t.progress[name].moved = true
		if err := t.bump(p); err != nil {
			return err
		}
		return t.audit(action, KindJob, name, before, jobOf(rec, p))
	})
	if err != nil {
		return Job{}, err
	}
	return s.finishWork(ctx, name)
}

// unfit refuses what cannot be asked of a job in its state.
func (p *progressRecord) unfit(format string, args ...any) error {
	return fmt.Errorf("job %q: %w: "+format, append([]any{p.Name, ErrConflict}, args...)...)
}

// StartJob starts a draft: its devices become executions, in transactions of
// bounded size. The first of them are done when it returns, the others are
// Run's. Starting a running job changes nothing.
func (s *Service) StartJob(ctx context.Context, name string) (Job, error) {
	return s.control(ctx, name, "start", func(t *txn, _ *jobRecord, p *progressRecord) (bool, error) {
		switch p.State {
		case JobRunning:
			return false, nil
		case JobDraft:
			return true, t.begin(p)
		case JobPaused:
			return false, p.unfit("it is paused and cannot be started; resume it")
		}
		return false, p.unfit("it is %s and cannot be started; create a new job", p.State)
	})
}

// begin starts a job.
func (t *txn) begin(p *progressRecord) (err error) {
	if p.Seq, err = nextJobSeq(t); err != nil {
		return err
	}
	p.State, p.StartedAt = JobRunning, t.now
	t.out.started = append(t.out.started, startedJob{p.Name, p.StartedAt})
	if len(p.Waves) > 0 {
		p.release(t.now)
	}
	p.add(jobTask{Kind: taskStart})
	if p.Continuous {
		p.add(jobTask{Kind: taskMatch}) // who came between the creation and now
	}
	return nil
}

// PauseJob keeps a running job from being offered to any more devices, at once.
// Offers that no device has accepted are withdrawn, in transactions of bounded
// size as for StartJob; what was accepted goes on. Pausing a paused job changes
// nothing.
func (s *Service) PauseJob(ctx context.Context, name string) (Job, error) {
	return s.control(ctx, name, "pause", func(_ *txn, _ *jobRecord, p *progressRecord) (bool, error) {
		switch p.State {
		case JobPaused:
			return false, nil
		case JobRunning:
			p.State, p.Reason = JobPaused, ""
			p.add(jobTask{Kind: taskSettle})
			return true, nil
		case JobDraft:
			return false, p.unfit("it was not started, there is nothing to pause")
		}
		return false, p.unfit("it is %s, there is nothing to pause", p.State)
	})
}

// ResumeJob lets a paused job go on; stop rules count from there anew. Resuming a
// running job changes nothing.
func (s *Service) ResumeJob(ctx context.Context, name string) (Job, error) {
	return s.control(ctx, name, "resume", func(_ *txn, rec *jobRecord, p *progressRecord) (bool, error) {
		switch p.State {
		case JobRunning:
			return false, nil
		case JobPaused:
			p.State, p.Reason = JobRunning, ""
			p.forgive()
			p.add(jobTask{Kind: taskPull})
			if rec.Rollout == nil {
				// A store that is older than the index of what is ready has it nowhere else.
				p.add(jobTask{Kind: taskQueued})
			}
			return true, nil
		case JobDraft:
			return false, p.unfit("it was not started; start it")
		}
		return false, p.unfit("it is %s, there is nothing to resume", p.State)
	})
}

// CancelJob ends a job: executions that have not ended are canceled, or only
// those that no device has accepted, in transactions of bounded size as for
// StartJob. Canceling a canceled job changes nothing, but that what was to finish
// is recalled if that is asked for now.
func (s *Service) CancelJob(ctx context.Context, name string, r CancelRequest) (Job, error) {
	return s.control(ctx, name, "cancel", func(_ *txn, _ *jobRecord, p *progressRecord) (bool, error) {
		switch p.State {
		case JobCanceled:
			if r.Finish || p.unfinished() == 0 || slices.ContainsFunc(p.Work, func(t jobTask) bool { return t.Kind == taskCancel && !t.Finish }) {
				return false, nil
			}
		case JobCompleted:
			return false, p.unfit("it is completed, there is nothing to cancel")
		}
		p.State, p.Reason = JobCanceled, ""
		p.Work = []jobTask{{Kind: taskCancel, Finish: r.Finish}}
		return true, nil
	})
}

// RetryJob has executions tried again that ended without success and were not
// canceled: all of the job's, or those of the devices named. A completed job
// runs again; a paused one stays paused. Devices that were deleted since, or whose
// type the image does not fit any more, are left out. ErrConflict if there is
// nothing to try again.
func (s *Service) RetryJob(ctx context.Context, name string, r RetryRequest) (Job, error) {
	if err := distinct("devices", r.Devices, MaxJobDevices); err != nil {
		return Job{}, err
	}
	return s.control(ctx, name, "retry", func(t *txn, rec *jobRecord, p *progressRecord) (bool, error) {
		switch p.State {
		case JobDraft:
			return false, p.unfit("it was not started; start it")
		case JobCanceled:
			return false, p.unfit("it is canceled and cannot be retried; create a new job")
		}
		image, err := need[Image](t, "image", rec.Image)
		if err != nil {
			return false, err
		}
		if !image.ArchivedAt.IsZero() {
			return false, p.unfit("image %q is archived; restore it first", rec.Image)
		}
		pl, err := t.plan(rec.Name)
		if err != nil {
			return false, err
		}
		if p.Ended || pl.past(t.now) {
			return false, p.unfit("its end has passed, nothing is offered any more; create a new job")
		}
		if err := t.askRetry(p, r.Devices); err != nil {
			return false, err
		}
		if p.State == JobCompleted {
			p.State, p.CompletedAt = JobRunning, time.Time{}
		}
		return true, nil
	})
}

// askRetry notes what is to be tried again, as of a revision of its own.
func (t *txn) askRetry(p *progressRecord, devices []string) error {
	if err := t.bump(p); err != nil {
		return err
	}
	if len(devices) == 0 {
		n := 0
		for _, state := range retryStates() {
			n += p.Counts[state]
		}
		if n == 0 {
			return p.unfit("none of its executions has failed, there is nothing to retry")
		}
		p.add(jobTask{Kind: taskRetry, Rev: p.Rev})
		return nil
	}
	var failed []string
	for i, device := range devices {
		id, err := t.Get(indexExecByJob, keyOf(p.Name, device))
		if err != nil {
			return err
		}
		e, err := find[executionRecord](t, string(id))
		switch {
		case err != nil:
			return err
		case e == nil:
			return invalidField(fmt.Sprintf("devices/%d", i), "job %q has no execution on device %q", p.Name, device)
		case retryable(e.State):
			failed = append(failed, device)
		}
	}
	if len(failed) == 0 {
		return p.unfit("none of the devices has failed, there is nothing to retry")
	}
	for part := range slices.Chunk(failed, t.batch) {
		n, err := t.nextRev()
		if err != nil {
			return err
		}
		if err := putJSON(t, tableRetries, numbered(p.Name, n), retryPart{Rev: p.Rev, Devices: part}); err != nil {
			return err
		}
	}
	p.add(jobTask{Kind: taskListed})
	return nil
}
