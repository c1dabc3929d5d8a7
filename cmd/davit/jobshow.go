package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// shownJob is a job with its executions.
type shownJob struct {
	orchestrator.Job
	Executions []orchestrator.Execution `json:"executions"`
}

func (p *program) jobShow() *cobra.Command {
	var filter orchestrator.ExecutionFilter
	var states []string
	var limit int
	cmd := p.apiCommand("show NAME", "Show a job and its executions", oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		for _, s := range states {
			filter.States = append(filter.States, schemas.State(s))
		}
		job, _, err := c.Job(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		executions, err := p.jobExecutions(cmd.Context(), c, job.Name, filter, limit)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(shownJob{job, executions})
		}
		fields(p.out, slices.Concat([]string{
			"name", job.Name, "state", string(job.State), "image", job.Image, "description", job.Description, "targets", devicesText(job.Targets),
			"query", job.Query, "groups", strings.Join(job.Groups, " "), "executions", counts(job.Counts), "causes", tally(job.Causes),
		}, rolloutFields(job), []string{
			"ignore validation", yesNo(job.IgnoreValidation), "revision", revision(job.Revision),
			"created", when(job.CreatedAt), "started", when(job.StartedAt), "completed", when(job.CompletedAt),
		})...)
		p.printPlan(job.Rollout)
		fmt.Fprintln(p.out)
		if len(job.Waves) > 0 {
			if err := p.waveRows(job.Waves); err != nil {
				return err
			}
			fmt.Fprintln(p.out)
		}
		return table(p, executions, executionColumns()...)
	})
	cmd.Flags().StringArrayVar(&states, "state", nil, "only executions in this state; repeatable")
	cmd.Flags().IntVar(&limit, "limit", 0, "show at most this many executions (default: all)")
	completeWith(cmd, "state", stateNames()...)
	return cmd
}

func stateNames() []string {
	var names []string
	for _, s := range schemas.States() {
		names = append(names, string(s))
	}
	return names
}

// jobExecutions reads at most limit executions of a job, 0 meaning all.
func (p *program) jobExecutions(ctx context.Context, c *client.Client, job string, filter orchestrator.ExecutionFilter, limit int) ([]orchestrator.Execution, error) {
	executions := []orchestrator.Execution{}
	listing := func(ctx context.Context, page orchestrator.Page) ([]orchestrator.Execution, string, error) {
		return c.JobExecutions(ctx, job, filter, page)
	}
	for e, err := range client.All(ctx, bounded(listing, limit)) {
		if err != nil {
			return nil, err
		}
		if limit > 0 && len(executions) == limit {
			fmt.Fprintf(p.err, "davit: there are more than %d executions; --limit 0 shows all\n", limit)
			break
		}
		executions = append(executions, e)
	}
	return executions, nil
}

func executionColumns() []column[orchestrator.Execution] {
	type T = orchestrator.Execution
	return []column[T]{
		{"DEVICE", func(e T) string { return e.Device }},
		{"STATE", func(e T) string { return string(e.State) }},
		{"CAUSE", func(e T) string { return string(e.Cause) }},
		{"ATTEMPT", func(e T) string { return fmt.Sprint(e.Attempt) }},
		{"BYTES", func(e T) string { return fmt.Sprintf("%d/%d", e.BytesDone, e.BytesTotal) }},
		{"HOST VERSION", func(e T) string { return e.HostVersion }},
		{"ID", func(e T) string { return e.ID }},
		{"DETAIL", func(e T) string { return e.Detail }},
	}
}

func (p *program) jobExecution() *cobra.Command {
	type T = orchestrator.Attempt
	return p.apiCommand("execution ID", "Show one execution and its earlier attempts", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		e, err := c.Execution(cmd.Context(), args[0])
		if err != nil || p.json {
			if err == nil {
				err = p.printJSON(e)
			}
			return err
		}
		fields(p.out, "id", e.ID, "job", e.Job, "device", e.Device, "image", e.Image, "image type", e.ImageType, "version", e.Version,
			"version id", number(e.VersionID), "attempt", fmt.Sprint(e.Attempt), "state", string(e.State), "cause", string(e.Cause), "code", code(e.Code), "detail", e.Detail,
			"bytes", fmt.Sprintf("%d/%d", e.BytesDone, e.BytesTotal), "host version", e.HostVersion,
			"wave", number(uint64(e.Wave)), "on the way to version", e.Goal, "downloaded, waits for install", yes(e.Downloaded, "yes"), "confirmed", yes(e.Confirmed, "yes"),
			"not before", when(e.NotBefore), "due", when(e.DueAt),
			"created", when(e.CreatedAt), "offered", when(e.OfferedAt), "updated", when(e.UpdatedAt), "ended", when(e.EndedAt))
		if len(e.History) == 0 {
			return nil
		}
		fmt.Fprintln(p.out)
		return table(p, e.History,
			column[T]{"ATTEMPT", func(a T) string { return fmt.Sprint(a.Attempt) }},
			column[T]{"STATE", func(a T) string { return string(a.State) }},
			column[T]{"CAUSE", func(a T) string { return string(a.Cause) }},
			column[T]{"CODE", func(a T) string { return code(a.Code) }},
			column[T]{"BYTES", func(a T) string { return fmt.Sprint(a.BytesDone) }},
			column[T]{"HOST VERSION", func(a T) string { return a.HostVersion }},
			column[T]{"ENDED", func(a T) string { return when(a.EndedAt) }},
			column[T]{"DETAIL", func(a T) string { return a.Detail }})
	})
}

