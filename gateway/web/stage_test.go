package web

import (
	"context"
	"slices"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/schemas"
)

// stage is the service with jobs brought to states that take days of a rollout to
// reach: what edit changes is shown, and what is asked of the service is noted.
type stage struct {
	*orchestrator.Service
	edit    map[string]func(*orchestrator.Job)
	members map[string][]orchestrator.WaveMember // by job
	entries map[string][]orchestrator.AuditEntry // by job
	preview func(orchestrator.NewJob) (orchestrator.JobPreview, error)
	asked   []any
}

func (s *stage) show(j orchestrator.Job) orchestrator.Job {
	if edit := s.edit[j.Name]; edit != nil {
		edit(&j)
	}
	return j
}

func (s *stage) Job(ctx context.Context, name string) (orchestrator.Job, error) {
	j, err := s.Service.Job(ctx, name)
	return s.show(j), err
}

func (s *stage) Jobs(ctx context.Context, f orchestrator.JobFilter, p orchestrator.Page) ([]orchestrator.Job, string, error) {
	state := f.State
	f.State = ""
	list, next, err := s.Service.Jobs(ctx, f, p)
	for i := range list {
		list[i] = s.show(list[i])
	}
	return slices.DeleteFunc(list, func(j orchestrator.Job) bool { return state != "" && j.State != state }), next, err
}

func (s *stage) WaveMembers(ctx context.Context, name string, wave int, p orchestrator.Page) ([]orchestrator.WaveMember, string, error) {
	if s.edit[name] == nil {
		return s.Service.WaveMembers(ctx, name, wave, p)
	}
	return s.members[name], "", nil
}

func (s *stage) JobExecutions(ctx context.Context, name string, f orchestrator.ExecutionFilter, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
	if s.edit[name] == nil {
		return s.Service.JobExecutions(ctx, name, f, p)
	}
	var list []orchestrator.Execution
	for _, m := range s.members[name] {
		if m.Execution != nil && (f.States == nil || slices.Contains(f.States, m.Execution.State)) {
			list = append(list, *m.Execution)
		}
	}
	return list, "", nil
}

func (s *stage) Execution(ctx context.Context, id string) (orchestrator.Execution, error) {
	for _, members := range s.members {
		for _, m := range members {
			if m.Execution != nil && m.Execution.ID == id {
				return *m.Execution, nil
			}
		}
	}
	return s.Service.Execution(ctx, id)
}

func (s *stage) AuditEntries(ctx context.Context, f orchestrator.AuditFilter, p orchestrator.Page) ([]orchestrator.AuditEntry, string, error) {
	if f.Kind == orchestrator.KindJob && s.entries[f.ID] != nil {
		return s.entries[f.ID], "", nil
	}
	return s.Service.AuditEntries(ctx, f, p)
}

func (s *stage) PreviewJob(ctx context.Context, n orchestrator.NewJob) (orchestrator.JobPreview, error) {
	if s.preview != nil {
		return s.preview(n)
	}
	return s.Service.PreviewJob(ctx, n)
}

func (s *stage) note(ctx context.Context, name string, request any) (orchestrator.Job, error) {
	s.asked = append(s.asked, request)
	return s.Job(ctx, name)
}

func (s *stage) ApproveWave(ctx context.Context, name string, r orchestrator.ApproveRequest) (orchestrator.Job, error) {
	return s.note(ctx, name, r)
}

func (s *stage) InstallJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error) {
	return s.note(ctx, name, r)
}

func (s *stage) ConfirmJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error) {
	return s.note(ctx, name, r)
}

func (s *stage) CancelJob(ctx context.Context, name string, r orchestrator.CancelRequest) (orchestrator.Job, error) {
	if s.edit[name] == nil {
		return s.Service.CancelJob(ctx, name, r)
	}
	return s.note(ctx, name, r)
}

// rolloutJob is the job that stageRollout stages.
const rolloutJob = "winter"

