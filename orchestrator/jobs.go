package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"davit/schemas"
)

// namedInError is how many devices an error spells out.
const namedInError = 10

func (s JobState) open() bool { return s == JobDraft || s == JobRunning }

// jobOf joins the two records of a job.
func jobOf(rec *jobRecord, p *progressRecord) Job {
	counts := make(map[schemas.State]int, len(schemas.States()))
	for _, st := range schemas.States() {
		counts[st] = p.Counts[st]
	}
	return Job{
		Name: rec.Name, Image: rec.Image, State: p.State, Devices: rec.Devices, Groups: rec.Groups, Query: rec.Query,
		Description: rec.Description, Targets: rec.Targets, IgnoreValidation: rec.IgnoreValidation, Counts: counts,
		Causes: maps.Clone(p.Causes), Revision: rec.Revision, CreatedAt: rec.CreatedAt,
		StartedAt: p.StartedAt, CompletedAt: p.CompletedAt,
	}
}

func readJob(r Reader, name string) (Job, *progressRecord, error) {
	rec, err := need[jobRecord](r, "job", name)
	if err != nil {
		return Job{}, nil, err
	}
	p, err := need[progressRecord](r, "progress of job", name)
	if err != nil {
		return Job{}, nil, err
	}
	return jobOf(rec, p), p, nil
}

// CreateJob makes a job for the devices that n names and those that its groups
// have now, and starts it if asked to. ErrInvalid names devices whose type is
// not among the image's.
func (s *Service) CreateJob(ctx context.Context, n NewJob) (Job, error) {
	if err := n.validate(); err != nil {
		return Job{}, err
	}
	var targets []string
	if err := s.store.View(ctx, func(r Reader) (err error) {
		targets, err = resolve(r, n)
		return err
	}); err != nil {
		return Job{}, err
	}
	var job Job
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		if err := vacant[jobRecord](t, "job", n.Name); err != nil {
			return err
		}
		if _, err := need[Image](t, "image", n.Image); err != nil {
			return err
		}
		rec := &jobRecord{
			Name: n.Name, Image: n.Image, Devices: n.Devices, Groups: n.Groups,
			Query: n.Query, Description: n.Description, Targets: len(targets),
			IgnoreValidation: n.IgnoreValidation, Revision: 1, CreatedAt: t.now,
		}
		p := &progressRecord{Name: n.Name, State: JobDraft, Counts: map[schemas.State]int{}}
		if err := t.bump(p); err != nil {
			return err
		}
		job = jobOf(rec, p)
		if err := t.putTargets(n.Name, targets); err != nil {
			return err
		}
		return errors.Join(put(t, nil, rec), put(t, nil, p))
	})
	if err != nil || !n.Start {
		return job, err
	}
	return s.StartJob(ctx, n.Name)
}

// resolve returns a job's devices in order and checks that each exists and
// takes the image.
func resolve(r Reader, n NewJob) ([]string, error) {
	image, err := need[Image](r, "image", n.Image)
	if err != nil {
		return nil, err
	}
	targets := slices.Clone(n.Devices)
	for _, id := range n.Groups {
		g, err := need[Group](r, "group", id)
		if err != nil {
			return nil, err
		}
		targets = append(targets, g.Devices...)
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if len(targets) == 0 {
		return nil, invalid("the job has no device; name devices, or groups that have some")
	}
	if len(targets) > MaxJobDevices {
		return nil, invalid("the job has %d devices, at most %d are allowed", len(targets), MaxJobDevices)
	}
	var wrong []string
	for _, id := range targets {
		d, err := need[Device](r, "device", id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(image.DeviceTypes, d.Type) {
			wrong = append(wrong, fmt.Sprintf("%s (%s)", id, d.Type))
		}
	}
	if len(wrong) == 0 {
		return targets, nil
	}
	more := ""
	if len(wrong) > namedInError {
		more = fmt.Sprintf(" and %d more", len(wrong)-namedInError)
		wrong = wrong[:namedInError]
	}
	return nil, invalid("image %q is for device types %s; it does not fit %s%s", n.Image,
		strings.Join(image.DeviceTypes, ", "), strings.Join(wrong, ", "), more)
}

func (t *txn) putTargets(job string, targets []string) error {
	n := uint64(0)
	for part := range slices.Chunk(targets, t.batch) {
		b, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if err := t.Put(tableTargets, numbered(job, n), b); err != nil {
			return err
		}
		n++
	}
	return nil
}

// StartJob starts a draft: its devices become executions, in transactions of
// bounded size, which Run finishes if the caller or the process goes away.
// Starting a running job changes nothing.
func (s *Service) StartJob(ctx context.Context, name string) (Job, error) {
	_, err := s.commit(ctx, func(t *txn) error {
		p, err := t.job(name)
		if err != nil {
			return err
		}
		switch p.State {
		case JobRunning:
			return nil
		case JobDraft:
		default:
			return fmt.Errorf("job %q: %w: it is %s and cannot be started; create a new job", name, ErrConflict, p.State)
		}
		if p.Seq, err = nextJobSeq(t); err != nil {
			return err
		}
		p.State, p.Work, p.StartedAt = JobRunning, workStart, t.now
		return t.bump(p)
	})
	if err != nil {
		return Job{}, err
	}
	return s.finishWork(ctx, name)
}

// CancelJob ends a job: executions that have not ended are canceled, in
// transactions of bounded size, which Run finishes if the caller or the process
// goes away. Canceling a canceled job changes nothing.
func (s *Service) CancelJob(ctx context.Context, name string) (Job, error) {
	_, err := s.commit(ctx, func(t *txn) error {
		p, err := t.job(name)
		if err != nil {
			return err
		}
		switch p.State {
		case JobCanceled:
			return nil
		case JobCompleted:
			return fmt.Errorf("job %q: %w: it is completed, there is nothing to cancel", name, ErrConflict)
		}
		p.State, p.Work = JobCanceled, workCancel
		return t.bump(p)
	})
	if err != nil {
		return Job{}, err
	}
	return s.finishWork(ctx, name)
}

// Job returns one job with its counts.
func (s *Service) Job(ctx context.Context, name string) (Job, error) {
	var job Job
	err := s.store.View(ctx, func(r Reader) (err error) {
		job, _, err = readJob(r, name)
		return err
	})
	return job, err
}

// Jobs lists jobs by name.
func (s *Service) Jobs(ctx context.Context, _ JobFilter, p Page) ([]Job, string, error) {
	var out []Job
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		out = []Job{}
		recs, n, err := listRecords[jobRecord](r, p)
		if err != nil {
			return err
		}
		next = n
		for i := range recs {
			pr, err := need[progressRecord](r, "progress of job", recs[i].Name)
			if err != nil {
				return err
			}
			out = append(out, jobOf(&recs[i], pr))
		}
		return nil
	})
	return out, next, err
}

// JobExecutions lists a job's executions by device.
func (s *Service) JobExecutions(ctx context.Context, name string, _ ExecutionFilter, p Page) ([]Execution, string, error) {
	var out []Execution
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		if _, err := need[jobRecord](r, "job", name); err != nil {
			return err
		}
		recs, n, err := listIndex[executionRecord](r, indexExecByJob, name, p, nil)
		out, next = executionsOf(recs), n
		return err
	})
	return out, next, err
}

// Execution returns one execution.
func (s *Service) Execution(ctx context.Context, id string) (Execution, error) {
	rec, err := one[executionRecord](ctx, s.store, "execution", id)
	return rec.Execution, err
}