func code(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// historyLine is one step of a job's history as job history prints it.
type historyLine struct {
	At        time.Time `json:"at"`
	Succeeded int       `json:"succeeded"`
	Failed    int       `json:"failed"`
}

func (p *program) jobHistory() *cobra.Command {
	type T = historyLine
	return p.apiCommand("history NAME", "Show how a job's executions ended over time", oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		h, err := c.JobHistory(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(h)
		}
		var lines []T
		for i, point := range h.Points {
			if point != (orchestrator.HistoryPoint{}) {
				lines = append(lines, T{h.Start.Add(time.Duration(i) * time.Duration(h.Step)), point.Succeeded, point.Failed})
			}
		}
		if len(lines) == 0 {
			fmt.Fprintln(p.out, "Nothing has ended yet.")
			return nil
		}
		fmt.Fprintf(p.out, "What ended in each %s:\n", duration(h.Step))
		return table(p, lines,
			column[T]{"FROM", func(l T) string { return when(l.At) }},
			column[T]{"SUCCEEDED", func(l T) string { return fmt.Sprint(l.Succeeded) }},
			column[T]{"FAILED", func(l T) string { return fmt.Sprint(l.Failed) }})
	})
}

// executionLine and jobLine are what job watch prints: one line per change.
type executionLine struct {
	Event string `json:"event"` // "execution"
	orchestrator.Execution
}

type jobLine struct {
	Event string `json:"event"` // "job"
	orchestrator.Job
}

func (p *program) jobWatch() *cobra.Command {
	cmd := p.apiCommand("watch NAME", "Watch a job until it is complete; fails unless every execution succeeded", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := app.WatchJob(cmd.Context(), c, args[0], app.WatchFuncs{Execution: p.watchedExecution, Job: p.watchedJob})
			if err != nil {
				return err
			}
			if !app.AllSucceeded(job) {
				return errReported
			}
			return nil
		})
	cmd.Long = `Watch a job: one line for each change of an execution or of the job (its state,
its waves, what it waits for), until the job is complete or canceled. The exit code is 0 only if every execution has
succeeded. With --json each line is an object whose "event" is "execution" (with
the execution's fields) or "job" (with the job's).`
	return cmd
}

func (p *program) watchedExecution(e orchestrator.Execution) error {
	return p.show(executionLine{"execution", e}, func(w io.Writer) {
		fmt.Fprintf(w, "%-16s %-12s %10d/%d", e.Device, e.State, e.BytesDone, e.BytesTotal)
		if e.Cause != schemas.CauseNone {
			fmt.Fprintf(w, "  %s", e.Cause)
		}
		if e.HostVersion != "" {
			fmt.Fprintf(w, "  version %s", cell(e.HostVersion))
		}
		if e.Detail != "" {
			fmt.Fprintf(w, "  %s", cell(e.Detail))
		}
		fmt.Fprintln(w)
	})
}

func (p *program) watchedJob(j orchestrator.Job) error {
	return p.show(jobLine{"job", j}, func(w io.Writer) {
		fmt.Fprintf(w, "job %s is %s: %s", j.Name, j.State, counts(j.Counts))
		if text := waveText(j); text != "" {
			fmt.Fprintf(w, "; wave %s", cell(text))
		}
		if j.Waiting != "" {
			fmt.Fprintf(w, "; waits: %s", cell(j.Waiting))
		}
		if j.Reason != "" {
			fmt.Fprintf(w, "; %s", cell(j.Reason))
		}
		fmt.Fprintln(w)
	})
}
