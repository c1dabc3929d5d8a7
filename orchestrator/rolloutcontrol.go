package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"davit/schemas"
)

// ApproveWave lets a job's next wave begin that waits for somebody to approve, or
// with Force, whatever it waits for. ErrConflict if that wave is not the next one.
func (s *Service) ApproveWave(ctx context.Context, name string, r ApproveRequest) (Job, error) {
	return s.control(ctx, name, "approve", func(t *txn, _ *jobRecord, p *progressRecord) (bool, error) {
		switch {
		case len(p.Waves) == 0:
			return false, p.unfit("it has no waves")
		case !p.active():
			return false, p.unfit("it is %s; waves begin while it runs", p.State)
		case p.Wave == len(p.Waves):
			return false, p.unfit("its last wave has begun, there is nothing to approve")
		case r.Wave != p.Wave+1:
			return false, p.unfit("it is at wave %d, so wave %d is the one to approve", p.Wave, p.Wave+1)
		case r.Force:
			p.Waves[p.Wave].Approved = true
			p.release(t.now)
			return true, nil
		}
		w := &p.Waves[p.Wave]
		changed := !w.Approved
		w.Approved = true
		return changed, nil
	})
}

// InstallJob has devices install what a download-only job had them fetch.
// ErrConflict if no device waits for it.
func (s *Service) InstallJob(ctx context.Context, name string, r DevicesRequest) (Job, error) {
	return s.command(ctx, name, "install", r, taskInstall, func(pl *plan) bool { return pl.Action == ActionDownload },
		"it is not a job that only downloads", func(e *executionRecord) (Event, bool) { return Install{e.ID}, e.Downloaded })
}

// ConfirmJob agrees to the update of devices that wait for it. ErrConflict if no
// device does.
func (s *Service) ConfirmJob(ctx context.Context, name string, r DevicesRequest) (Job, error) {
	return s.command(ctx, name, "confirm", r, taskConfirm, func(pl *plan) bool { return pl.Action == ActionConfirm && pl.ConfirmBy != ByProduct },
		"it is not a job that a person has to confirm", func(e *executionRecord) (Event, bool) { return Confirm{e.ID}, !e.Confirmed && !e.State.Final() })
}

// command applies an event to the executions of the devices named, at once, or to
// all that wait for it, as work.
func (s *Service) command(ctx context.Context, name, action string, r DevicesRequest, kind taskKind, fits func(*plan) bool, misfit string,
	event func(*executionRecord) (Event, bool)) (Job, error) {
	if err := distinct("devices", r.Devices, MaxPageLimit); err != nil {
		return Job{}, err
	}
	return s.control(ctx, name, action, func(t *txn, _ *jobRecord, p *progressRecord) (bool, error) {
		pl, err := t.plan(name)
		switch {
		case err != nil:
			return false, err
		case pl == nil || !fits(pl):
			return false, p.unfit("%s", misfit)
		case !p.active():
			return false, p.unfit("it is %s", p.State)
		case len(r.Devices) > 0:
			return true, t.commandEach(p, r.Devices, event)
		case p.Counts[schemas.StateQueued] == 0 && !p.has(taskStart):
			return false, p.unfit("none of its devices waits for that")
		}
		p.add(jobTask{Kind: kind})
		return true, nil
	})
}

func (t *txn) commandEach(p *progressRecord, devices []string, event func(*executionRecord) (Event, bool)) error {
	done := 0
	for i, device := range devices {
		e, err := t.executionOf(p.Name, device)
		if err != nil {
			return err
		}
		if e == nil {
			return invalidField(fmt.Sprintf("devices/%d", i), "job %q has no execution on device %q", p.Name, device)
		}
		ev, fits := event(e)
		if !fits {
			continue
		}
		dev, err := find[Device](t, device)
		if err != nil {
			return err
		}
		if err := t.step(device, dev, ev); err != nil {
			return err
		}
		done++
	}
	if done == 0 {
		return p.unfit("none of the devices waits for that")
	}
	return nil
}

// executionOf returns a job's execution on a device, nil if it has none.
func (t *txn) executionOf(job, device string) (*executionRecord, error) {
	id, err := t.Get(indexExecByJob, keyOf(job, device))
	if err != nil || id == nil {
		return nil, err
	}
	return find[executionRecord](t, string(id))
}

