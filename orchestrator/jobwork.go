package orchestrator

import (
	"context"
	"fmt"
)

// finishWork does what is left to do for a job and returns the job.
func (s *Service) finishWork(ctx context.Context, name string) (Job, error) {
	if err := s.work(ctx, name); err != nil {
		s.kickJobs()
		return Job{}, err
	}
	return s.Job(ctx, name)
}

// work runs the steps of a job's work until none is left. Each step is one
// transaction that finds out by itself where the work stands, so any number of
// callers may work on one job.
func (s *Service) work(ctx context.Context, name string) error {
	after := ""
	for {
		var left jobWork
		next := after
		_, err := s.commit(ctx, func(t *txn) error {
			p, err := t.job(name)
			if err != nil {
				return err
			}
			switch p.Work {
			case workStart:
				err = t.startPart(p)
			case workCancel:
				next, err = t.cancelPart(p, after)
			}
			left = p.Work
			return err
		})
		if err != nil || left == workNone {
			return err
		}
		after = next
	}
}

// startPart makes executions of the next part of a job's targets.
func (t *txn) startPart(p *progressRecord) error {
	var key, value []byte
	more := false
	if err := t.Scan(tableTargets, prefixOf(p.Name), nil, func(k, v []byte) bool {
		if key == nil {
			key, value = k, v
			return true
		}
		more = true
		return false
	}); err != nil {
		return err
	}
	if err := t.bump(p); err != nil {
		return err
	}
	if key != nil {
		var devices []string
		if err := decode(value, &devices); err != nil {
			return fmt.Errorf("targets of job %q do not decode: %w", p.Name, err)
		}
		if err := t.addExecutions(p, devices); err != nil {
			return err
		}
		if err := t.Delete(tableTargets, key); err != nil {
			return err
		}
	}
	if !more {
		p.Work = workNone
	}
	return nil
}

func (t *txn) addExecutions(p *progressRecord, devices []string) error {
	job, err := need[jobRecord](t, "job", p.Name)
	if err != nil {
		return err
	}
	image, err := need[Image](t, "image", job.Image)
	if err != nil {
		return err
	}
	for _, id := range devices {
		dev, err := find[Device](t, id)
		if err != nil {
			return err
		}
		if dev == nil {
			continue // deleted while the job was being created
		}
		e := Tracked{
			Execution: Execution{
				ID: newID("ex-"), Job: job.Name, Device: id, Image: image.ID, ImageType: image.ImageType,
				Version: image.Version, BytesTotal: image.Size,
			},
			Order: p.Seq<<32 | p.Added, MinVersion: image.MinVersion,
			IgnoreValidation: job.IgnoreValidation, SHA256: image.SHA256,
		}
		p.Added++
		if err := t.step(id, dev, Queue{e}); err != nil {
			return err
		}
	}
	return nil
}

// cancelPart cancels the job's next executions after the device named and
// drops targets that never became executions. It returns where to go on.
func (t *txn) cancelPart(p *progressRecord, after string) (string, error) {
	var cursor []byte
	if after != "" {
		cursor = keyOf(p.Name, after)
	}
	var ids, devices []string
	prefix := prefixOf(p.Name)
	if err := t.Scan(indexExecByJob, prefix, cursor, func(k, id []byte) bool {
		ids, devices = append(ids, string(id)), append(devices, string(k[len(prefix):]))
		return len(ids) < t.batch
	}); err != nil {
		return "", err
	}
	var parts [][]byte
	if err := t.Scan(tableTargets, prefix, nil, func(k, _ []byte) bool {
		parts = append(parts, k)
		return len(parts) < t.batch
	}); err != nil {
		return "", err
	}
	for i, id := range ids {
		dev, err := find[Device](t, devices[i])
		if err != nil {
			return "", err
		}
		if err := t.step(devices[i], dev, Cancel{id}); err != nil {
			return "", err
		}
	}
	for _, k := range parts {
		if err := t.Delete(tableTargets, k); err != nil {
			return "", err
		}
	}
	if err := t.bump(p); err != nil {
		return "", err
	}
	if len(ids) < t.batch && len(parts) < t.batch {
		p.Work, p.CompletedAt = workNone, t.now
		return "", nil
	}
	if len(devices) > 0 {
		after = devices[len(devices)-1]
	}
	return after, nil
}

func (s *Service) kickJobs() {
	select {
	case s.jobKick <- struct{}{}:
	default:
	}
}
