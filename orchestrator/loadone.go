package orchestrator

import "davit/schemas"

// loadOne reads an execution alone, for a report that cannot concern any other of
// the device: one of an update that goes on, which are nearly all there are. The
// device is taken up by it before and after, so no other has its turn, and its offer
// stays as it is. It costs one record, whatever else waits; one that accepts an offer
// may let nothing else wait. false if the whole aggregate is needed.
func (t *txn) loadOne(device string, dev *Device, ev Event) (State, map[string]*executionRecord, bool, error) {
	r, ok := ev.(Reported)
	if !ok || dev != nil || !accepted(r.Status.State) || r.Status.HostVersion != "" {
		return State{}, nil, false, nil
	}
	e, err := t.scratch.execution(t, r.Status.Execution)
	if err != nil || e == nil || e.Device != device || !goesOn(&e.Tracked, &r.Status) {
		return State{}, nil, false, err
	}
	if e.State == schemas.StateOffered {
		// What is accepted lets nothing be ready on the device any more (jobready.go).
		if ids, err := openOf(t, device); err != nil || len(ids) > 1 {
			return State{}, nil, false, err
		}
	}
	if pl, err := t.plan(e.Job); err != nil || pl != nil && pl.recalls() {
		return State{}, nil, false, err // it may be taken back when a window closes
	}
	s := &t.scratch
	s.alone = append(s.alone[:0], e.Tracked)
	if s.records == nil {
		s.records = map[string]*executionRecord{}
	}
	clear(s.records)
	s.records[e.ID] = e
	return State{Device: device, Executions: s.alone, Retained: true}, s.records, true, nil
}

// accepted says whether a device in this state is at work on what it has accepted.
func accepted(s schemas.State) bool {
	return !s.Final() && s.Rank() > schemas.StateOffered.Rank()
}

// goesOn says whether an execution is under way before and after a report of such a
// state. An offer goes on if this report accepts it, as it may be taken back until
// then. What is only to be downloaded waits again when it is.
func goesOn(t *Tracked, s *schemas.Status) bool {
	if s.State == schemas.StateDownloaded && t.Action == ActionDownload {
		return false
	}
	return accepted(t.State) || t.State == schemas.StateOffered && s.Attempt == t.Attempt
}