// WaveMembers lists the devices of a job's wave: of a draft in the order in which
// they are released, of a started job by device.
func (s *Service) WaveMembers(ctx context.Context, name string, wave int, p Page) ([]WaveMember, string, error) {
	var out []WaveMember
	var next string
	err := s.store.View(ctx, func(r Reader) error {
		job, err := need[progressRecord](r, "job", name)
		if err != nil {
			return err
		}
		if wave < 1 || wave > len(job.Waves) {
			return fmt.Errorf("wave %d of job %q: %w: it has %d waves", wave, name, ErrNotFound, len(job.Waves))
		}
		if job.State == JobDraft {
			out, next, err = draftMembers(r, name, wave, p)
			return err
		}
		out, next, err = waveExecutions(r, name, wave, p)
		return err
	})
	return out, next, err
}

// draftMembers reads a page of the devices that are to become executions. The
// cursor is the last one's part and place in it.
func draftMembers(r Reader, job string, wave int, p Page) ([]WaveMember, string, error) {
	part, place := uint64(wave)<<32, -1
	if p.After != "" {
		if _, err := fmt.Sscanf(p.After, "%d.%d", &part, &place); err != nil || int(part>>32) != wave {
			return nil, "", invalidField("after", "not a cursor of this listing")
		}
	}
	out, next := []WaveMember{}, ""
	var failed error
	last := p.After
	err := r.Scan(tableTargets, prefixOf(job), numbered(job, part-1), func(k, v []byte) bool {
		if waveOfPart(k) != wave {
			return false
		}
		var ids []string
		if failed = decode(v, &ids); failed != nil {
			return false
		}
		for i, id := range ids {
			if numberOf(k) == part && i <= place {
				continue
			}
			if len(out) == p.limit() {
				next = last
				return false
			}
			out = append(out, WaveMember{Device: id})
			last = fmt.Sprintf("%d.%d", numberOf(k), i)
		}
		return true
	})
	return out, next, errors.Join(err, failed)
}

func waveExecutions(r Reader, job string, wave int, p Page) ([]WaveMember, string, error) {
	prefix := waveKey(job, wave)
	var after []byte
	if p.After != "" {
		after = append(slices.Clone(prefix), p.After...)
	}
	out, next := []WaveMember{}, ""
	var ids []string
	if err := r.Scan(indexExecByWave, prefix, after, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return len(ids) <= p.limit()
	}); err != nil {
		return nil, "", err
	}
	more := len(ids) > p.limit()
	for _, id := range ids[:min(len(ids), p.limit())] {
		e, err := need[executionRecord](r, "execution", id)
		if err != nil {
			return nil, "", err
		}
		out = append(out, WaveMember{e.Device, &e.Execution})
	}
	if more {
		next = out[len(out)-1].Device
	}
	return out, next, nil
}

// rollBackSuffix is what the name of a job's roll-back job ends in.
const rollBackSuffix = "-roll-back"

// rollBackPart makes the job that brings the devices back which have succeeded,
// and starts it.
func (t *txn) rollBackPart(p *progressRecord) error {
	p.done(taskRollBack)
	pl, err := t.plan(p.Name)
	if err != nil {
		return err
	}
	image, err := find[Image](t, p.RollBack)
	if err != nil {
		return err
	}
	name, err := t.freeName(p.Name[:min(len(p.Name), schemas.MaxIDLength-len(rollBackSuffix)-3)] + rollBackSuffix)
	if err != nil {
		return err
	}
	found, err := inStates(t, p.Name, []schemas.State{schemas.StateSucceeded}, "", MaxJobDevices)
	if err != nil {
		return err
	}
	list := make([]member, len(found))
	for i, x := range found {
		list[i].id = x.device
	}
	if image == nil || len(list) == 0 {
		p.RollBack = "" // there is nothing to bring back, or nothing to bring it with
		return nil
	}
	p.RollBackJob = name
	actor := t.actor
	t.actor = Actor{Name: ActorSystem, Kind: ActorSystem}
	defer func() { t.actor = actor }()
	t.out.work = true
	_, err = t.newJob(NewJob{
		Name: name, Image: image.ID, IgnoreValidation: true, Start: true, Rollout: pl.backwards(),
		Description: fmt.Sprintf("Brings back the devices of job %s: %s", p.Name, strings.TrimSpace(p.Reason)),
	}, list, nil)
	return err
}

// backwards is the rollout of a job's roll-back: at once, but tried again and timed
// as the job itself.
func (p *plan) backwards() *Rollout {
	if p == nil || p.Retry == nil && p.Timeouts == nil {
		return nil
	}
	return &Rollout{Retry: p.Retry, Timeouts: p.Timeouts, Priority: p.Priority}
}

// freeName returns the name, or with a number if it is taken.
func (t *txn) freeName(name string) (string, error) {
	for i, try := 2, name; ; i, try = i+1, fmt.Sprintf("%s-%d", name, i) {
		taken, err := find[jobRecord](t, try)
		if err != nil || taken == nil {
			return try, err
		}
	}
}
