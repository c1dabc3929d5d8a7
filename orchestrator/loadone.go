package orchestrator

import "davit/schemas"

// loadOne reads an execution alone, for a report that cannot concern any other of
// the device: one in the middle of an update that has been accepted, which are
// nearly all there are. The device is then taken up by it before and after, so no
// other has its turn, and its offer stays as it is. It costs one record, whatever
// else waits. false if the whole aggregate is needed.
func (t *txn) loadOne(device string, dev *Device, ev Event) (State, map[string]*executionRecord, bool, error) {
	r, ok := ev.(Reported)
	if !ok || dev != nil || !passing(r.Status.State) || r.Status.HostVersion != "" {
		return State{}, nil, false, nil
	}
	e, err := find[executionRecord](t, r.Status.Execution)
	if err != nil || e == nil || e.Device != device || !passing(e.State) {
		return State{}, nil, false, err
	}
	if pl, err := t.plan(e.Job); err != nil || pl != nil && pl.recalls() {
		return State{}, nil, false, err // it may be taken back when a window closes
	}
	st := State{Device: device, Executions: []Tracked{e.Tracked}, Retained: true}
	return st, map[string]*executionRecord{e.ID: e}, true, nil
}

// passing says whether a device in this state goes on with what it has accepted.
func passing(s schemas.State) bool {
	switch s {
	case schemas.StateAccepted, schemas.StateDownloading, schemas.StateInstalling, schemas.StateBooting:
		return true
	}
	return false
}
