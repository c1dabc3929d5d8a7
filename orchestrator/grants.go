package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"davit/schemas"
)

// grantTime is for how long a grant is remembered at most: where several replicas
// share a store, another one may have changed the execution.
const grantTime = 10 * time.Second

// grant says which image a device may fetch.
type grant struct {
	image string // by its id
	sum   string
	tag   schemas.ImageTag
	size  uint64
	until time.Time
	// stream is what its job says of the image's shared stream.
	stream StreamMode
}

// grants remembers what the store said of the devices that fetch, so that it is not
// asked for every fetch. A commit that writes one of a device's executions drops
// the device's.
type grants struct {
	mu       sync.Mutex
	byDevice map[string]*grant
	swept    time.Time
}

func newGrants() *grants { return &grants{byDevice: map[string]*grant{}} }

// of returns the grant of a device for an image, nil if none is remembered. begun
// is then to be given to keep.
func (g *grants) of(device, image string, now time.Time) (known, begun *grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.byDevice[device]; m != nil && m.image == image && m.size > 0 && now.Before(m.until) {
		return m, nil
	}
	g.sweep(now)
	begun = &grant{until: now.Add(grantTime)}
	g.byDevice[device] = begun
	return nil, begun
}

// keep remembers what was read since of was called, unless the device's executions
// have changed meanwhile.
func (g *grants) keep(device string, begun *grant, found grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byDevice[device] == begun {
		found.until = begun.until
		g.byDevice[device] = &found
	}
}

// drop forgets the devices' grants.
func (g *grants) drop(devices map[string]bool) {
	if len(devices) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for d := range devices {
		delete(g.byDevice, d)
	}
}

// sweep forgets what is too old, once in a while; mu is held.
func (g *grants) sweep(now time.Time) {
	if now.Sub(g.swept) < grantTime {
		return
	}
	g.swept = now
	for d, m := range g.byDevice {
		if !now.Before(m.until) {
			delete(g.byDevice, d)
		}
	}
}

// regrant notes whose grant a record that is written may change.
func (t *txn) regrant(rec any) {
	if e, ok := rec.(*executionRecord); ok {
		if t.out.fetchers == nil {
			t.out.fetchers = map[string]bool{}
		}
		t.out.fetchers[e.Device] = true
	}
}

// granted returns what the device may fetch of the image: it has to have an
// execution under way for it.
func (s *Service) granted(ctx context.Context, device, image string) (*grant, error) {
	known, begun := s.grants.of(device, image, time.Now())
	if known != nil {
		return known, nil
	}
	var found *Tracked
	var mode StreamMode
	err := s.store.View(ctx, func(r Reader) error {
		st, _, err := load(r, device, nil)
		if err != nil {
			return err
		}
		found = nil
		if i := slices.IndexFunc(st.Executions, func(t Tracked) bool { return t.open() && t.Image == image }); i >= 0 {
			found = &st.Executions[i]
			p, err := s.plans.of(r, found.Job)
			if err != nil {
				return err
			}
			if mode = StreamAuto; p != nil {
				mode = p.streams()
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("fetch of image %q: %w: the device has no execution under way for it", image, ErrConflict)
	}
	tag, _ := schemas.TagOf(found.SHA256)
	read := grant{image: image, sum: found.SHA256, tag: tag, size: found.BytesTotal, stream: mode}
	s.grants.keep(device, begun, read)
	return &read, nil
}