// stageRollout makes a job and brings it to where its second wave waits for approval.
func (r *rig) stageRollout() {
	r.t.Helper()
	images, _, err := r.Images(background, orchestrator.ImageFilter{}, orchestrator.Page{})
	r.ok(err)
	devices, _, err := r.Devices(background, orchestrator.DeviceFilter{Type: images[0].DeviceTypes[0]}, orchestrator.Page{})
	r.ok(err)
	must[orchestrator.Job](r.t)(r.CreateJob(as(background, people.RoleAdmin), orchestrator.NewJob{Name: rolloutJob, Image: images[0].ID, Devices: []string{devices[0].ID}}))
	now := time.Now()
	r.staged.edit = map[string]func(*orchestrator.Job){rolloutJob: func(j *orchestrator.Job) {
		j.State, j.StartedAt, j.Targets = orchestrator.JobRunning, now.Add(-3*time.Hour), 1000
		j.Counts = map[schemas.State]int{schemas.StateSucceeded: 4, schemas.StateFailed: 1, schemas.StateInstalling: 1, schemas.StateQueued: 994}
		j.Rollout = &orchestrator.Rollout{
			Waves: []orchestrator.Wave{{Name: "canary", Devices: []string{"b-1", "b-2"}, Soak: orchestrator.Duration(time.Hour)}, {Percent: 25, Approve: true}, {Percent: 100}},
			Stop:  []orchestrator.StopRule{{Percent: 5, MinSample: 20}},
		}
		j.Wave, j.InProgress, j.Retries = 1, 1, 7
		j.Waves = []orchestrator.WaveStatus{
			{Number: 1, Name: "canary", State: orchestrator.WaveSoaking, Devices: 6, Queued: 1, InProgress: 1, Succeeded: 3, Failed: 1, Needed: 4, StartedAt: now.Add(-3 * time.Hour), ReachedAt: now.Add(-30 * time.Minute), NextAt: now.Add(30*time.Minute + 5*time.Second)},
			{Number: 2, Name: "wave 2", State: orchestrator.WaveApproval, Devices: 244, Queued: 244, Needed: 244},
			{Number: 3, Name: "rest", State: orchestrator.WaveWaiting, Devices: 750, Queued: 750, Needed: 750},
		}
		j.Waiting = "somebody has to approve wave 2"
	}}
	id := func(i int) string { return devices[min(i, len(devices)-1)].ID }
	execution := func(i int, edit func(*orchestrator.Execution)) orchestrator.WaveMember {
		e := orchestrator.Execution{
			ID: "ex-staged-" + id(i), Job: rolloutJob, Device: id(i), Image: images[0].ID, ImageType: images[0].ImageType, Version: images[0].Version,
			Attempt: 1, State: schemas.StateQueued, BytesTotal: images[0].Size, Wave: 1, CreatedAt: now.Add(-3 * time.Hour),
		}
		edit(&e)
		return orchestrator.WaveMember{Device: e.Device, Execution: &e}
	}
	r.staged.members = map[string][]orchestrator.WaveMember{rolloutJob: {
		execution(0, func(e *orchestrator.Execution) {
			e.Attempt, e.NotBefore = 2, now.Add(2*time.Minute+5*time.Second)
			e.History = []orchestrator.Attempt{{Attempt: 1, State: schemas.StateFailed, Cause: schemas.CauseNetwork, Detail: "no route", EndedAt: now}}
		}),
		execution(1, func(e *orchestrator.Execution) {
			e.State, e.OfferedAt, e.DueAt, e.Goal, e.Attempt = schemas.StateOffered, now, now.Add(5*time.Minute+5*time.Second), "9.0", 3
			e.History = []orchestrator.Attempt{
				{Attempt: 1, State: schemas.StateSucceeded, HostVersion: "1.5", EndedAt: now},
				{Attempt: 2, State: schemas.StateQueued, Detail: "the offer was withdrawn for job urgent, which has a higher priority", EndedAt: now},
			}
		}),
		execution(2, func(e *orchestrator.Execution) { e.Downloaded = true }),
		{Device: id(0)},
	}}
}
