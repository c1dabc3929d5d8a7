package web

import (
	"maps"
	"slices"

	"davit/orchestrator"
	"davit/schemas"
)

// homeRoutes are those of the overview.
func (c *Console) homeRoutes() {
	c.handle("GET /{$}", "get-fleet", (*visit).home, "watch-events")
}

// How much the overview shows.
const (
	homeRunning  = 5
	homeFailures = 6
	// homeLook is how many jobs are searched for failures, and of each state for those
	// that somebody should look at, the newest first.
	homeLook = 20
)

// homeView is what the overview shows.
type homeView struct {
	orchestrator.FleetSummary
	Running []jobRow
	// Attention are jobs that wait for an approval, or were stopped by a rule.
	Attention []jobRow
	More      bool // there are more running jobs
	Failures  []executionRow
	Charts    []versionChart
	Images    int
	Jobs      int
	Active    int        // running jobs
	Steps     []homeStep // what to do next; none when all is done
	Next      *homeStep
}

// versionChart is the versions of one image type in the fleet.
type versionChart struct {
	ImageType string
	Counts    map[string]int
}

// homeStep is one step of setting a system up.
type homeStep struct {
	Done                   bool
	Title, Text            string
	URL, Action, Operation string
}

func (v *visit) home() error {
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return err
	}
	data := homeView{FleetSummary: fleet}
	for _, id := range slices.Sorted(maps.Keys(fleet.Versions)) {
		if len(fleet.Versions[id]) > 0 {
			data.Charts = append(data.Charts, versionChart{id, fleet.Versions[id]})
		}
	}
	for _, n := range fleet.Images {
		data.Images += n
	}
	data.Active = fleet.Jobs[orchestrator.JobRunning]
	for _, n := range fleet.Jobs {
		data.Jobs += n
	}
	if err := v.homeJobs(&data); err != nil {
		return err
	}
	if err := v.steps(&data); err != nil {
		return err
	}
	return v.render("home", page{
		Title: "Overview", Nav: "/", Data: data,
		Live: live{Kinds: []string{orchestrator.KindDevice, orchestrator.KindJob, orchestrator.KindImage, orchestrator.KindExecution}},
	})
}

// homeJobs are those that run, those that somebody should look at, and what failed in
// the newest.
func (v *visit) homeJobs(d *homeView) error {
	var listed [2][]orchestrator.Job
	for i, state := range []orchestrator.JobState{orchestrator.JobRunning, orchestrator.JobPaused} {
		var err error
		var next string
		if listed[i], next, err = v.service.Jobs(v.ctx(), orchestrator.JobFilter{State: state}, orchestrator.Page{Limit: homeLook}); err != nil {
			return err
		}
		d.More = d.More || i == 0 && next != ""
	}
	newest, _, err := v.service.Jobs(v.ctx(), orchestrator.JobFilter{}, orchestrator.Page{Limit: homeLook})
	if err != nil {
		return err
	}
	running, paused := listed[0], listed[1]
	ended := slices.DeleteFunc(slices.Clone(newest), started)
	attention := slices.DeleteFunc(slices.Concat(running, paused, ended), func(j orchestrator.Job) bool { return !needsAttention(j, v.now()) })
	d.Attention = v.jobRows(attention)
	d.More = d.More || len(running) > homeRunning
	d.Running = v.jobRows(running[:min(len(running), homeRunning)])
	d.Failures, err = v.failures(newest)
	return err
}

// failures are executions of the newest jobs that ended without success, the
// newest first. However large the jobs are, it costs little: their counts say which
// have failures at all, and of each state that is one the index of a job's executions
// by state gives no more entries than are shown.
func (v *visit) failures(jobs []orchestrator.Job) ([]executionRow, error) {
	failed := orchestrator.ExecutionFilter{States: []schemas.State{schemas.StateFailed, schemas.StateRejected, schemas.StateTimedOut}}
	var found []orchestrator.Execution
	for _, j := range jobs {
		if j.Counts[schemas.StateFailed]+j.Counts[schemas.StateRejected]+j.Counts[schemas.StateTimedOut] == 0 {
			continue
		}
		list, _, err := v.service.JobExecutions(v.ctx(), j.Name, failed, orchestrator.Page{Limit: homeFailures})
		if err != nil {
			return nil, err
		}
		if found = append(found, list...); len(found) >= 4*homeFailures {
			break
		}
	}
	slices.SortFunc(found, func(a, b orchestrator.Execution) int { return b.EndedAt.Compare(a.EndedAt) })
	return executionRows(found[:min(len(found), homeFailures)], nil), nil
}

// steps are the way to the first job, until it is gone.
func (v *visit) steps(d *homeView) error {
	if d.Jobs > 0 {
		return nil
	}
	imageTypes, _, err := v.service.ImageTypes(v.ctx(), orchestrator.Page{Limit: 1})
	if err != nil {
		return err
	}
	deviceTypes, _, err := v.service.DeviceTypes(v.ctx(), orchestrator.Page{Limit: 1})
	if err != nil {
		return err
	}
	d.Steps = []homeStep{
		{len(imageTypes) > 0, "Image types", "Say what kinds of firmware your products have.", wizardPath, "Create image types", "create-image-type"},
		{len(deviceTypes) > 0, "Device type", "Describe a product: the firmware that it takes, and how its MCU is spoken to.", "/new/device-type", "Create a device type", "create-device-type"},
		{d.Devices > 0, "Devices", "Register modules, one by one or from a list. Each gets a password.", "/new/device", "Register a device", "create-device"},
		{d.Images > 0, "Image", "Upload the firmware that is to be rolled out.", "/new/image", "Upload an image", "create-image"},
		{false, "Job", "Bring a device or a group to an image, in the lab first.", "/new/job", "Create a job", "create-job"},
	}
	for i := range d.Steps {
		if !d.Steps[i].Done {
			if v.can(d.Steps[i].Operation) {
				d.Next = &d.Steps[i]
			}
			return nil
		}
	}
	return nil
}
