package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"davit/internal/rehearsal"
	"davit/orchestrator"
	"davit/schemas"
)

// print writes what came of a play for people.
func (s *simulation) print(w io.Writer, width int, r *rehearsal.Result) {
	fmt.Fprintf(w, "%s, each connected %.4g %% of the time; the job starts on %s\n\n", devicesText(r.Devices), 100*s.config.Fleet.Online,
		r.Start.Format("Monday 2006-01-02 at 15:04:05 MST"))
	io.WriteString(w, r.Chart(width, s.ascii))
	if legend := r.Legend(); legend != "" {
		fmt.Fprintln(w, legend)
	}
	fmt.Fprintln(w)
	printWaves(w, r)
	printLog(w, r)
	fields(w, "job", string(r.State), "devices", counts(r.Counts), "failures", failures(r.Causes), "retries", numberOf(r.Retries),
		"most in progress", fmt.Sprint(r.MostInProgress), "time", rehearsal.Span(time.Duration(r.Duration)), "downloaded", size(r.Bytes),
		"roll-back", rollBackText(r.RollBack),
		"harmed", fmt.Sprintf("%d of the %s that booted the new version did not keep it", r.Harmed, devicesText(r.Booted)))
}

func printWaves(w io.Writer, r *rehearsal.Result) {
	if len(r.Waves) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "WAVE\tDEVICES\tBEGAN\tREACHED\tSUCCEEDED\tFAILED\tCANCELED\tBOOTED\tHARMED")
	since := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return rehearsal.Span(t.Sub(r.Start))
	}
	for _, v := range r.Waves {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", strings.TrimPrefix(cell(v.Title()), "wave "), v.Devices, since(v.StartedAt), since(v.ReachedAt),
			v.Succeeded, v.Failed, v.Canceled, v.Booted, v.Harmed)
	}
	_ = tw.Flush()
	fmt.Fprintln(w)
}

func printLog(w io.Writer, r *rehearsal.Result) {
	if len(r.Log) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "AFTER\tWHAT")
	for _, e := range r.Log {
		fmt.Fprintf(tw, "%s\t%s\n", rehearsal.Span(time.Duration(e.After)), cell(e.Text))
	}
	_ = tw.Flush()
	fmt.Fprintln(w)
}

// failures tells the causes of failures, without what was canceled.
func failures(causes map[schemas.Cause]int) string {
	shown := map[schemas.Cause]int{}
	for c, n := range causes {
		if c != schemas.CauseCanceled {
			shown[c] = n
		}
	}
	return tally(shown)
}

func numberOf(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func rollBackText(b *rehearsal.RollBack) string {
	if b == nil {
		return ""
	}
	text := fmt.Sprintf("%d of %s brought back in %s", b.Counts[schemas.StateSucceeded], devicesText(b.Devices), rehearsal.Span(time.Duration(b.Duration)))
	if b.State != orchestrator.JobCompleted {
		text += ", and not at its end"
	}
	return strings.TrimSpace(text)
}
