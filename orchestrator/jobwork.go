package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"davit/schemas"
)

// taskKind is something that has to be done to a job's executions before the
// job's state is true of all of them.
type taskKind string

const (
	taskStart  taskKind = "start"  // targets are still to become executions
	taskSettle taskKind = "settle" // the job was paused or goes on, which devices are still to be told
	taskRetry  taskKind = "retry"  // what ended without success is to be tried again
	taskListed taskKind = "listed" // the same for the devices of tableRetries
	taskCancel taskKind = "cancel" // executions are still to be canceled
	taskPull   taskKind = "pull"   // there is room for executions that are ready

	taskQueued   taskKind = "queued"    // the rules are to look at what is queued
	taskInstall  taskKind = "install"   // what was downloaded is to be installed
	taskConfirm  taskKind = "confirm"   // what waits for a person is agreed to
	taskMatch    taskKind = "match"     // devices may have come to the target (continuous.go)
	taskRollBack taskKind = "roll_back" // devices that succeeded are to be brought back
)

// jobTask is one thing that is left to do for a job, and how far it is. A job
// has at most one of each kind, whatever is asked of it and however often, and
// goes on with the first one.
type jobTask struct {
	Kind taskKind `json:"kind"`
	// After is the execution from which on there is something left to do. It
	// begins anew when the task is asked for again.
	After string `json:"after,omitempty"`
	// Rev is the revision of the request to retry: what ended later is left alone.
	Rev uint64 `json:"rev,omitempty"`
	// Finish: what devices have accepted is not canceled. Why is what the
	// executions say; none means that a person did it.
	Finish bool   `json:"finish,omitempty"`
	Why    string `json:"why,omitempty"`
}

// retryPart is a part of the devices on which a job is to be tried again.
type retryPart struct {
	Rev     uint64   `json:"rev"`
	Devices []string `json:"devices"`
}

// promptParts is how many parts of a job's work are done before the call that
// asked for it returns; Run does the rest.
const promptParts = 4

// add puts a task at the end of what is left to do, in place of one of its kind.
func (p *progressRecord) add(t jobTask) {
	p.done(t.Kind)
	p.Work = append(p.Work, t)
}

func (p *progressRecord) done(kind taskKind) {
	p.Work = slices.DeleteFunc(p.Work, func(t jobTask) bool { return t.Kind == kind })
}

func (p *progressRecord) has(kind taskKind) bool {
	return slices.ContainsFunc(p.Work, func(t jobTask) bool { return t.Kind == kind })
}

// finishWork does the first parts of what is left to do for a job, leaves the
// rest to Run and returns the job.
func (s *Service) finishWork(ctx context.Context, name string) (Job, error) {
	more, err := s.work(ctx, name, promptParts)
	if more || err != nil {
		s.kickJobs()
	}
	if err != nil {
		return Job{}, err
	}
	return s.Job(ctx, name)
}

// work does some parts of a job's work and says whether more is left. Each
// part is one transaction that finds in the store where the work stands, so any
// number of callers may work on one job, while its work changes.
func (s *Service) work(ctx context.Context, name string, parts int) (more bool, err error) {
	for range parts {
		if _, err = s.commit(ctx, func(t *txn) error {
			more = false
			p, err := t.job(name)
			if err != nil || len(p.Work) == 0 {
				return err
			}
			if err := t.bump(p); err != nil {
				return err
			}
			err = t.part(p)
			more = len(p.Work) > 0
			return err
		}); err != nil || !more {
			return more, err
		}
	}
	return more, nil
}

// part does the next part of a job's first task.
func (t *txn) part(p *progressRecord) error {
	task := &p.Work[0]
	t.progress[p.Name].moved = true
	switch task.Kind {
	case taskStart:
		return t.startPart(p)
	case taskSettle:
		return t.settlePart(p, task)
	case taskPull:
		return t.pullPart(p)
	case taskRetry:
		return t.retryPart(p, task)
	case taskListed:
		return t.listedPart(p)
	case taskCancel:
		return t.cancelPart(p, *task)
	case taskQueued:
		return t.queuedPart(p, task, func(string) Event { return Settle{} })
	case taskInstall:
		return t.queuedPart(p, task, func(id string) Event { return Install{id} })
	case taskConfirm:
		return t.queuedPart(p, task, func(id string) Event { return Confirm{id} })
	case taskMatch:
		return t.matchPart(p, task)
	case taskRollBack:
		return t.rollBackPart(p)
	}
	return fmt.Errorf("job %q has work %q left to do, which this program does not know; was the data written by a newer one?", p.Name, task.Kind)
}

// firstPart returns the first part of a list that a table holds for a job, and
// whether there are more; key is nil if there is none.
func (t *txn) firstPart(table Table, job string) (key, value []byte, more bool, err error) {
	err = t.Scan(table, prefixOf(job), nil, func(k, v []byte) bool {
		if key != nil {
			more = true
			return false
		}
		key, value = k, v
		return true
	})
	return key, value, more, err
}

