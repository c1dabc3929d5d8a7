package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

const queued = schemas.StateQueued

// Result is what came of a play.
type Result struct {
	Start    time.Time             `json:"start"`    // in virtual time
	Duration orchestrator.Duration `json:"duration"` // until the job's last execution ended or, if some did not, the play
	Devices  int                   `json:"devices"`
	State    orchestrator.JobState `json:"state"`            // of the job, in the end
	Reason   string                `json:"reason,omitempty"` // why it was paused or canceled
	Counts   map[schemas.State]int `json:"counts"`
	Causes   map[schemas.Cause]int `json:"causes,omitempty"`
	Retries  int                   `json:"retries"`
	// Booted counts the devices whose host MCU booted the job's image, Harmed those of
	// them that did not keep running it, because it failed to boot or they fell back.
	Booted int `json:"booted"`
	Harmed int `json:"harmed"`
	// Bytes is what all downloads come to, the roll-back included.
	Bytes uint64 `json:"bytes"`
	// MostInProgress is the largest number of devices that were in progress at a time.
	MostInProgress int                   `json:"most_in_progress"`
	Waves          []Wave                `json:"waves,omitempty"`
	RollBack       *RollBack             `json:"roll_back,omitempty"`
	Log            []Entry               `json:"log"`
	Step           orchestrator.Duration `json:"step"`  // between two points of the curve
	Curve          []Point               `json:"curve"` // from the start on, one for each step
}

// Wave is what came of a wave.
type Wave struct {
	orchestrator.WaveStatus
	Booted int `json:"booted"` // of its devices
	Harmed int `json:"harmed"`
}

// Title names the wave by its number and, if people gave it one, its name.
func (v *Wave) Title() string {
	if title := fmt.Sprintf("wave %d", v.Number); v.Name == title {
		return title
	}
	return fmt.Sprintf("wave %d, %s", v.Number, v.Name)
}

// RollBack is what came of the job that brought devices back.
type RollBack struct {
	Job      string                `json:"job"`
	State    orchestrator.JobState `json:"state"`
	Devices  int                   `json:"devices"`
	Counts   map[schemas.State]int `json:"counts"`
	Duration orchestrator.Duration `json:"duration"` // from its start
}

// Entry is something that happened to the job.
type Entry struct {
	After orchestrator.Duration `json:"after"` // since the start
	Event Event                 `json:"event"`
	Wave  int                   `json:"wave,omitempty"` // its number, where it is about one
	Text  string                `json:"text"`
}

// Event is a kind of entry.
type Event string

// The events.
const (
	EventWave     Event = "wave"      // a wave was released
	EventReached  Event = "reached"   // enough of a wave have succeeded
	EventApproval Event = "approval"  // a wave waits for people
	EventFailure  Event = "failure"   // the first device failed with a cause
	EventPaused   Event = "paused"    // the job was paused
	EventCanceled Event = "canceled"  // the job was canceled
	EventGoesOn   Event = "goes_on"   // the job goes on
	EventComplete Event = "completed" // the job came to its end
	EventRollBack Event = "roll_back" // the roll-back job began or ended
	EventEnd      Event = "end"       // the play ended before the job
)

// Point is where the job stands at a moment.
type Point struct {
	Succeeded  int `json:"succeeded"` // those that were brought back since included
	Failed     int `json:"failed"`
	InProgress int `json:"in_progress"`
	Waiting    int `json:"waiting"`
	Canceled   int `json:"canceled"`
	// BroughtBack are the devices that the roll-back job has brought back.
	BroughtBack int `json:"brought_back"`
}

func pointOf(job, back *orchestrator.Job) Point {
	p := Point{InProgress: job.InProgress}
	for s, n := range job.Counts {
		switch {
		case s == queued:
			p.Waiting += n
		case s == schemas.StateSucceeded:
			p.Succeeded += n
		case s == schemas.StateCanceled:
			p.Canceled += n
		case s.Final():
			p.Failed += n
		}
	}
	if back != nil {
		p.BroughtBack = back.Counts[schemas.StateSucceeded]
	}
	return p
}

// result gathers what came of the play.
func (w *world) result(ctx context.Context) (*Result, error) {
	job, err := w.service.Job(ctx, jobName)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Start: w.start, Duration: orchestrator.Duration(w.at), Devices: len(w.devices), State: job.State, Reason: job.Reason,
		Counts: job.Counts, Causes: job.Causes, Retries: job.Retries, Bytes: w.bytes, MostInProgress: w.teller.most,
		Log: w.teller.log, Step: orchestrator.Duration(w.teller.step), Curve: append(w.teller.points, w.teller.now),
	}
	if !job.CompletedAt.IsZero() {
		r.Duration = orchestrator.Duration(job.CompletedAt.Sub(w.start))
	}
	for _, d := range w.devices {
		r.Booted += one(d.booted)
		r.Harmed += one(d.harmed)
	}
	for _, v := range job.Waves {
		wave := Wave{WaveStatus: v}
		if err := w.members(ctx, &wave); err != nil {
			return nil, err
		}
		r.Waves = append(r.Waves, wave)
	}
	r.RollBack, err = w.rollBack(ctx, job.RollBackJob)
	return r, err
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// members counts what became of the devices of a wave.
func (w *world) members(ctx context.Context, v *Wave) error {
	page := orchestrator.Page{Limit: orchestrator.MaxPageLimit}
	for {
		list, next, err := w.service.WaveMembers(ctx, jobName, v.Number, page)
		if err != nil {
			return err
		}
		for _, m := range list {
			v.Booted += one(w.byID[m.Device].booted)
			v.Harmed += one(w.byID[m.Device].harmed)
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

func (w *world) rollBack(ctx context.Context, name string) (*RollBack, error) {
	if name == "" {
		return nil, nil
	}
	job, err := w.service.Job(ctx, name)
	if errors.Is(err, orchestrator.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	back := &RollBack{Job: name, State: job.State, Devices: job.Targets, Counts: job.Counts}
	end := job.CompletedAt
	if end.IsZero() {
		end = w.start.Add(w.at)
	}
	back.Duration = orchestrator.Duration(end.Sub(job.StartedAt))
	return back, nil
}
