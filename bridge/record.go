package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"davit/internal/durable"
	"davit/schemas"
)

// record is what a device's session has to know after a restart of the bridge.
// It is written when a state changes, never for a frame.
type record struct {
	V      int    `json:"v"`
	Device string `json:"device"`
	// Dialect is the protocol of the host MCU as the service has said it, for a
	// port that is not configured for one.
	Dialect string `json:"dialect,omitempty"`
	// Versions maps version properties to what was reported last.
	Versions map[string]string `json:"versions,omitempty"`
	// Properties are the version properties that offers have named.
	Properties []string `json:"properties,omitempty"`
	// Open is the execution under way.
	Open *openRecord `json:"open,omitempty"`
	// Next is an offer that waits for the MCU to have booted.
	Next *schemas.Offer `json:"next,omitempty"`
	// NextTrace is what came with it.
	NextTrace *schemas.TraceHeader `json:"next_trace,omitempty"`
	// Ended are the executions that ended last, the newest at the end: a
	// result is repeated until it is acknowledged, and an offer that comes
	// again is not carried out again.
	Ended []endedRecord `json:"ended,omitempty"`
	// Kept are the SHA-256 of images that were fetched to be installed later, the
	// newest at the end.
	Kept []string `json:"kept,omitempty"`
}

type openRecord struct {
	Offer schemas.Offer `json:"offer"`
	State schemas.State `json:"state"`
	// Before is the version that the MCU reported before it was first told to
	// boot, if it did.
	Before string `json:"before,omitempty"`
	// SeqLimit is above every sequence number used so far. Numbers are
	// reserved in blocks, so that a progress report costs no write.
	SeqLimit uint64 `json:"seq_limit"`
	// Counter is the security counter of the image's manifest, which was verified;
	// nil if nothing was.
	Counter *uint64 `json:"counter,omitempty"`
	// Trace is what came with the offer, nil for nothing; PhaseAt is when the phase
	// of State began (traces.go).
	Trace   *schemas.TraceHeader `json:"trace,omitempty"`
	PhaseAt time.Time            `json:"phase_at,omitzero"`
}

type endedRecord struct {
	Execution string `json:"execution"`
	Attempt   int    `json:"attempt"`
	// Status is the result, or that the image is there if that was all that was
	// asked for; absent if the service ended the execution itself.
	Status *schemas.Status `json:"status,omitempty"`
	Acked  bool            `json:"acked"`
	// Trace is what Status carries.
	Trace *schemas.TraceHeader `json:"trace,omitempty"`
	// At is when it ended, the zero time if that is not known.
	At time.Time `json:"at,omitzero"`
}

// Limits of a record.
const (
	recordVersion = 1
	// maxEnded is how many ended executions are remembered.
	maxEnded = 16
	// seqBlock is how many sequence numbers are reserved at once.
	seqBlock = 1000
)

// records is the folder of the devices' records.
type records struct{ dir string }

// path gives the names a prefix of their own, since a device id may begin like
// an unfinished file of package durable.
func (r records) path(device string) string { return filepath.Join(r.dir, "device-"+device+".json") }

func (r records) load(device string) (record, error) {
	empty := record{V: recordVersion, Device: device, Versions: map[string]string{}}
	path := r.path(device)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("record of device %s: %w", device, err)
	}
	rec := empty
	if err := json.Unmarshal(b, &rec); err != nil {
		return record{}, fmt.Errorf("record of device %s in %s cannot be read: %w; remove the file to begin anew, which may offer a finished update once more", device, path, err)
	}
	if rec.V != recordVersion || rec.Device != device {
		return record{}, fmt.Errorf("record %s is of version %d and device %q, not %d and %q; was it copied?", path, rec.V, rec.Device, recordVersion, device)
	}
	if rec.Versions == nil {
		rec.Versions = map[string]string{}
	}
	return rec, nil
}

// save returns when rec is on disk.
func (r records) save(rec record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("record of device %s: %w", rec.Device, err)
	}
	if err := durable.WriteFile(r.path(rec.Device), b, 0o600); err != nil {
		return fmt.Errorf("record of device %s: %w", rec.Device, err)
	}
	return nil
}

// ended finds the remembered end of an execution's attempt.
func (rec *record) ended(execution string, attempt int) *endedRecord {
	for i := range rec.Ended {
		if e := &rec.Ended[i]; e.Execution == execution && e.Attempt == attempt {
			return e
		}
	}
	return nil
}

// overtaken says whether a later attempt of the execution has ended.
func (rec *record) overtaken(execution string, attempt int) bool {
	return slices.ContainsFunc(rec.Ended, func(e endedRecord) bool { return e.Execution == execution && e.Attempt > attempt })
}

// remember adds the end of an execution. The oldest that the service knows of
// makes room; one that it does not know of is kept.
func (rec *record) remember(e endedRecord) {
	rec.Ended = append(rec.Ended, e)
	if len(rec.Ended) <= maxEnded {
		return
	}
	if i := slices.IndexFunc(rec.Ended, func(e endedRecord) bool { return e.Acked }); i >= 0 {
		rec.Ended = slices.Delete(rec.Ended, i, i+1)
	}
}

// report takes a version and says whether it is news.
func (rec *record) report(property, version string) bool {
	old, known := rec.Versions[property]
	if old == version {
		return false
	}
	if !known && len(rec.Versions) >= schemas.MaxHostVersions {
		// More properties than a hello can carry: forget one that no offer names any more.
		for p := range rec.Versions {
			if !slices.Contains(rec.Properties, p) {
				delete(rec.Versions, p)
				break
			}
		}
		if len(rec.Versions) >= schemas.MaxHostVersions {
			return false
		}
	}
	rec.Versions = maps.Clone(rec.Versions) // a hello under way may still read the old map
	rec.Versions[property] = version
	return true
}

// name notes the version property of an offer.
func (rec *record) name(property string) {
	if property == "" || slices.Contains(rec.Properties, property) {
		return
	}
	if len(rec.Properties) >= schemas.MaxHostVersions {
		rec.Properties = slices.Delete(rec.Properties, 0, 1)
	}
	rec.Properties = append(rec.Properties, property)
}
