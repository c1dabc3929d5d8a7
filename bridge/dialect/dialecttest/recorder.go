// Package dialecttest is what the tests of every dialect share: a recorder of
// what a session tells, and a rig that runs a session against a simulated host MCU
// in virtual time and holds the recorded end against what the MCU really runs.
//
// It is imported by tests only. It may import the simulation, which must not know
// the dialects.
package dialecttest

import (
	"slices"
	"sync"

	"davit/bridge/dialect"
	"davit/schemas"
)

// Recorder keeps what a session tells. It is the session's Events and the
// Reporter of its updates.
type Recorder struct {
	// Done receives the end of each update.
	Done chan dialect.Result

	mu     sync.Mutex
	log    []string
	counts map[dialect.Counter]int
	refuse error
	bytes  uint64
}

// NewRecorder returns an empty Recorder.
func NewRecorder() *Recorder {
	return &Recorder{counts: map[dialect.Counter]int{}, Done: make(chan dialect.Result, 1)}
}

func (r *Recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, s)
}

// Said is what was told so far: states, reports of versions as "name=version",
// and the end.
func (r *Recorder) Said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Forget drops what was told so far.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Refuse makes State answer with err from now on.
func (r *Recorder) Refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = err
}

// Count is how much was counted under c.
func (r *Recorder) Count(c dialect.Counter) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[c]
}

// Loaded is how many bytes the last report of a load had.
func (r *Recorder) Loaded() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

// Version implements dialect.Events.
func (r *Recorder) Version(property, version string) { r.add(property + "=" + version) }

// Restarted implements dialect.Events.
func (r *Recorder) Restarted() {}

// Counted implements dialect.Events.
func (r *Recorder) Counted(c dialect.Counter, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[c] += n
}

// State implements dialect.Reporter.
func (r *Recorder) State(s schemas.State, n uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == schemas.StateInstalling {
		r.bytes = n
	}
	if s != schemas.StateInstalling || n == 0 { // later there is one for each frame
		r.log = append(r.log, string(s))
	}
	return r.refuse
}

// Ended implements dialect.Reporter.
func (r *Recorder) Ended(e dialect.Result) {
	r.add(string(e.State))
	r.Done <- e
}
