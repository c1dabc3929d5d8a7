package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"davit/bridge/spool"
	"davit/schemas"
)

// Times and limits of a download.
const (
	// DefaultWindow is how many chunks are asked for ahead.
	DefaultWindow = 8
	// firstStall is the wait for a chunk before anything was measured, and
	// minStall and maxStall bound it afterwards.
	firstStall = 2 * time.Second
	minStall   = 200 * time.Millisecond
	maxStall   = 30 * time.Second
	// stallsPerLeader is after how many stalls in a row another device that
	// wants the image asks for it.
	stallsPerLeader = 3
	// maxMismatches is how often an image is fetched whose SHA-256 does not
	// agree.
	maxMismatches = 3
	// latePieces is how many pieces that were given up are remembered: they
	// may arrive yet.
	latePieces = 64
)

// downloads are the images that are being fetched: each once, for all devices
// that want it.
type downloads struct {
	publish   func(ctx context.Context, device string, f *schemas.Fetch) error
	spool     *spool.Spool
	metrics   *Metrics
	log       *slog.Logger
	window    int
	patience  time.Duration
	ctx       context.Context // ends with the bridge
	mu        sync.Mutex
	running   map[string]*download
	connected bool
	all       sync.WaitGroup
}

// member is a device that wants an image.
type member struct {
	device string
	image  string // the id by which the device was offered it
	chunk  int
	done   func(error) // called once, from the download's goroutine
}

// download fetches one image. Its goroutine owns pieces, late and the timer;
// mu guards members and up.
type download struct {
	ds     *downloads
	img    *spool.Image
	tag    schemas.ImageTag
	held   atomic.Uint64
	chunks chan []byte
	wake   chan struct{}
	cancel context.CancelFunc

	mu      sync.Mutex
	members []*member
	up      bool

	pieces     []piece
	late       []piece
	timer      stallTimer
	transfer   uint16
	stalls     int
	mismatches int
	deadline   time.Time // without a byte until then, it has failed
}

// piece is a chunk that was asked for.
type piece struct {
	schemas.Range
	transfer uint16
	sent     time.Time
}

// errNetwork and errChecksum are what members are told beside errors of the
// spool.
var (
	errNetwork  = errors.New("no data from the service")
	errChecksum = errors.New("the image is not what was announced")
)

// join makes m wait for the image and starts to fetch it if nobody has.
func (ds *downloads) join(sum string, size uint64, m *member) (*download, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if dl := ds.running[sum]; dl != nil {
		dl.mu.Lock()
		dl.members = append(dl.members, m)
		dl.mu.Unlock()
		return dl, nil
	}
	img, err := ds.spool.Acquire(sum, size)
	if err != nil {
		return nil, err
	}
	ds.metrics.spooled(ds.spool.Used())
	tag, _ := schemas.TagOf(sum) // Acquire has checked it
	ctx, cancel := context.WithCancel(ds.ctx)
	dl := &download{
		ds: ds, img: img, tag: tag, members: []*member{m}, up: ds.connected, cancel: cancel,
		chunks: make(chan []byte, 4*schemas.MaxWindow), wake: make(chan struct{}, 1), transfer: uint16(time.Now().UnixNano()),
	}
	dl.held.Store(img.Held())
	ds.running[sum] = dl
	ds.all.Go(func() { ds.run(ctx, sum, dl) })
	return dl, nil
}

// run runs dl to its end and tells its members.
func (ds *downloads) run(ctx context.Context, sum string, dl *download) {
	defer dl.cancel()
	err := dl.run(ctx)
	ds.mu.Lock()
	if ds.running[sum] == dl {
		delete(ds.running, sum)
	}
	dl.mu.Lock()
	members := dl.members
	dl.members = nil
	dl.mu.Unlock()
	ds.mu.Unlock()
	if ctx.Err() == nil || err == nil {
		for _, m := range members {
			m.done(err)
		}
	}
	if err := dl.img.Release(); err != nil {
		ds.log.Warn("image spool", "error", err)
	}
	ds.metrics.spooled(ds.spool.Used())
}

