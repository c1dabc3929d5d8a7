package orchestrator

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What counters count. A counter's key is one of these and the values that it
// counts by; records say which counters count them (stored.counters), so put and
// remove keep them and Check verifies them.
const (
	countDevices     = "devices"     // by device type
	countOnline      = "online"      // devices that are connected
	countQuarantined = "quarantined" // devices that are in quarantine
	countVersions    = "versions"    // devices, by image type and reported version
	countLabels      = "labels"      // devices, by name and value of a label
	countImages      = "images"      // images that are not archived, by image type
	countJobs        = "jobs"        // by state
)

func counterOf(parts ...string) string { return strings.Join(parts, "\x00") }

// tally notes that the counters named change by n.
func (t *txn) tally(keys []string, n int) {
	for _, k := range keys {
		t.counts[k] += n
	}
}

func (t *txn) flushCounters() error {
	for _, k := range slices.Sorted(maps.Keys(t.counts)) {
		delta := t.counts[k]
		if delta == 0 {
			continue
		}
		key := []byte(k)
		b, err := t.Get(tableCounters, key)
		if err != nil {
			return err
		}
		have := 0
		if len(b) == 8 {
			have = int(binary.BigEndian.Uint64(b))
		}
		have += delta
		switch {
		case have < 0:
			return fmt.Errorf("counter %q would fall to %d; run davit check", k, have)
		case have == 0:
			err = t.Delete(tableCounters, key)
		default:
			err = t.Put(tableCounters, key, binary.BigEndian.AppendUint64(nil, uint64(have)))
		}
		if err != nil {
			return err
		}
	}
	clear(t.counts)
	return nil
}

// readCounter returns one counter, 0 if nothing is counted by it.
func readCounter(r Reader, parts ...string) (int, error) {
	b, err := r.Get(tableCounters, []byte(counterOf(parts...)))
	if err != nil || len(b) != 8 {
		return 0, err
	}
	return int(binary.BigEndian.Uint64(b)), nil
}

// readCounters calls fn for each counter of a kind with the values that it
// counts by.
func readCounters(r Reader, kind string, fn func(by []string, n int)) error {
	return r.Scan(tableCounters, []byte(kind), nil, func(k, v []byte) bool {
		parts := strings.Split(string(k), "\x00")
		if parts[0] == kind && len(v) == 8 {
			fn(parts[1:], int(binary.BigEndian.Uint64(v)))
		}
		return true
	})
}
