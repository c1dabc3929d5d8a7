package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

func (p *program) jobCommand() *cobra.Command {
	return p.parent("job", "Jobs: bring devices to an image",
		p.jobCreate(), p.jobStart(), p.jobCancel(), p.jobWatch(), p.jobShow(), p.jobList())
}

func (p *program) jobCreate() *cobra.Command {
	var in orchestrator.NewJob
	cmd := p.apiCommand("create --name NAME --image ID --device ID", "Create a job", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		switch {
		case in.Name == "":
			return usagef("job create: give the job a unique name with --name")
		case in.Image == "":
			return usagef("job create: name the image with --image")
		case len(in.Devices)+len(in.Groups) == 0:
			return usagef("job create: name the target with --device or --group")
		}
		job, err := c.CreateJob(cmd.Context(), in)
		if err != nil {
			return err
		}
		if in.Start {
			return p.done(job, "Job %s created and started.", job.Name)
		}
		return p.done(job, "Job %s created; start it with: davit job start %s", job.Name, job.Name)
	})
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "unique name (required)")
	f.StringVar(&in.Image, "image", "", "id of the image (required)")
	f.StringArrayVar(&in.Devices, "device", nil, "target device; repeatable")
	f.StringArrayVar(&in.Groups, "group", nil, "target group; repeatable")
	f.BoolVar(&in.IgnoreValidation, "ignore-validation", false, "deploy the image whatever version is running")
	f.BoolVar(&in.Start, "start", false, "start the job at once")
	return cmd
}

func (p *program) jobStart() *cobra.Command {
	return p.apiCommand("start NAME", "Start a job", oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		job, err := c.StartJob(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.done(job, "Job %s started.", job.Name)
	})
}

func (p *program) jobCancel() *cobra.Command {
	return p.apiCommand("cancel NAME", "Cancel a job: executions that have not ended are withdrawn", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.CancelJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.done(job, "Job %s canceled.", job.Name)
		})
}

func (p *program) jobList() *cobra.Command {
	type T = orchestrator.Job
	return p.apiCommand("list", "List the jobs", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		items, err := all(cmd.Context(), c.Jobs)
		if err != nil {
			return err
		}
		return list(p, items,
			column[T]{"NAME", func(j T) string { return j.Name }},
			column[T]{"STATE", func(j T) string { return string(j.State) }},
			column[T]{"IMAGE", func(j T) string { return j.Image }},
			column[T]{"EXECUTIONS", func(j T) string { return counts(j.Counts) }},
			column[T]{"CREATED", func(j T) string { return when(j.CreatedAt) }})
	})
}

// counts prints the states that have executions, in the order of the contract.
func counts(m map[schemas.State]int) string {
	var parts []string
	for _, s := range schemas.States() {
		if m[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// shownJob is a job with its executions.
type shownJob struct {
	orchestrator.Job
	Executions []orchestrator.Execution `json:"executions"`
}

func (p *program) jobShow() *cobra.Command {
	return p.apiCommand("show NAME", "Show a job and its executions", oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		job, _, err := c.Job(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		executions, err := all(cmd.Context(), executionPages(c, job.Name))
		if err != nil {
			return err
		}
		if executions == nil {
			executions = []orchestrator.Execution{}
		}
		if p.json {
			return p.printJSON(shownJob{job, executions})
		}
		fields(p.out, "name", job.Name, "state", string(job.State), "image", job.Image, "executions", counts(job.Counts),
			"ignore validation", yesNo(job.IgnoreValidation), "created", when(job.CreatedAt), "started", when(job.StartedAt), "completed", when(job.CompletedAt))
		fmt.Fprintln(p.out)
		return list(p, executions, executionColumns()...)
	})
}

func executionColumns() []column[orchestrator.Execution] {
	type T = orchestrator.Execution
	return []column[T]{
		{"DEVICE", func(e T) string { return e.Device }},
		{"STATE", func(e T) string { return string(e.State) }},
		{"CAUSE", func(e T) string { return string(e.Cause) }},
		{"BYTES", func(e T) string { return fmt.Sprintf("%d/%d", e.BytesDone, e.BytesTotal) }},
		{"HOST VERSION", func(e T) string { return e.HostVersion }},
		{"DETAIL", func(e T) string { return e.Detail }},
	}
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
	cmd.Long = `Watch a job: one line for each change of an execution or of the job, until the
job is complete or canceled. The exit code is 0 only if every execution has
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
	return p.show(jobLine{"job", j}, func(w io.Writer) { fmt.Fprintf(w, "job %s is %s: %s\n", j.Name, j.State, counts(j.Counts)) })
}
