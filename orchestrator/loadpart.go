package orchestrator

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

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
// named by the event and has no higher priority. Of such a one it looks at two fields
// only, and not at its job, as a device may have hundreds of them. false if nothing
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
		var ok bool
		if waiting[i], ok = priorityOfWaiting(rec); !ok {
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

var (
	queuedField   = []byte(`,"state":"queued","cause":"",`)
	historyField  = []byte(`,"history":`)
	priorityField = []byte(`,"priority":`)
	queuedPacked  = append([]byte{packedMark, stateTag, byte(len(schemas.StateQueued))}, schemas.StateQueued...)
)

// The first tags of executionPacking.
const (
	stateTag    = 1
	historyTag  = 2
	priorityTag = 3
)

// priorityOfWaiting returns the priority of an execution that is queued for the
// first time, from its record as it is stored. false for any other record, and for
// one that does not look as this program writes it. No text in a record of JSON can
// be taken for a field, as its quotes are escaped.
func priorityOfWaiting(rec []byte) (priority int, ok bool) {
	if isPacked(rec) {
		return packedPriority(rec)
	}
	if !bytes.Contains(rec, queuedField) || bytes.Contains(rec, historyField) {
		return 0, false
	}
	_, rest, found := bytes.Cut(rec, priorityField)
	if !found {
		return 0, true
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, false
	}
	priority, err := strconv.Atoi(string(rest[:end]))
	return priority, err == nil
}

// packedPriority is priorityOfWaiting of a packed record, which begins with the state,
// the history and the priority.
func packedPriority(rec []byte) (priority int, ok bool) {
	rest, ok := bytes.CutPrefix(rec, queuedPacked)
	if !ok || len(rest) == 0 || rest[0] == historyTag {
		return 0, false
	}
	if rest[0] != priorityTag {
		return 0, true
	}
	n, size := binary.Varint(rest[1:])
	return int(n), size > 0
}