// leave says that m does not want the image any more. m may still be told once.
func (dl *download) leave(m *member) {
	dl.ds.mu.Lock()
	defer dl.ds.mu.Unlock()
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.members = slices.DeleteFunc(dl.members, func(x *member) bool { return x == m })
	if len(dl.members) == 0 {
		dl.cancel()
		if dl.ds.running[dl.img.SHA256()] == dl {
			delete(dl.ds.running, dl.img.SHA256()) // who joins now begins anew
		}
	}
}

// setConnected says whether asking makes sense.
func (ds *downloads) setConnected(up bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.connected = up
	for _, dl := range ds.running {
		dl.mu.Lock()
		dl.up = up
		dl.mu.Unlock()
		select {
		case dl.wake <- struct{}{}:
		default:
		}
	}
}

// take hands a chunk message to the download without waiting: what it cannot
// hold is lost and asked for again.
func (dl *download) take(b []byte) {
	select {
	case dl.chunks <- b:
	default:
		dl.ds.metrics.strayChunk()
	}
}

func (dl *download) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	up := false
	for {
		if dl.img.Held() == dl.img.Size() {
			done, err := dl.verify()
			if done {
				return err
			}
		}
		leader, now := dl.leader(), time.Now()
		switch {
		case leader == nil:
			return context.Canceled
		case up != dl.connected():
			up = !up
			dl.expire(now, true)
			dl.deadline, dl.stalls, dl.timer.backoff = now.Add(dl.ds.patience), 0, 0
		}
		next := time.Hour
		if up {
			if !now.Before(dl.deadline) {
				return fmt.Errorf("%w for %v, at %d of %d bytes", errNetwork, dl.ds.patience, dl.img.Held(), dl.img.Size())
			}
			dl.expire(now, false)
			dl.ask(ctx, leader, now)
			next = max(0, time.Until(dl.next()))
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b := <-dl.chunks:
			if err := dl.chunk(b); err != nil {
				return err
			}
		case <-dl.wake:
		case <-timer.C:
		}
	}
}

// leader is the device in whose name the image is asked for.
func (dl *download) leader() *member {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if len(dl.members) == 0 {
		return nil
	}
	return dl.members[dl.stalls/stallsPerLeader%len(dl.members)]
}

func (dl *download) connected() bool {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return dl.up
}

// verify compares the whole image's hash. Bytes that were wrong are fetched
// again, for a while.
func (dl *download) verify() (done bool, err error) {
	err = dl.img.Verify()
	dl.held.Store(dl.img.Held())
	if !errors.Is(err, spool.ErrChecksum) {
		return true, err
	}
	dl.pieces, dl.late = nil, nil
	if dl.mismatches++; dl.mismatches >= maxMismatches {
		return true, fmt.Errorf("%w, %d times: %w", errChecksum, dl.mismatches, err)
	}
	dl.ds.log.Warn("the image fetched is not the one announced; fetching it again", "error", err)
	return false, nil
}

// next is when something is due.
func (dl *download) next() time.Time {
	at := dl.deadline
	for _, p := range dl.pieces {
		if due := p.sent.Add(dl.timer.wait()); due.Before(at) {
			at = due
		}
	}
	return at
}

// expire gives up pieces that did not come in time, or all.
func (dl *download) expire(now time.Time, all bool) {
	wait := dl.timer.wait()
	n := len(dl.pieces)
	dl.pieces = slices.DeleteFunc(dl.pieces, func(p piece) bool {
		gone := all || now.Sub(p.sent) >= wait
		if gone {
			dl.late = append(dl.late, p)
		}
		return gone
	})
	if over := len(dl.late) - latePieces; over > 0 {
		dl.late = slices.Delete(dl.late, 0, over)
	}
	if len(dl.pieces) < n && !all {
		dl.stalls++
		dl.timer.stalled()
	}
}