// startPart makes executions of the next part of a job's targets.
func (t *txn) startPart(p *progressRecord) error {
	key, value, more, err := t.firstPart(tableTargets, p.Name)
	if err != nil {
		return err
	}
	if !more {
		p.done(taskStart)
	}
	if key == nil {
		return nil
	}
	var devices []string
	if err := decode(value, &devices); err != nil {
		return fmt.Errorf("targets of job %q do not decode: %w", p.Name, err)
	}
	if err := t.addExecutions(p, devices, waveOfPart(key)); err != nil {
		return err
	}
	return t.Delete(tableTargets, key)
}

// addExecutions makes the executions of some devices of a wave, in that order.
func (t *txn) addExecutions(p *progressRecord, devices []string, wave int) error {
	job, image, err := t.jobAndImage(p.Name)
	if err != nil {
		return err
	}
	var dev Device
	for _, id := range devices {
		rec, err := t.Get(tableDevices, keyOf(id))
		if err != nil {
			return err
		}
		if rec == nil { // deleted while the job was being created
			if wave > 0 {
				p.Waves[wave-1].Devices--
			}
			continue
		}
		if err := parseDevice(id, rec, &dev); err != nil {
			return err
		}
		if err := t.addExecution(p, job, image, &dev, wave); err != nil {
			return err
		}
	}
	return nil
}

// addExecution makes the execution of a device, of which it keeps nothing.
func (t *txn) addExecution(p *progressRecord, job *jobRecord, image *Image, dev *Device, wave int) error {
	e := Tracked{
		Execution: Execution{
			ID: t.executionID(), Job: job.Name, Device: dev.ID, Image: image.ID, ImageType: image.ImageType,
			Version: image.Version, VersionID: image.VersionID, BytesTotal: image.Size, Wave: wave,
		},
		Order: p.Seq<<32 | p.Added, MinVersion: image.MinVersion,
		IgnoreValidation: job.IgnoreValidation, SHA256: image.SHA256,
	}
	if r := job.Rollout; r != nil {
		e.Priority, e.Rank = r.Priority, rankOf(r.Seed, dev.ID)
		if len(r.Via) > 0 {
			e.Goal = image.Version
		}
		lane, err := t.laneFor(p, dev)
		if err != nil {
			return err
		}
		e.Lane = lane
	}
	p.Added++
	return t.step(dev.ID, dev, Queue{e})
}

// laneFor returns the lane of a job that a device is in.
func (t *txn) laneFor(p *progressRecord, dev *Device) (int, error) {
	pl, err := t.plan(p.Name)
	if err != nil || pl.Schedule == nil && (pl.Pace == nil || len(pl.Pace.Groups) == 0) {
		return 0, err
	}
	var groups uint64
	if pl.Pace != nil {
		for i, g := range pl.Pace.Groups {
			in, err := t.belongs(g.Group, dev)
			if err != nil {
				return 0, err
			}
			if in {
				groups |= 1 << i
			}
		}
	}
	n := len(p.Lanes)
	i := p.laneOf(pl.zoneOf(dev), groups)
	if len(p.Lanes) > n {
		p.Lanes[i].Open, _ = pl.openIn(p.Lanes[i].Zone, t.now)
		delete(t.views, p.Name)
	}
	return i, nil
}

// belongs says whether a device is in a group now.
func (t *txn) belongs(group string, dev *Device) (bool, error) {
	g, err := find[Group](t, group)
	if err != nil || g == nil {
		return false, err
	}
	if g.Query == "" {
		v, err := t.Get(indexDeviceByGroup, keyOf(group, dev.ID))
		return v != nil, err
	}
	return t.found(g.Query, dev)
}

func (t *txn) jobAndImage(name string) (*jobRecord, *Image, error) {
	job, err := need[jobRecord](t, "job", name)
	if err != nil {
		return nil, nil, err
	}
	image, err := need[Image](t, "image", job.Image)
	return job, image, err
}

// indexed is an execution as indexExecByState tells of it.
type indexed struct{ state, device, id string }

// at is where in its job's index the execution stands.
func (x indexed) at() string { return x.state + "\x00" + x.device }

