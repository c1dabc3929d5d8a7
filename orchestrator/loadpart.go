package orchestrator

import (
	"math"

	"davit/schemas"
)

// loadPart reads as much of a device's aggregate as an event needs, as far as that
// is known before. whole says that Step cannot come to anything else with more of
// it; otherwise that holds if the same attempt is under way before and after.
func (t *txn) loadPart(device string, dev *Device, ev Event) (st State, records map[string]*executionRecord, whole bool, err error) {
	st, records, found, err := t.loadOne(device, dev, ev)
	if err != nil || found {
		return st, records, true, err
	}
	if st, records, found, err = t.loadTaken(device, dev, ev); err != nil || found {
		return st, records, false, err
	}
	st, records, err = t.loadAll(device, dev, ev)
	return st, records, true, err
}

// loadTaken reads a device's aggregate without what waits for the device and has no
// say as long as the execution that is under way goes on: what is queued, is not
// named by the event and has no higher priority. Of such a one it reads two fields
// only, and not its job, as a device may have hundreds of them. false if nothing
// is under way, or the event ends it, or little waits.
func (t *txn) loadTaken(device string, dev *Device, ev Event) (st State, records map[string]*executionRecord, found bool, err error) {
	if !lasting(ev) {
		return st, nil, false, nil
	}
	ids, err := openOf(t, device)
	if err != nil || len(ids) < 2 {
		return st, nil, false, err
	}
	named, err := t.concerned(device, dev, ev)
	if err != nil {
		return st, nil, false, err
	}
	waiting := make([]int, len(ids)) // their priorities
	for i, id := range ids {
		rec, err := t.Get(tableExecutions, keyOf(id))
		if err != nil || rec == nil {
			return st, nil, false, err // loadAll tells of what is not there
		}
		state, priority, ok := turnOf(rec)
		if waiting[i] = priority; !ok || state != schemas.StateQueued {
			named, waiting[i] = append(named, id), math.MinInt
		}
	}
	st, records, err = loadThese(t, device, dev, nil, named)
	current := st.current()
	if err != nil || current < 0 {
		return st, nil, false, err
	}
	var higher []string
	for i, id := range ids {
		if waiting[i] > st.Executions[current].Priority {
			higher = append(higher, id)
		}
	}
	if len(higher) > 0 {
		st, records, err = loadThese(t, device, dev, higher, named)
	}
	return st, records, true, err
}

// lasting says whether what is under way on a device is likely to go on after an
// event, which is about nothing else that has not ended but what it names.
func lasting(ev Event) bool {
	switch e := ev.(type) {
	case Heard, Settle, Resync, Queue:
		return true
	case Reported:
		return !e.Status.State.Final()
	}
	return false
}

// The first tags of executionPacking.
const (
	stateTag    = 1
	priorityTag = 2
)

// turnOf reads of a stored execution only what says when it has its turn. false for
// a record that does not look as this program writes it, which has to be read whole.
func turnOf(rec []byte) (state schemas.State, priority int, ok bool) {
	p := recordParser{rest: string(rec)}
	if isPacked(rec) {
		state, priority, ok = p.packedTurn()
		return state, priority, ok
	}
	ok = p.object(func(key string) bool {
		switch key {
		case "state":
			var text string
			ok := p.text(&text)
			state = schemas.State(text)
			return ok
		case "priority":
			return p.int(&priority)
		}
		return p.skip()
	}) && p.rest == ""
	return state, priority, ok
}

// packedTurn is turnOf of a packed record, which begins with state and priority.
func (p *recordParser) packedTurn() (state schemas.State, priority int, ok bool) {
	p.rest = p.rest[1:]
	if p.rest == "" || p.rest[0] != stateTag {
		return "", 0, false
	}
	p.rest = p.rest[1:]
	text, ok := p.packedText()
	if ok && p.rest != "" && p.rest[0] == priorityTag {
		p.rest = p.rest[1:]
		var n int64
		n, ok = p.varint()
		priority = int(n)
	}
	return schemas.State(text), priority, ok
}
