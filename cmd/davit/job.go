package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

func (p *program) jobCommand() *cobra.Command {
	return p.parent("job", "Jobs: bring devices to an image",
		p.jobPreview(), p.jobSimulate(), p.jobCreate(), p.jobChange(),
		p.jobAction("start NAME", "Start a job", "Job %s started.", (*client.Client).StartJob),
		p.jobAction("pause NAME", "Pause a job: nothing new is offered, what a device has accepted goes on", "Job %s paused; go on with: davit job resume %[1]s", (*client.Client).PauseJob),
		p.jobAction("resume NAME", "Resume a paused job", "Job %s goes on.", (*client.Client).ResumeJob),
		p.jobRetry(),
		p.jobCancel(), p.jobApprove(),
		p.jobOnDevices("install NAME [--device ID]", "Have devices install what a job had them download", "Job %s is being installed; watch it with: davit job watch %[1]s", (*client.Client).InstallJob),
		p.jobOnDevices("confirm NAME [--device ID]", "Agree to the update of devices that wait for it", "Job %s is confirmed; watch it with: davit job watch %[1]s", (*client.Client).ConfirmJob),
		p.jobWatch(), p.jobShow(), p.jobWave(), p.jobHistory(), p.jobExecution(), p.jobList())
}

// targetFlags are the flags that say what a job does.
func targetFlags(cmd *cobra.Command, in *orchestrator.NewJob) {
	f := cmd.Flags()
	f.StringVar(&in.Image, "image", "", "id of the image (required)")
	f.StringArrayVar(&in.Devices, "device", nil, "target device; repeatable")
	f.StringArrayVar(&in.Groups, "group", nil, "target group: the devices that it has now; repeatable")
	f.StringVar(&in.Query, "query", "", "target the devices that this query finds now (davit group preview tries it)")
	f.BoolVar(&in.IgnoreValidation, "ignore-validation", false, "deploy the image whatever version is running")
}

// checkTarget refuses a job without an image or a target; verb is the command's.
func checkTarget(verb string, in orchestrator.NewJob) error {
	switch {
	case in.Image == "":
		return usagef("job %s: name the image with --image", verb)
	case len(in.Devices)+len(in.Groups) == 0 && in.Query == "":
		return usagef("job %s: name the target with --device or --group, or describe it with --query", verb)
	}
	return nil
}

func (p *program) jobCreate() *cobra.Command {
	var in orchestrator.NewJob
	var rollout *rolloutFlags
	cmd := p.createCommand("create --name NAME --image ID --device ID", "Create a job", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if in.Name == "" {
			return usagef("job create: give the job a unique name with --name")
		}
		if err := checkTarget("create", in); err != nil {
			return err
		}
		var err error
		if in.Rollout, err = rollout.read(); err != nil {
			return err
		}
		job, err := c.CreateJob(cmd.Context(), in)
		if err != nil {
			return rollout.explain(err)
		}
		if in.Start {
			return p.done(job, "Job %s created and started for %s; watch it with: davit job watch %s", job.Name, devicesText(job.Targets), job.Name)
		}
		return p.done(job, "Job %s created for %s; start it with: davit job start %s", job.Name, devicesText(job.Targets), job.Name)
	})
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "unique name (required)")
	targetFlags(cmd, &in)
	f.StringVar(&in.Description, "description", "", "what it is for")
	f.BoolVar(&in.Start, "start", false, "start the job at once")
	f.BoolVar(&in.Start, "push", false, "the same as --start")
	rollout = addRolloutFlags(cmd)
	return cmd
}

func devicesText(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

func (p *program) jobChange() *cobra.Command {
	var description string
	cmd := p.editCommand("change NAME --description D", "Change a job's description", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			patch := orchestrator.JobPatch{Description: given(cmd, "description", &description)}
			if err := somethingIn(cmd, patch); err != nil {
				return err
			}
			job, _, err := c.Job(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			patch.Precondition = e.since(job.Revision)
			if job, err = c.UpdateJob(cmd.Context(), job.Name, patch); err != nil {
				return err
			}
			return p.done(job, "Job %s changed.", job.Name)
		})
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

// jobAction builds a command that does one thing to a job; format says what
// was done, with the job's name.
func (p *program) jobAction(use, short, format string, act func(*client.Client, context.Context, string) (orchestrator.Job, error)) *cobra.Command {
	return p.apiCommand(use, short, oneArg("its name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		job, err := act(c, cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.done(job, format, job.Name)
	})
}

func (p *program) jobRetry() *cobra.Command {
	var devices []string
	cmd := p.apiCommand("retry NAME [--device ID]", "Try again what ended without success and was not canceled", oneArg("its name"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.RetryJob(cmd.Context(), args[0], orchestrator.RetryRequest{Devices: devices})
			if err != nil {
				return err
			}
			return p.done(job, "Job %s tries again; watch it with: davit job watch %[1]s", job.Name)
		})
	cmd.Flags().StringArrayVar(&devices, "device", nil, "only on this device; repeatable (default: all)")
	return cmd
}

func (p *program) jobList() *cobra.Command {
	type T = orchestrator.Job
	var filter orchestrator.JobFilter
	var state string
	cmd := listCommand(p, "list", "List the jobs, all or those that the flags describe", noArgs,
		func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[T], error) {
			filter.State = orchestrator.JobState(state)
			return filtered(c, (*client.Client).Jobs, filter), nil
		},
		column[T]{"NAME", func(j T) string { return j.Name }},
		column[T]{"STATE", func(j T) string { return string(j.State) }},
		column[T]{"IMAGE", func(j T) string { return j.Image }},
		column[T]{"EXECUTIONS", func(j T) string { return counts(j.Counts) }},
		column[T]{"CREATED", func(j T) string { return when(j.CreatedAt) }},
		column[T]{"DESCRIPTION", func(j T) string { return j.Description }})
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only jobs in this state: draft, running, paused, completed or canceled")
	f.StringVar(&filter.Image, "image", "", "only jobs of this image")
	f.StringVar(&filter.Text, "text", "", "only jobs with this text in their name or description")
	completeWith(cmd, "state", "draft", "running", "paused", "completed", "canceled")
	return cmd
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
