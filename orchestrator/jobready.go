package orchestrator

import (
	"encoding/binary"
)

// indexExecReady holds the executions that only their job holds back, by job,
// lane, wave and rank: when the job has room again, the next ones are there
// without looking at any other. On a device that was offered an update those are the
// ones of a higher priority, for which the offer is taken back then; on one that has
// accepted an update there are none. It follows from what Step says of a device, and
// not from a record alone.

// readyKey is where an execution stands when it is ready.
func (t *Tracked) readyKey() []byte {
	k := readyPrefix(t.Job, t.Lane)
	k = binary.BigEndian.AppendUint16(k, uint16(t.Wave))
	k = binary.BigEndian.AppendUint64(k, t.Rank)
	return append(k, t.Device...)
}

func readyPrefix(job string, lane int) []byte {
	return binary.BigEndian.AppendUint16(prefixOf(job), uint16(lane))
}

// readyAt reads wave and device of a key with that prefix.
func readyAt(key, prefix []byte) (wave int, device string) {
	rest := key[len(prefix):]
	return int(binary.BigEndian.Uint16(rest)), string(rest[10:])
}

// keepReady brings the index to what Step said of a device. A job that has one more
// that is ready is looked at, so that it is woken when it has room.
func (t *txn) keepReady(before, after *State) error {
	if before.accepted() && after.accepted() {
		return nil // nothing was ready and nothing is
	}
	queued := make(map[string]bool, len(before.Executions))
	for i := range before.Executions {
		if x := &before.Executions[i]; !x.open() && !x.State.Final() {
			queued[x.ID] = true
		}
	}
	waiting := make(map[string]bool, len(after.Waiting))
	for _, id := range after.Waiting {
		waiting[id] = true
	}
	for i := range after.Executions {
		x := &after.Executions[i]
		want := waiting[x.ID]
		if !want && !queued[x.ID] {
			continue
		}
		key := x.readyKey()
		there, err := t.Get(indexExecReady, key)
		if err != nil || want == (there != nil) {
			if err != nil {
				return err
			}
			continue
		}
		if want {
			if _, err := t.job(x.Job); err != nil {
				return err
			}
			t.progress[x.Job].moved = true
			err = t.Put(indexExecReady, key, keyOf(x.ID))
		} else {
			t.gone++
			err = t.Delete(indexExecReady, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lanes are the numbers of a job's lanes.
func (p *progressRecord) lanes() int { return max(1, len(p.Lanes)) }

// firstReady returns the wave of the first ready execution in a lane, false if
// there is none.
func (t *txn) firstReady(job string, lane int) (wave int, ok bool, err error) {
	prefix := readyPrefix(job, lane)
	err = t.Scan(indexExecReady, prefix, nil, func(k, _ []byte) bool {
		wave, _ = readyAt(k, prefix)
		ok = true
		return false
	})
	return wave, ok, err
}

// anyReady says whether an execution of a wave is ready in an open lane.
func (t *txn) anyReady(p *progressRecord, pl *plan, wave int) (bool, error) {
	if pl.Waves[wave-1].Of != OfOnline {
		return false, nil // nobody asks
	}
	for i := range p.lanes() {
		prefix := binary.BigEndian.AppendUint16(readyPrefix(p.Name, i), uint16(wave))
		key, err := anyUnderPrefix(t, indexExecReady, prefix)
		if err != nil || key {
			return key, err
		}
	}
	return false, nil
}

func anyUnderPrefix(r Reader, table Table, prefix []byte) (found bool, err error) {
	err = r.Scan(table, prefix, nil, func(_, _ []byte) bool {
		found = true
		return false
	})
	return found, err
}

// nextReady returns at most n ready devices of a lane in released waves.
func (t *txn) nextReady(p *progressRecord, lane, n int) ([]string, error) {
	var devices []string
	prefix := readyPrefix(p.Name, lane)
	err := t.Scan(indexExecReady, prefix, nil, func(k, _ []byte) bool {
		wave, device := readyAt(k, prefix)
		if wave > p.Wave {
			return false
		}
		devices = append(devices, device)
		return len(devices) < n
	})
	return devices, err
}
