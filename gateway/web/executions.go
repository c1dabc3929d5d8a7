package web

import (
	"cmp"
	"context"
	"time"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

// jobVerb is one of the service's methods that act on a job.
type jobVerb func(s gateway.Service, ctx context.Context, name string) (orchestrator.Job, error)

// executionRow is an execution in a list.
type executionRow struct {
	orchestrator.Execution
	Help *causeHelp // why it ended without success
	// plan of the job, nil where the list does not say.
	plan *orchestrator.Rollout
}

func executionRows(list []orchestrator.Execution, plan *orchestrator.Rollout) []executionRow {
	rows := make([]executionRow, 0, len(list))
	for _, e := range list {
		rows = append(rows, executionRowOf(e, plan))
	}
	return rows
}

func executionRowOf(e orchestrator.Execution, plan *orchestrator.Rollout) executionRow {
	row := executionRow{Execution: e, plan: plan}
	if e.Cause != schemas.CauseNone {
		row.Help = new(causeOf(e.Cause))
	}
	return row
}

// Phase says how it stands.
func (r executionRow) Phase() string {
	switch {
	case r.WaitsForCommand():
		return "downloaded, waits for the command to install"
	case r.WaitsForAgreement():
		return "waits for agreement"
	case r.WaitsUntil():
		return "waits to be offered again"
	}
	return phase(r.State)
}

// WaitsForCommand says whether the device holds the image and is to install it on
// command.
func (r executionRow) WaitsForCommand() bool {
	return r.State == schemas.StateQueued && r.Downloaded
}

// WaitsForAgreement says whether a person has to agree before the device is offered
// the image.
func (r executionRow) WaitsForAgreement() bool {
	return r.State == schemas.StateQueued && !r.Confirmed && r.plan != nil && r.plan.Action == orchestrator.ActionConfirm && r.plan.ConfirmBy != orchestrator.ByProduct
}

// WaitsUntil says whether it has a time before which it is not tried again.
func (r executionRow) WaitsUntil() bool {
	return r.State == schemas.StateQueued && !r.NotBefore.IsZero()
}

// Due says whether its present phase has a time limit.
func (r executionRow) Due() bool {
	return !r.DueAt.IsZero() && !r.State.Final() && r.State != schemas.StateQueued
}

// phase says what a state means to a person.
func phase(s schemas.State) string {
	texts := map[schemas.State]string{
		schemas.StateQueued: "waits for its turn", schemas.StateOffered: "offered, no answer yet", schemas.StateAccepted: "accepted",
		schemas.StateDownloading: "downloading to the module", schemas.StateDownloaded: "downloaded and verified",
		schemas.StateInstalling: "sending to the host MCU", schemas.StateBooting: "booting, its version is awaited",
		schemas.StateSucceeded: "runs the new version", schemas.StateRejected: "refused", schemas.StateFailed: "failed",
		schemas.StateTimedOut: "time limit passed", schemas.StateCanceled: "canceled",
	}
	return texts[s]
}

// Moving says whether bytes are on their way.
func (r executionRow) Moving() bool {
	return r.State == schemas.StateDownloading || r.State == schemas.StateInstalling
}

// Failed says whether it ended without success, and not because somebody canceled it.
func (r executionRow) Failed() bool {
	return r.State.Final() && r.State != schemas.StateSucceeded && r.State != schemas.StateCanceled
}

// Ended says whether it has ended.
func (r executionRow) Ended() bool { return r.State.Final() }

// Took is how long it took from the offer to its end, or has taken until now.
func (r executionRow) took(now time.Time) time.Duration {
	if r.OfferedAt.IsZero() {
		return 0
	}
	if !r.EndedAt.IsZero() {
		return r.EndedAt.Sub(r.OfferedAt)
	}
	return now.Sub(r.OfferedAt)
}

// rate is the bytes per second from the offer until the last report; 0 while
// nothing can be said.
func (r executionRow) rate() uint64 {
	end := r.UpdatedAt
	if !r.EndedAt.IsZero() {
		end = r.EndedAt
	}
	seconds := end.Sub(r.OfferedAt).Seconds()
	if r.OfferedAt.IsZero() || seconds < 0.1 {
		return 0
	}
	return uint64(float64(r.BytesDone) / seconds)
}

// step is one of the stages that an execution goes through.
type step struct {
	Text          string
	Done, Current bool
}

// stepsOf are the stages of an execution as far as it is.
func stepsOf(s schemas.State) []step {
	stages := []struct {
		text string
		last schemas.State
	}{
		{"Offer", schemas.StateOffered}, {"Download", schemas.StateDownloading}, {"Install", schemas.StateInstalling},
		{"Boot", schemas.StateBooting}, {"Version reported", schemas.StateSucceeded},
	}
	steps := make([]step, 0, len(stages))
	current := false
	for _, st := range stages {
		done := s == schemas.StateSucceeded || s.Rank() > st.last.Rank()
		steps = append(steps, step{Text: st.text, Done: done, Current: !done && !current})
		current = current || !done
	}
	return steps
}

func (v *visit) executionPage() error {
	e, err := v.service.Execution(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	job, err := v.service.Job(v.ctx(), e.Job)
	if err != nil {
		return err
	}
	row := executionRowOf(e, job.Rollout)
	data := struct {
		executionRow
		WaveName string
		Took     time.Duration
		Rate     uint64
		Steps    []step
		Past     []attemptRow
	}{executionRow: row, WaveName: waveName(job, e.Wave), Took: row.took(v.now()), Rate: row.rate()}
	if !row.Failed() && e.State != schemas.StateCanceled {
		data.Steps = stepsOf(e.State)
	}
	for i := len(e.History) - 1; i >= 0; i-- {
		a := e.History[i]
		past := attemptRow{Attempt: a}
		if a.Cause != schemas.CauseNone {
			past.Help = new(causeOf(a.Cause))
		}
		data.Past = append(data.Past, past)
	}
	return v.render("execution", page{
		Title: e.Device, Lead: "Update to " + e.ImageType + " " + e.Version, Nav: jobsPath,
		Crumbs: []crumb{{"Jobs", jobsPath}, {e.Job, jobURL(e.Job)}},
		Live:   live{Kinds: []string{orchestrator.KindExecution}, Job: e.Job}, Data: data,
	})
}

// waveName is what a job calls a wave, empty if it has no such wave.
func waveName(job orchestrator.Job, wave int) string {
	if wave < 1 || wave > len(job.Waves) {
		return ""
	}
	return job.Waves[wave-1].Name
}

// attemptRow is an earlier attempt with its cause explained.
type attemptRow struct {
	orchestrator.Attempt
	Help *causeHelp
}

// Why says how the attempt came to its end, where its cause does not.
func (r attemptRow) Why() string {
	switch {
	case r.Help != nil:
		return r.Help.Title
	case r.State == schemas.StateSucceeded:
		return "it reached " + cmp.Or(r.HostVersion, "the version")
	case r.Detail != "":
		return asSentence(r.Detail)
	}
	return "its offer was withdrawn because the job was paused"
}

// More is shown under it: the message, unless it was said.
func (r attemptRow) More() string {
	if r.Help == nil && r.State != schemas.StateSucceeded {
		return ""
	}
	return r.Detail
}
