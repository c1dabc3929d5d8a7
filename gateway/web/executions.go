package web

import (
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
	Phase string
	Help  *causeHelp // why it ended without success
}

func executionRows(list []orchestrator.Execution) []executionRow {
	rows := make([]executionRow, 0, len(list))
	for _, e := range list {
		rows = append(rows, executionRowOf(e))
	}
	return rows
}

func executionRowOf(e orchestrator.Execution) executionRow {
	row := executionRow{Execution: e, Phase: phase(e.State)}
	if e.Cause != schemas.CauseNone {
		row.Help = new(causeOf(e.Cause))
	}
	return row
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
	row := executionRowOf(e)
	data := struct {
		executionRow
		Took  time.Duration
		Rate  uint64
		Steps []step
		Past  []attemptRow
	}{executionRow: row, Took: row.took(v.now()), Rate: row.rate()}
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

// attemptRow is an earlier attempt with its cause explained.
type attemptRow struct {
	orchestrator.Attempt
	Help *causeHelp
}
