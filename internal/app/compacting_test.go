package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

// compactRig is a compacting in virtual time with everything around it made up.
type compactRig struct {
	compacting
	mu        sync.Mutex // while it runs
	began     time.Time
	sized     boltstore.Sizes
	disk      int64
	now       rollingOut
	fails     error
	compacted []time.Duration // since the start
	said      bytes.Buffer
}

// inQuiet runs f beside a compacting of a store with 200 of 300 MiB free.
func inQuiet(t *testing.T, f func(t *testing.T, r *compactRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &compactRig{began: time.Now(), sized: boltstore.Sizes{File: 300 << 20, Free: 200 << 20}, disk: 1 << 40}
		r.now.executions = map[schemas.State]int{schemas.StateSucceeded: 9, schemas.StateDownloading: 1} // one whose device is away
		r.compacting = compacting{
			free: DefaultCompactFree, spare: DefaultMinFree, dir: "data", log: slog.New(slog.NewTextHandler(&r.said, nil)),
			sizes: func() (boltstore.Sizes, error) { return r.sized, nil },
			room:  func(string) (int64, int64, error) { return r.disk, 1 << 41, nil },
			work: func(context.Context) (rollingOut, error) {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.now, nil
			},
			compact: func(context.Context) (orchestrator.Compaction, error) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.compacted = append(r.compacted, time.Since(r.began))
				if r.fails == nil {
					r.sized = boltstore.Sizes{File: 100 << 20}
				}
				return orchestrator.Compaction{Before: 300 << 20, After: 100 << 20}, r.fails
			},
		}
		f(t, r)
	})
}

// change changes what the compacting sees while it runs.
func (r *compactRig) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// pass lets time pass with the compacting running.
func (r *compactRig) pass(t *testing.T, d time.Duration, meanwhile func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.run(ctx) }()
	if meanwhile != nil {
		meanwhile()
	}
	time.Sleep(d)
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRecordsAreCompactedWhenItIsQuiet: once, ten minutes after the last that happened.
func TestRecordsAreCompactedWhenItIsQuiet(t *testing.T) {
	inQuiet(t, func(t *testing.T, r *compactRig) {
		r.pass(t, 24*time.Hour, func() {
			for range 20 { // a rollout moves now and then
				time.Sleep(9*time.Minute + time.Second)
				r.change(func() {
					r.now = rollingOut{executions: map[schemas.State]int{schemas.StateSucceeded: r.now.executions[schemas.StateSucceeded] + 1}}
				})
			}
			r.change(func() {
				if len(r.compacted) != 0 {
					t.Errorf("compacted at %v, within a rollout", r.compacted)
				}
				r.now.moves = true // one device, that takes hours
			})
			time.Sleep(3 * time.Hour)
			r.change(func() { r.now.moves = false })
		})
		end := 20*(9*time.Minute+time.Second) + 3*time.Hour
		if len(r.compacted) != 1 || r.compacted[0] < end+compactQuiet-compactLook || r.compacted[0] > end+compactQuiet+compactLook {
			t.Errorf("compacted at %v; the rollout ended at %v", r.compacted, end)
		}
		if n := strings.Count(r.said.String(), "event=store.compacted"); n != 1 || !strings.Contains(r.said.String(), "bytes=209715200") {
			t.Errorf("logged:\n%s", r.said.String())
		}
	})
}

// TestWhatIsNotWorthCompacting, or is not to be.
func TestWhatIsNotWorthCompacting(t *testing.T) {
	for name, change := range map[string]func(*compactRig){
		"off":          func(r *compactRig) { r.free = 0 },
		"half is free": func(r *compactRig) { r.sized = boltstore.Sizes{File: 400 << 20, Free: 200 << 20} },
		"a small file": func(r *compactRig) { r.sized = boltstore.Sizes{File: 64 << 20, Free: compactLeast - 1} },
	} {
		inQuiet(t, func(t *testing.T, r *compactRig) {
			change(r)
			r.pass(t, 24*time.Hour, nil)
			if len(r.compacted) != 0 || r.said.Len() > 0 {
				t.Errorf("%s: compacted at %v\n%s", name, r.compacted, r.said.String())
			}
		})
	}
}

// TestCompactingThatFailsIsTriedEveryHour: and without room on the disk nothing is begun.
func TestCompactingThatFailsIsTriedEveryHour(t *testing.T) {
	inQuiet(t, func(t *testing.T, r *compactRig) {
		r.fails = errors.New("injected")
		r.pass(t, 5*time.Hour, nil)
		if n := len(r.compacted); n < 4 || n > 5 || strings.Count(r.said.String(), "event=store.not_compacted") != n {
			t.Errorf("tried at %v\n%s", r.compacted, r.said.String())
		}
	})
	inQuiet(t, func(t *testing.T, r *compactRig) {
		r.disk = 100<<20 + DefaultMinFree - 1
		r.pass(t, 150*time.Minute, nil)
		if len(r.compacted) != 0 || !strings.Contains(r.said.String(), "make room") {
			t.Errorf("tried at %v\n%s", r.compacted, r.said.String())
		}
		r.disk++
		r.pass(t, time.Hour, nil)
		if len(r.compacted) != 1 {
			t.Errorf("with room: tried at %v", r.compacted)
		}
	})
}
