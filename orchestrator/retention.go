package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"davit/internal/logevent"
)

// Retention says for how long what nobody needs any more is kept; 0 is for ever.
type Retention struct {
	// Audit is for entries of the audit log, by when they were made.
	Audit time.Duration
	// Jobs is for jobs that have ended, with their executions, by when they did.
	Jobs time.Duration
	// ArchivedImages is for images that are archived and that no job names, by when
	// they were archived.
	ArchivedImages time.Duration
}

// MinKeepJobs is the shortest time for which ended jobs are kept: within a day of its
// success a device may fall back, which the job has to know of.
const MinKeepJobs = 48 * time.Hour

const (
	// retentionEvery is how often it is looked for what is kept no longer, and
	// retentionDelay how long after the start first: time enough to set a clock.
	retentionEvery = time.Hour
	retentionDelay = 10 * time.Minute
	// retentionPart is how much is deleted in one transaction.
	retentionPart = 128
)

// retentionLoop deletes what is kept no longer.
func (s *Service) retentionLoop(ctx context.Context) {
	if s.retention == (Retention{}) {
		return
	}
	for wait := retentionDelay; ; wait = retentionEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := s.Expire(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("not everything is deleted that is kept no longer; it is tried again in an hour", "event", logevent.RetentionFailed, slog.Any("error", err))
		}
	}
}

// Expire deletes what Options.Retention keeps no longer, in bounded transactions, each of
// which leaves a store in which everything agrees. Run does so by itself, every hour. While the clock has
// leapt ahead it deletes nothing (RetentionHeld).
func (s *Service) Expire(ctx context.Context) error {
	if good, err := s.believeClock(ctx); err != nil || !good {
		return err
	}
	var failed error
	for _, e := range []struct {
		what string
		keep time.Duration
		part func(context.Context, time.Time) (deleted int, more bool, err error)
	}{
		{"audit", s.retention.Audit, s.expireAudit},
		{"job", s.retention.Jobs, s.expireJob},
		{"image", s.retention.ArchivedImages, s.expireImages},
	} {
		if e.keep <= 0 {
			continue
		}
		all := 0
		for more := true; more; {
			var n int
			var err error
			n, more, err = e.part(ctx, s.now().Add(-e.keep))
			all += n
			s.metrics.expired(e.what, n)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", e.what, err))
				break
			}
		}
		if all > 0 {
			s.log.Info("what is kept no longer was deleted", "event", logevent.RetentionDeleted, "kind", e.what, "removed", all, "at_most", e.keep)
		}
	}
	return failed
}

// firstAudit is the number of the oldest entry of the audit log that is kept.
func firstAudit(r Reader) (uint64, error) {
	n, err := readNumber(r, metaAuditFirst)
	return max(n, 1), err
}

// expireAudit deletes the oldest entries of the audit log. It ends at the first one that
// is to be kept, in the order of their numbers: a clock that was wrong for a while
// deletes nothing out of order.
func (s *Service) expireAudit(ctx context.Context, before time.Time) (deleted int, more bool, err error) {
	_, err = s.commit(ctx, func(t *txn) error {
		deleted, more = 0, false
		first, err := firstAudit(t)
		if err != nil {
			return err
		}
		last, err := readNumber(t, metaAudit)
		if err != nil {
			return err
		}
		for ; first < last; first++ { // the newest stays: it says that there was something
			if deleted == retentionPart {
				more = true
				break
			}
			e, err := need[AuditEntry](t, "audit entry", string(revKey(^first)))
			if err != nil {
				return err
			}
			if !e.Time.Before(before) {
				break
			}
			if err := remove(t, e); err != nil {
				return err
			}
			deleted++
		}
		if deleted == 0 {
			return nil
		}
		return writeNumber(t, metaAuditFirst, first)
	})
	return deleted, more && err == nil, err
}

