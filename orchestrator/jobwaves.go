package orchestrator

import (
	"fmt"
	"math"
	"strings"
	"time"

	"davit/schemas"
)

// waveRecord is what a job's progress keeps of a wave.
type waveRecord struct {
	Devices    int `json:"devices"`
	Queued     int `json:"queued,omitempty"`
	InProgress int `json:"in_progress,omitempty"`
	Succeeded  int `json:"succeeded,omitempty"`
	Failed     int `json:"failed,omitempty"`
	Canceled   int `json:"canceled,omitempty"`
	// Met are those that were offered the image or ended at least once, without
	// canceled ones.
	Met int `json:"met,omitempty"`
	// Bound is the highest rank that belongs to the wave, 0 for a named one.
	Bound uint64 `json:"bound,omitempty"`
	// Outcomes are counted for stop rules, Forgiven what they leave out.
	Outcomes  outcomes  `json:"outcomes,omitzero"`
	Forgiven  outcomes  `json:"forgiven,omitzero"`
	StartedAt time.Time `json:"started_at,omitzero"`
	ReachedAt time.Time `json:"reached_at,omitzero"`
	// Approved says that a person lets it begin, Stuck that the job was paused
	// because it cannot be reached any more.
	Approved bool `json:"approved,omitempty"`
	Stuck    bool `json:"stuck,omitempty"`
}

// count moves one execution of the wave between states; from is empty for a new
// one.
func (w *waveRecord) count(from, to schemas.State) {
	if from != "" {
		*w.place(from)--
	}
	*w.place(to)++
}

func (w *waveRecord) place(s schemas.State) *int {
	switch {
	case s == schemas.StateQueued:
		return &w.Queued
	case s == schemas.StateSucceeded:
		return &w.Succeeded
	case s == schemas.StateCanceled:
		return &w.Canceled
	case s.Final():
		return &w.Failed
	}
	return &w.InProgress
}

// base is how many devices the success of a wave is a part of.
func (w *waveRecord) base(spec *Wave) int {
	if spec.Of == OfOnline {
		return w.Met
	}
	return w.Devices - w.Canceled
}

// needed is how many devices have to succeed before the next wave begins.
func (w *waveRecord) needed(spec *Wave) int {
	part := spec.Success
	if part == 0 {
		part = 100
	}
	return int(math.Ceil(float64(w.base(spec)) * part / 100 * (1 - 1e-12)))
}

// reached says whether enough devices have succeeded. ready says that connected
// ones of it still wait to be offered the image.
func (w *waveRecord) reached(spec *Wave, ready bool) bool {
	if w.Devices-w.Canceled <= 0 {
		return true
	}
	if spec.Of == OfOnline && (ready || w.Met == 0) {
		return false
	}
	return w.Succeeded >= w.needed(spec)
}

// stuck says whether the wave cannot be reached any more by itself.
func (w *waveRecord) stuck(spec *Wave) bool {
	if w.Failed == 0 || spec.Of == OfOnline && w.Queued > 0 {
		return false
	}
	return w.base(spec)-w.Failed < w.needed(spec)
}

// title is what a wave is called in a sentence: "wave 2", "wave canaries".
func (w *Wave) title() string {
	if strings.HasPrefix(w.Name, "wave ") {
		return w.Name
	}
	return "wave " + w.Name
}

// waveStatus is one wave for people.
func (p *progressRecord) waveStatus(spec *Wave, number int) WaveStatus {
	w := &p.Waves[number-1]
	out := WaveStatus{
		Number: number, Name: spec.Name, Devices: w.Devices, Queued: w.Queued, InProgress: w.InProgress, Succeeded: w.Succeeded,
		Failed: w.Failed, Canceled: w.Canceled, Needed: w.needed(spec), StartedAt: w.StartedAt, ReachedAt: w.ReachedAt, State: WaveRunning,
	}
	if !w.ReachedAt.IsZero() && number == p.Wave && p.Waits == waitsSoak {
		out.NextAt = w.ReachedAt.Add(time.Duration(spec.Soak))
	}
	switch {
	case number < p.Wave || p.State == JobCompleted:
		out.State = WaveDone
	case number > p.Wave+1 || number == p.Wave+1 && p.Waits != waitsApproval:
		out.State = WaveWaiting
	case number == p.Wave+1:
		out.State = WaveApproval
	case !w.ReachedAt.IsZero():
		out.State = WaveSoaking
	}
	return out
}

// advance releases the waves whose turn has come.
func (t *txn) advance(p *progressRecord, pl *plan) error {
	for p.Wave > 0 && p.State == JobRunning {
		w, spec := &p.Waves[p.Wave-1], &pl.Waves[p.Wave-1]
		ready, err := t.anyReady(p, pl, p.Wave)
		if err != nil {
			return err
		}
		if !w.reached(spec, ready) {
			w.ReachedAt = time.Time{}
			if w.stuck(spec) && !w.Stuck && p.Wave < len(p.Waves) {
				w.Stuck = true
				return t.pauseFor(p, fmt.Sprintf("%s cannot come to %d successes any more: %d of its %d devices ended without success; have them tried again, or let the next wave begin",
					spec.title(), w.needed(spec), w.Failed, w.Devices))
			}
			return nil
		}
		w.Stuck = false
		if w.ReachedAt.IsZero() || w.ReachedAt.After(t.now) { // a clock that was set back
			w.ReachedAt = t.now
		}
		if p.Wave == len(p.Waves) {
			return nil
		}
		if until := w.ReachedAt.Add(time.Duration(spec.Soak)); until.After(t.now) {
			p.wake(t.now, until, waitsSoak)
			return nil
		}
		if pl.Waves[p.Wave].Approve && !p.Waves[p.Wave].Approved {
			p.Waits, p.WaitsUntil = waitsApproval, time.Time{}
			return nil
		}
		p.release(t.now)
	}
	return nil
}

// release lets the next wave begin.
func (p *progressRecord) release(now time.Time) {
	p.Wave++
	p.Waves[p.Wave-1].StartedAt = now
}

// What a running job waits for.
type waits string

const (
	waitsStart    waits = "start"
	waitsWindow   waits = "window"
	waitsSoak     waits = "soak"
	waitsApproval waits = "approval"
)

// wake notes when the job is to be looked at again, and what it waits for until
// then, if that is for people.
func (p *progressRecord) wake(now, at time.Time, why waits) {
	if at.IsZero() {
		return
	}
	if !at.After(now) {
		at = now.Add(time.Millisecond) // never in the past, which would come again and again
	}
	if p.WakeAt.IsZero() || at.Before(p.WakeAt) {
		p.WakeAt = at
	}
	if why != "" {
		p.Waits, p.WaitsUntil = why, at
	}
}

// waiting says in a sentence what a running job waits for.
func (p *progressRecord) waiting(rec *jobRecord) string {
	if p.State != JobRunning {
		return ""
	}
	switch p.Waits {
	case waitsStart:
		return "it begins at its start time"
	case waitsWindow:
		return "a maintenance window opens"
	case waitsSoak:
		return rec.Rollout.Waves[p.Wave-1].title() + " has succeeded and soaks"
	case waitsApproval:
		return "somebody has to approve " + rec.Rollout.Waves[p.Wave].title()
	}
	return ""
}
