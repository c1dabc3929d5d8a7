package orchestrator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"davit/schemas"
)

// grantTime is for how long a grant is remembered at most: where several replicas
// share a store, another one may have changed the execution.
const grantTime = time.Minute

// grant says what a device may fetch: an image and its manifest. It does not change but in
// that it ends.
type grant struct {
	image    granted
	manifest granted // of size 0 if the image has none
	until    time.Time
	ended    atomic.Bool // the executions may have changed, or another grant is remembered
	// stream is what its job says of the image's shared stream.
	stream StreamMode
}

// granted is bytes that a device may fetch.
type granted struct {
	id   string // that it fetches them by
	sum  string
	tag  schemas.ImageTag
	size uint64
	// manifest says that it is a manifest, and no image.
	manifest bool
}

func grantedBytes(id, sum string, size uint64) granted {
	tag, _ := schemas.TagOf(sum)
	return granted{id: id, sum: sum, tag: tag, size: size}
}

// holds says whether g can be gone by. It may be nil.
func (g *grant) holds(now time.Time) bool {
	return g != nil && !g.ended.Load() && now.Before(g.until)
}

// of returns what the device may fetch by an id, and how it is streamed; nil if
// nothing. A manifest is not streamed.
func (g *grant) of(id string) (*granted, StreamMode) {
	switch {
	case g.image.size > 0 && g.image.id == id:
		return &g.image, g.stream
	case g.manifest.size > 0 && g.manifest.id == id:
		return &g.manifest, StreamNever
	}
	return nil, StreamNever
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

// of returns the grant of a device that covers an id, nil if none is remembered.
// begun is then to be given to keep.
func (g *grants) of(device, id string, now time.Time) (known, begun *grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.byDevice[device]
	if m.holds(now) {
		if what, _ := m.of(id); what != nil {
			return m, nil
		}
	}
	if m != nil {
		m.ended.Store(true) // who has it would not learn of a change any more
	}
	g.sweep(now)
	begun = &grant{until: now.Add(grantTime)}
	g.byDevice[device] = begun
	return nil, begun
}

// keep remembers what was read since of was called, unless the device's executions
// have changed meanwhile: then it holds for this once.
func (g *grants) keep(device string, begun, found *grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found.until = begun.until
	if g.byDevice[device] != begun {
		found.ended.Store(true)
		return
	}
	g.byDevice[device] = found
}

// drop forgets the devices' grants.
func (g *grants) drop(devices map[string]bool) {
	if len(devices) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for d := range devices {
		if m := g.byDevice[d]; m != nil {
			m.ended.Store(true)
			delete(g.byDevice, d)
		}
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

// granted returns a grant that covers an id, that of an image or the SHA-256 of a manifest:
// the device has to have an execution under way for the image.
func (s *Service) granted(ctx context.Context, ask *Ask, id string) (*grant, error) {
	if ask.grant.holds(ask.at) {
		if what, _ := ask.grant.of(id); what != nil {
			return ask.grant, nil
		}
	}
	known, begun := s.grants.of(ask.Device, id, ask.at)
	if known != nil {
		return known, nil
	}
	return s.readGrant(ctx, ask.Device, id, begun)
}

// readGrant reads a grant from the store and remembers it.
func (s *Service) readGrant(ctx context.Context, device, id string, begun *grant) (read *grant, err error) {
	err = s.store.View(ctx, func(r Reader) (err error) {
		read, err = s.grantOf(r, device)
		return err
	})
	if err != nil {
		return nil, err
	}
	if what, _ := read.of(id); what == nil {
		return nil, fmt.Errorf("fetch of image %q: %w: the device has no execution under way for it", id, ErrConflict)
	}
	s.grants.keep(device, begun, read)
	return read, nil
}

// grantOf reads what the device may fetch, which is nothing without an execution
// under way.
func (s *Service) grantOf(r Reader, device string) (*grant, error) {
	st, _, err := load(r, device, nil)
	if err != nil {
		return nil, err
	}
	g := &grant{stream: StreamAuto}
	i := st.current()
	if i < 0 {
		return g, nil
	}
	x := &st.Executions[i]
	p, err := s.plans.of(r, x.Job)
	if err != nil {
		return nil, err
	}
	if p != nil {
		g.stream = p.streams()
	}
	g.image = grantedBytes(x.Image, x.SHA256, x.BytesTotal)
	m, err := s.manifestOf(r, x.Image)
	if err != nil {
		return nil, err
	}
	if m != nil {
		g.manifest = grantedBytes(m.SHA256, m.SHA256, m.Size)
		g.manifest.manifest = true
	}
	return g, nil
}