// expireJob deletes a part of the job that has ended first: executions, or, when there
// are no more, the job itself. A job of which executions are gone is marked, so that
// nothing else is done with it.
func (s *Service) expireJob(ctx context.Context, before time.Time) (deleted int, more bool, err error) {
	gone := ""
	_, err = s.commit(ctx, func(t *txn) error {
		deleted, more, gone = 0, false, ""
		name, err := expiredJob(t, before)
		if err != nil || name == "" {
			return err
		}
		more = true
		recs, _, err := listIndex[executionRecord](t, indexExecByJob, name, Page{Limit: retentionPart})
		if err != nil {
			return err
		}
		if deleted = len(recs); deleted > 0 {
			return t.expireExecutions(name, recs)
		}
		deleted, gone = 1, name
		return t.expireJob(name)
	})
	if gone != "" {
		s.plans.forget(gone)
	}
	return deleted, more && err == nil, err
}

// expiredJob is the job that ended first, if that was before a time and nothing of it is
// left to do.
func expiredJob(r Reader, before time.Time) (name string, err error) {
	var failed error
	err = r.Scan(indexJobEnded, nil, nil, func(k, id []byte) bool {
		if time.Unix(0, int64(numberOf(k[:8]))).After(before) {
			return false
		}
		var p *progressRecord
		if p, failed = need[progressRecord](r, "progress of job", string(id)); failed != nil {
			return false
		}
		if len(p.Work) == 0 && p.unfinished() == 0 {
			name = string(id)
		}
		return name == ""
	})
	return name, errors.Join(err, failed)
}

// expireExecutions deletes executions of a job that has ended.
func (t *txn) expireExecutions(job string, recs []executionRecord) error {
	p, err := t.job(job)
	if err != nil {
		return err
	}
	if err := t.needTotals(); err != nil {
		return err
	}
	for i := range recs {
		e := &recs[i]
		if err := remove(t, e); err != nil {
			return err
		}
		p.Counts[e.State]--
		t.totals[e.State]--
	}
	p.Expiring, t.counted = true, true
	return t.bump(p)
}

// expireJob deletes a job that has no executions any more.
func (t *txn) expireJob(name string) error {
	rec, err := need[jobRecord](t, "job", name)
	if err != nil {
		return err
	}
	p, err := need[progressRecord](t, "progress of job", name)
	if err != nil {
		return err
	}
	h, err := find[historyRecord](t, name)
	if err != nil {
		return err
	}
	if h != nil {
		err = remove(t, h)
	}
	return errors.Join(err, remove(t, rec), remove(t, p), t.audit("expire", KindJob, name, jobOf(rec, p), nil))
}

// expireImages deletes images that were archived long ago and that no job names.
func (s *Service) expireImages(ctx context.Context, before time.Time) (deleted int, more bool, err error) {
	var ids []string
	if err := s.store.View(ctx, func(r Reader) error {
		var failed error
		ids = nil
		err := r.Scan(indexImageArchived, nil, nil, func(_, id []byte) bool {
			var m *Image
			var job string
			if m, failed = need[Image](r, "image", string(id)); failed == nil && m.ArchivedAt.Before(before) {
				job, failed = anyUnder(r, indexJobByImage, m.ID)
				if failed == nil && job == "" {
					ids = append(ids, m.ID)
				}
			}
			return failed == nil && len(ids) < retentionPart
		})
		return errors.Join(err, failed)
	}); err != nil {
		return 0, false, err
	}
	for _, id := range ids {
		// It may have got a job, or have gone, meanwhile.
		switch err := s.DeleteImage(ctx, id); {
		case err == nil:
			deleted++
		case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound):
			return deleted, false, err
		}
	}
	return deleted, deleted == retentionPart, nil
}

// expiring refuses what would be done with a job that is being deleted.
func (p *progressRecord) expiring() error {
	if !p.Expiring {
		return nil
	}
	return fmt.Errorf("job %q: %w: it ended long ago and is being deleted; create a new job", p.Name, ErrConflict)
}
