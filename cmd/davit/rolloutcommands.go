package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) jobCancel() *cobra.Command {
	var r orchestrator.CancelRequest
	cmd := p.apiCommand("cancel NAME [--finish]", "Cancel a job: executions that have not ended are withdrawn", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.CancelJob(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			return p.done(job, "Job %s canceled.", job.Name)
		})
	cmd.Flags().BoolVar(&r.Finish, "finish", false, "what devices have accepted goes on to its end")
	return cmd
}

func (p *program) jobApprove() *cobra.Command {
	var r orchestrator.ApproveRequest
	cmd := p.apiCommand("approve NAME --wave N [--force]", "Let a job's next wave begin that waits for somebody to approve", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if r.Wave < 2 {
				return usagef("job approve: name the wave that may begin with --wave N, from 2 on; davit job show %s lists them", args[0])
			}
			job, err := c.ApproveWave(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			return p.done(job, "Wave %d of job %s approved; watch it with: davit job watch %[2]s", r.Wave, job.Name)
		})
	cmd.Flags().IntVar(&r.Wave, "wave", 0, "number of the wave that may begin (required)")
	cmd.Flags().BoolVar(&r.Force, "force", false, "the wave begins now, whatever became of the one before")
	return cmd
}

// jobOnDevices builds a command that does something with all devices of a job that
// wait for it, or with those that are named.
func (p *program) jobOnDevices(use, short, format string, act func(*client.Client, context.Context, string, orchestrator.DevicesRequest) (orchestrator.Job, error)) *cobra.Command {
	var r orchestrator.DevicesRequest
	cmd := p.apiCommand(use, short, oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		job, err := act(c, cmd.Context(), args[0], r)
		if err != nil {
			return err
		}
		return p.done(job, format, job.Name)
	})
	cmd.Flags().StringArrayVar(&r.Devices, "device", nil, "only this device; repeatable (default: all that wait)")
	return cmd
}

func (p *program) jobWave() *cobra.Command {
	type T = orchestrator.WaveMember
	// ofExecution is a column of the execution that a device has once the job was started.
	ofExecution := func(value func(orchestrator.Execution) string) func(T) string {
		return func(m T) string {
			if m.Execution == nil {
				return ""
			}
			return value(*m.Execution)
		}
	}
	columns := []column[T]{{"DEVICE", func(m T) string { return m.Device }}}
	for _, c := range executionColumns() {
		if c.title != "DEVICE" {
			columns = append(columns, column[T]{c.title, ofExecution(c.value)})
		}
	}
	return listCommand(p, "wave NAME N", "List the devices of a job's wave", twoArgs("its name and the wave's number"),
		func(_ *cobra.Command, c *client.Client, args []string) (client.Listing[T], error) {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return nil, usagef("job wave: %q is no number of a wave; they count from 1, and davit job show %s lists them", args[1], args[0])
			}
			return func(ctx context.Context, page orchestrator.Page) ([]T, string, error) {
				return c.WaveMembers(ctx, args[0], n, page)
			}, nil
		}, columns...)
}

// twoArgs is the argument rule of a command that takes exactly two.
func twoArgs(names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return usagef("%s takes two arguments, %s; it was given %d", cmd.CommandPath(), names, len(args))
		}
		return nil
	}
}

// rolloutFields are those of a job that are about its rollout.
func rolloutFields(j orchestrator.Job) []string {
	return []string{
		"wave", waveText(j), "in progress", count(j.InProgress, "device"), "tried again", times(j.Retries), "waits for", j.Waiting, "goes on", when(j.NextAt),
		"why it stopped", j.Reason, "rolled back by", j.RollBackJob,
	}
}

// printPlan tells a rollout in sentences, nothing if there is none.
func (p *program) printPlan(r *orchestrator.Rollout) {
	if r == nil {
		return
	}
	fmt.Fprintln(p.out, "\nPlan:")
	for _, s := range r.Sentences() {
		fmt.Fprintf(p.out, "  %s\n", cell(s))
	}
}

// times is how often something was done, empty if never.
func times(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// waveRows prints where each wave of a job stands.
func (p *program) waveRows(waves []orchestrator.WaveStatus) error {
	type T = orchestrator.WaveStatus
	number := func(value func(T) int) func(T) string { return func(w T) string { return strconv.Itoa(value(w)) } }
	return table(p, waves,
		column[T]{"WAVE", number(func(w T) int { return w.Number })},
		column[T]{"NAME", func(w T) string { return w.Name }},
		column[T]{"STATE", func(w T) string { return string(w.State) }},
		column[T]{"DEVICES", number(func(w T) int { return w.Devices })},
		column[T]{"QUEUED", number(func(w T) int { return w.Queued })},
		column[T]{"IN PROGRESS", number(func(w T) int { return w.InProgress })},
		column[T]{"SUCCEEDED", number(func(w T) int { return w.Succeeded })},
		column[T]{"FAILED", number(func(w T) int { return w.Failed })},
		column[T]{"CANCELED", number(func(w T) int { return w.Canceled })},
		column[T]{"NEEDED", number(func(w T) int { return w.Needed })},
		column[T]{"SINCE", func(w T) string {
			if w.ReachedAt.IsZero() {
				return when(w.StartedAt)
			}
			return when(w.ReachedAt)
		}},
		column[T]{"NEXT", func(w T) string { return when(w.NextAt) }})
}

// waveText says in which wave a job is.
func waveText(j orchestrator.Job) string {
	if len(j.Waves) == 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %d", j.Wave, len(j.Waves))
	if j.Wave >= 1 && j.Wave <= len(j.Waves) {
		w := j.Waves[j.Wave-1]
		text += fmt.Sprintf(" (%s, %s)", w.Name, w.State)
	}
	return text
}