// inStates returns at most n of a job's executions that are in one of the
// states, by state and device, after the one that stands where after says.
func inStates(r Reader, job string, states []schemas.State, after string, n int) ([]indexed, error) {
	var found []indexed
	begun, _, _ := strings.Cut(after, "\x00")
	if after != "" {
		states = states[max(0, slices.Index(states, schemas.State(begun))):]
	}
	for _, state := range states {
		if len(found) == n {
			break
		}
		prefix := append(keyOf(job, string(state)), 0)
		var cursor []byte
		if string(state) == begun {
			cursor = append(prefixOf(job), after...)
		}
		if err := r.Scan(indexExecByState, prefix, cursor, func(k, id []byte) bool {
			found = append(found, indexed{string(state), string(k[len(prefix):]), string(id)})
			return len(found) < n
		}); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// stepAll applies events to the devices of executions.
func (t *txn) stepAll(found []indexed, event func(indexed) Event) error {
	for _, x := range found {
		dev, err := find[Device](t, x.device)
		if err != nil {
			return err
		}
		if err := t.step(x.device, dev, event(x)); err != nil {
			return err
		}
	}
	return nil
}

// settlePart has the rules look once more at the devices that the job is offered
// to, because it was paused or a window has closed.
func (t *txn) settlePart(p *progressRecord, task *jobTask) error {
	pl, err := t.plan(p.Name)
	if err != nil {
		return err
	}
	states := []schemas.State{schemas.StateOffered}
	if pl != nil && pl.recalls() {
		states = append(states, schemas.StateAccepted, schemas.StateDownloading, schemas.StateDownloaded)
	}
	found, err := inStates(t, p.Name, states, task.After, t.batch)
	if err != nil {
		return err
	}
	if err := t.stepAll(found, func(indexed) Event { return Settle{} }); err != nil {
		return err
	}
	t.passed(p, task, found)
	return nil
}

// queuedPart applies an event to the next executions that are queued.
func (t *txn) queuedPart(p *progressRecord, task *jobTask, event func(id string) Event) error {
	found, err := inStates(t, p.Name, []schemas.State{schemas.StateQueued}, task.After, t.batch)
	if err != nil {
		return err
	}
	if err := t.stepAll(found, func(x indexed) Event { return event(x.id) }); err != nil {
		return err
	}
	t.passed(p, task, found)
	return nil
}

// passed notes that a task has passed the executions found.
func (t *txn) passed(p *progressRecord, task *jobTask, found []indexed) {
	if len(found) < t.batch {
		p.done(task.Kind)
		return
	}
	task.After = found[len(found)-1].at()
}

// retryStates are the ends after which an execution may be tried again.
func retryStates() []schemas.State {
	return slices.DeleteFunc(schemas.States(), func(s schemas.State) bool { return !retryable(s) })
}

// retryPart queues the next executions that ended before the request.
func (t *txn) retryPart(p *progressRecord, task *jobTask) error {
	_, image, err := t.jobAndImage(p.Name)
	if err != nil {
		return err
	}
	found, err := inStates(t, p.Name, retryStates(), task.After, t.batch)
	if err != nil {
		return err
	}
	for _, x := range found {
		if err := t.retryOne(image, x.device, x.id, task.Rev); err != nil {
			return err
		}
	}
	t.passed(p, task, found)
	return nil
}

// listedPart does the same on the next of the devices that requests named.
func (t *txn) listedPart(p *progressRecord) error {
	_, image, err := t.jobAndImage(p.Name)
	if err != nil {
		return err
	}
	key, value, more, err := t.firstPart(tableRetries, p.Name)
	if err != nil {
		return err
	}
	if !more {
		p.done(taskListed)
	}
	if key == nil {
		return nil
	}
	var part retryPart
	if err := decode(value, &part); err != nil {
		return fmt.Errorf("devices to retry of job %q do not decode: %w", p.Name, err)
	}
	for _, device := range part.Devices {
		id, err := t.Get(indexExecByJob, keyOf(p.Name, device))
		if err != nil {
			return err
		}
		if err := t.retryOne(image, device, string(id), part.Rev); err != nil {
			return err
		}
	}
	return t.Delete(tableRetries, key)
}

// retryOne has an execution tried again if it ended before the revision of the
// request, so that a part that is repeated, or follows another request, counts
// once. It leaves a device alone that was deleted, or came back as another type.
func (t *txn) retryOne(image *Image, device, id string, rev uint64) error {
	e, err := find[executionRecord](t, id)
	if err != nil || e == nil || e.Rev >= rev || !retryable(e.State) {
		return err
	}
	dev, err := find[Device](t, device)
	if err != nil || dev == nil || !slices.Contains(image.DeviceTypes, dev.Type) {
		return err
	}
	return t.step(device, dev, Retry{id, e.Attempt})
}

// cancelPart cancels the job's next executions and drops devices that were to
// become executions, or to be tried again.
func (t *txn) cancelPart(p *progressRecord, task jobTask) error {
	open := slices.DeleteFunc(schemas.States(), schemas.State.Final)
	if task.Finish {
		open = []schemas.State{schemas.StateQueued, schemas.StateOffered}
	}
	found, err := inStates(t, p.Name, open, "", t.batch)
	if err != nil {
		return err
	}
	if err := t.stepAll(found, func(x indexed) Event { return Cancel{x.id, task.Finish, task.Why} }); err != nil {
		return err
	}
	more := len(found) == t.batch
	for _, table := range []Table{tableTargets, tableRetries} {
		var parts [][]byte
		if err := t.Scan(table, prefixOf(p.Name), nil, func(k, _ []byte) bool {
			parts = append(parts, k)
			return len(parts) < t.batch
		}); err != nil {
			return err
		}
		for _, k := range parts {
			if err := t.Delete(table, k); err != nil {
				return err
			}
		}
		more = more || len(parts) == t.batch
	}
	if !more {
		p.done(taskCancel)
	}
	return nil
}

func (s *Service) kickJobs() {
	select {
	case s.jobKick <- struct{}{}:
	default:
	}
}
