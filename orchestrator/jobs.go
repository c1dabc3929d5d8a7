package orchestrator

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"davit/schemas"
)

func (s JobState) valid() bool {
	return slices.Contains([]JobState{JobDraft, JobRunning, JobPaused, JobCompleted, JobCanceled}, s)
}

func (s JobState) open() bool { return s == JobDraft || s == JobRunning || s == JobPaused }

// active says whether the job was started and has not ended.
func (p *progressRecord) active() bool { return p.State == JobRunning || p.State == JobPaused }

// jobOf joins the two records of a job.
func jobOf(rec *jobRecord, p *progressRecord) Job {
	counts := make(map[schemas.State]int, len(schemas.States()))
	for _, st := range schemas.States() {
		counts[st] = p.Counts[st]
	}
	var waves []WaveStatus
	for i := range p.Waves {
		waves = append(waves, p.waveStatus(&rec.Rollout.Waves[i], i+1))
	}
	var next time.Time
	if p.State == JobRunning {
		next = p.WaitsUntil
	}
	return Job{
		Name: rec.Name, Image: rec.Image, State: p.State, Devices: rec.Devices, Groups: rec.Groups, Query: rec.Query,
		Description: rec.Description, Targets: rec.Targets + p.Joined, IgnoreValidation: rec.IgnoreValidation, Counts: counts,
		Rollout: rec.Rollout, Wave: p.Wave, Waves: waves, InProgress: p.inProgress(), Retries: p.Retries,
		Reason: p.Reason, Waiting: p.waiting(rec), NextAt: next, RollBackJob: p.RollBackJob,
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

// Job returns one job with its counts.
func (s *Service) Job(ctx context.Context, name string) (Job, error) {
	var job Job
	err := s.store.View(ctx, func(r Reader) (err error) {
		job, _, err = readJob(r, name)
		return err
	})
	return job, err
}

// UpdateJob changes a job's description.
func (s *Service) UpdateJob(ctx context.Context, name string, patch JobPatch) (Job, error) {
	if patch.Description != nil {
		if err := checkText("description", *patch.Description, maxDescription, true); err != nil {
			return Job{}, err
		}
	}
	var job Job
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[jobRecord](t, "job", name)
		if err != nil {
			return err
		}
		if err := patch.check("job", name, old.Revision); err != nil {
			return err
		}
		p, err := t.job(name)
		if err != nil {
			return err
		}
		rec := *old
		set(&rec.Description, patch.Description)
		rec.Revision++
		if err := t.bump(p); err != nil {
			return err
		}
		job = jobOf(&rec, p)
		if err := t.audit("update", KindJob, name, jobOf(old, p), job); err != nil {
			return err
		}
		return put(t, old, &rec)
	})
	return job, err
}

// jobScan is how many jobs one page of a listing looks at.
const jobScan = 2000

// Jobs lists jobs, the newest first. A filter by image reads an index; a page
// looks at a bounded number of jobs, so that it may be short, or empty, and still
// have a next one.
func (s *Service) Jobs(ctx context.Context, f JobFilter, p Page) ([]Job, string, error) {
	if f.State != "" && !f.State.valid() {
		return nil, "", invalidField("state", "%q is not one of draft, running, paused, completed and canceled", f.State)
	}
	index, prefix := indexJobByTime, []byte(nil)
	if f.Image != "" {
		if err := checkID("image", f.Image); err != nil {
			return nil, "", err
		}
		index, prefix = indexJobByImage, prefixOf(f.Image)
	}
	after, err := hex.DecodeString(p.After)
	if err != nil {
		return nil, "", invalidField("after", "not a cursor of this listing")
	}
	f.Text = strings.ToLower(f.Text)
	var out []Job
	var next string
	err = s.store.View(ctx, func(r Reader) (err error) {
		out, next, err = scanJobs(r, index, prefix, after, f, p.limit())
		return err
	})
	return out, next, err
}

func scanJobs(r Reader, index Table, prefix, after []byte, f JobFilter, limit int) ([]Job, string, error) {
	if len(after) > 0 {
		after = slices.Concat(prefix, after)
	} else {
		after = nil
	}
	items, next := []Job{}, ""
	var last []byte
	var failed error
	looked := 0
	err := r.Scan(index, prefix, after, func(k, name []byte) bool {
		if len(items) == limit || looked == jobScan {
			next = hex.EncodeToString(last)
			return false
		}
		looked++
		last = k[len(prefix):]
		var job Job
		if job, _, failed = readJob(r, string(name)); failed != nil {
			return false
		}
		if f.matches(&job) {
			items = append(items, job)
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return items, next, err
}

// matches expects the text in lower case.
func (f *JobFilter) matches(j *Job) bool {
	return (f.State == "" || f.State == j.State) &&
		(f.Text == "" || strings.Contains(strings.ToLower(j.Name), f.Text) || strings.Contains(strings.ToLower(j.Description), f.Text))
}

// JobExecutions lists a job's executions by device. The cursor is a device, so
// it stays good when executions change their state between two pages.
func (s *Service) JobExecutions(ctx context.Context, name string, f ExecutionFilter, p Page) ([]Execution, string, error) {
	for i, state := range f.States {
		if !state.Valid() {
			return nil, "", invalidField(fmt.Sprintf("state/%d", i), "%q is not a state of an execution", state)
		}
	}
	var out []Execution
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		if _, err := need[progressRecord](r, "job", name); err != nil {
			return err
		}
		var recs []executionRecord
		var err error
		if len(f.States) == 0 {
			recs, next, err = listIndex[executionRecord](r, indexExecByJob, name, p)
		} else {
			recs, next, err = executionsIn(r, name, f.States, p)
		}
		out = executionsOf(recs)
		return err
	})
	return out, next, err
}

// executionsIn reads a page of a job's executions that are in one of the states:
// the next ones of each state, of which the first by device make the page.
func executionsIn(r Reader, job string, states []schemas.State, p Page) ([]executionRecord, string, error) {
	states = slices.Clone(states)
	slices.Sort(states)
	var found []indexed
	for _, state := range slices.Compact(states) {
		after := ""
		if p.After != "" {
			after = indexed{state: string(state), device: p.After}.at()
		}
		more, err := inStates(r, job, []schemas.State{state}, after, p.limit()+1)
		if err != nil {
			return nil, "", err
		}
		found = append(found, more...)
	}
	slices.SortFunc(found, func(a, b indexed) int { return strings.Compare(a.device, b.device) })
	next := ""
	if len(found) > p.limit() {
		found = found[:p.limit()]
		next = found[len(found)-1].device
	}
	items := make([]executionRecord, 0, len(found))
	for _, x := range found {
		rec, err := need[executionRecord](r, "execution", x.id)
		if err != nil {
			return nil, "", err
		}
		items = append(items, *rec)
	}
	return items, next, nil
}

// Execution returns one execution.
func (s *Service) Execution(ctx context.Context, id string) (Execution, error) {
	rec, err := one[executionRecord](ctx, s.store, "execution", id)
	return rec.Execution, err
}
