package rehearsal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// maxPoints is how many points a curve has at most; then every other one is left out
// and the step doubles.
const maxPoints = 512

// teller keeps the curve and the log of a play.
type teller struct {
	points []Point
	step   time.Duration
	now    Point // since the last moment
	most   int
	log    []Entry
	// What was told last.
	state   orchestrator.JobState
	waves   []orchestrator.WaveState
	causes  map[schemas.Cause]bool
	back    orchestrator.JobState
	waiting bool
}

// sample adds the points that lie before this moment: until then the job stood as it
// did at the one before.
func (t *teller) sample(until time.Duration) {
	if t.step == 0 {
		t.step = time.Second
	}
	for time.Duration(len(t.points))*t.step < until {
		if t.points = append(t.points, t.now); len(t.points) < maxPoints {
			continue
		}
		for i := range maxPoints / 2 {
			t.points[i] = t.points[2*i]
		}
		t.points = t.points[:maxPoints/2]
		t.step *= 2
	}
}

// tell notes how the job stands and logs what has changed.
func (t *teller) tell(w *world, job, back *orchestrator.Job) {
	t.now = pointOf(job, back)
	t.most = max(t.most, job.InProgress)
	t.tellCauses(w, job)
	t.tellWaves(w, job)
	t.tellState(w, job)
	t.tellRollBack(w, back)
}

func (t *teller) add(w *world, e Event, wave int, format string, args ...any) {
	t.log = append(t.log, Entry{After: orchestrator.Duration(w.at), Event: e, Wave: wave, Text: fmt.Sprintf(format, args...)})
}

func (t *teller) tellCauses(w *world, job *orchestrator.Job) {
	if t.causes == nil {
		t.causes = map[schemas.Cause]bool{}
	}
	for _, c := range slices.Sorted(maps.Keys(job.Causes)) {
		if job.Causes[c] > 0 && !t.causes[c] && c != schemas.CauseCanceled {
			t.causes[c] = true
			t.add(w, EventFailure, 0, "the first device fails with cause %s", c)
		}
	}
}

func (t *teller) tellWaves(w *world, job *orchestrator.Job) {
	if t.waves == nil {
		t.waves = make([]orchestrator.WaveState, len(job.Waves))
	}
	for i := range job.Waves {
		v := Wave{WaveStatus: job.Waves[i]}
		before := t.waves[i]
		t.waves[i] = v.State
		if before == v.State {
			continue
		}
		began := before == orchestrator.WaveRunning || before == orchestrator.WaveSoaking || before == orchestrator.WaveDone
		switch {
		case !v.StartedAt.IsZero() && !began:
			t.add(w, EventWave, v.Number, "%s begins: %d devices", v.Title(), v.Devices)
		case v.State == orchestrator.WaveSoaking && i < len(job.Waves)-1 && v.NextAt.After(v.ReachedAt):
			t.add(w, EventReached, v.Number, "%s is reached: %d of %d devices have succeeded; it soaks for %s", v.Title(), v.Succeeded, v.Devices, Span(v.NextAt.Sub(v.ReachedAt)))
		case v.State == orchestrator.WaveApproval:
			t.add(w, EventApproval, v.Number, "%s waits for somebody to approve it", v.Title())
		case v.State == orchestrator.WaveRunning && before == orchestrator.WaveSoaking:
			t.add(w, EventFailure, v.Number, "%s is not reached any more: %d of %d devices have succeeded", v.Title(), v.Succeeded, v.Devices)
		}
	}
}

func (t *teller) tellState(w *world, job *orchestrator.Job) {
	if job.State == t.state {
		return
	}
	before := t.state
	t.state = job.State
	reason := job.Reason
	if reason == "" {
		reason = "by a person"
	}
	switch job.State {
	case orchestrator.JobPaused:
		t.add(w, EventPaused, 0, "the job is paused: %s", reason)
	case orchestrator.JobCanceled:
		t.add(w, EventCanceled, 0, "the job is canceled: %s", reason)
	case orchestrator.JobRunning:
		if before != "" {
			t.add(w, EventGoesOn, 0, "the job goes on")
		}
	case orchestrator.JobCompleted:
		t.add(w, EventComplete, 0, "the job is completed: %d of %d devices have succeeded", t.now.Succeeded, job.Targets)
	}
}

func (t *teller) tellRollBack(w *world, back *orchestrator.Job) {
	if back == nil || back.State == t.back {
		return
	}
	t.back = back.State
	switch back.State {
	case orchestrator.JobRunning:
		t.add(w, EventRollBack, 0, "job %s begins to bring %d devices back", back.Name, back.Targets)
	case orchestrator.JobCompleted:
		t.add(w, EventRollBack, 0, "job %s is completed: %d of %d devices are back", back.Name, back.Counts[schemas.StateSucceeded], back.Targets)
	}
}