// ask fills the window, once half of it is free.
func (dl *download) ask(ctx context.Context, leader *member, now time.Time) {
	free := dl.ds.window - len(dl.pieces)
	if free < max(1, dl.ds.window/2) {
		return
	}
	wanted := dl.wanted(uint64(leader.chunk), free)
	if len(wanted) == 0 {
		return
	}
	dl.transfer++
	f := &schemas.Fetch{V: schemas.Version, Image: leader.image, Tag: dl.transfer, Chunk: leader.chunk, Ranges: join(wanted, uint64(leader.chunk))}
	for _, r := range wanted {
		dl.pieces = append(dl.pieces, piece{Range: r, transfer: dl.transfer, sent: now})
	}
	// An error means that there is no connection, or none any more: the pieces run out of time.
	if err := dl.ds.publish(ctx, leader.device, f); err != nil {
		dl.ds.log.Debug("fetch", "device", leader.device, "error", err)
	}
}

// wanted returns up to n chunks that are missing and not asked for.
func (dl *download) wanted(chunk uint64, n int) []schemas.Range {
	var out []schemas.Range
	for _, hole := range dl.img.Missing(n + len(dl.pieces) + 1) {
		for at := hole.Offset; at < hole.End() && len(out) < n; {
			end := min(at+chunk, hole.End())
			for _, p := range dl.pieces {
				switch {
				case p.Offset <= at && at < p.End():
					end = at // asked for: pass it over
					at = min(p.End(), hole.End())
				case p.Offset > at && p.Offset < end:
					end = p.Offset
				}
				if end <= at {
					break
				}
			}
			if end > at {
				out = append(out, schemas.Range{Offset: at, Length: end - at})
				at = end
			}
		}
	}
	return out
}

// join makes one range of chunks in a row that are full but for the last.
func join(chunks []schemas.Range, size uint64) []schemas.Range {
	var out []schemas.Range
	for _, c := range chunks {
		if n := len(out); n > 0 && out[n-1].End() == c.Offset && out[n-1].Length%size == 0 {
			out[n-1].Length += c.Length
			continue
		}
		out = append(out, c)
	}
	return out
}

// chunk takes a chunk message. Its error ends the download.
func (dl *download) chunk(b []byte) error {
	h, data, err := schemas.ParseChunk(b)
	if err != nil {
		dl.ds.metrics.refusedMessage(schemas.KindChunk)
		return nil
	}
	r := schemas.Range{Offset: h.Offset, Length: uint64(len(data))}
	if h.Image != dl.tag || r.End() > dl.img.Size() {
		dl.ds.metrics.strayChunk()
		return nil
	}
	i := find(dl.pieces, h.Transfer, r)
	if i < 0 && find(dl.late, h.Transfer, r) < 0 {
		dl.ds.metrics.strayChunk()
		return nil
	}
	if err := dl.img.WriteAt(data, h.Offset); err != nil {
		return err
	}
	now, held := time.Now(), dl.img.Held()
	dl.ds.metrics.chunk(len(data))
	if held != dl.held.Swap(held) { // what is doubled is no progress
		dl.stalls, dl.deadline = 0, now.Add(dl.ds.patience)
		dl.timer.arrived()
	}
	if i >= 0 {
		dl.timer.observe(now.Sub(dl.pieces[i].sent))
	}
	dl.pieces = slices.DeleteFunc(dl.pieces, func(p piece) bool { return dl.img.Has(p.Range) })
	return nil
}

// find returns the piece of transfer tag that holds r, or -1.
func find(pieces []piece, tag uint16, r schemas.Range) int {
	return slices.IndexFunc(pieces, func(p piece) bool {
		return p.transfer == tag && p.Offset <= r.Offset && r.End() <= p.End()
	})
}

// stallTimer measures how long a chunk takes to come, and says when to ask
// again (as RFC 6298 does).
type stallTimer struct {
	mean, spread time.Duration
	measured     bool
	backoff      int
}

func (t *stallTimer) observe(took time.Duration) {
	if !t.measured {
		t.mean, t.spread, t.measured = took, took/2, true
		return
	}
	t.spread += ((took - t.mean).Abs() - t.spread) / 4
	t.mean += (took - t.mean) / 8
}

func (t *stallTimer) stalled() { t.backoff = min(t.backoff+1, 10) }
func (t *stallTimer) arrived() { t.backoff = 0 }

func (t *stallTimer) wait() time.Duration {
	w := firstStall
	if t.measured {
		w = max(minStall, t.mean+4*t.spread)
	}
	return min(w<<t.backoff, maxStall)
}
