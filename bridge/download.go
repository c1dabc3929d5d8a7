package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/spool"
	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// stallsPerLeader is after how many stalls in a row another device that
	// wants the image asks for it.
	stallsPerLeader = 3
	// maxBadBlocks is how often a block of a signed image may turn out not to be what was
	// signed.
	maxBadBlocks = 3
	// maxMismatches is how often an image is fetched whose SHA-256 does not
	// agree.
	maxMismatches = 3
)

// download fetches one image. Its goroutine owns the fetcher and what stands with it; mu
// guards members, up and what concerns the shared stream.
type download struct {
	ds     *downloads
	img    *spool.Image
	tag    schemas.ImageTag
	held   atomic.Uint64
	chunks chan arrival
	wake   chan struct{}
	rejoin chan struct{}   // a connection stands on which there is no subscription yet
	ctx    context.Context // ends with the download
	cancel context.CancelFunc

	mu        sync.Mutex
	members   []*member
	up        bool
	listening bool // listen runs
	joining   bool // it is about to subscribe for the first time
	following bool // the shared stream is subscribed to

	fetcher    *fetcher.Fetcher
	asker      *member // in whose name the last fetch was sent
	mismatches int
	guarded    bool        // the spool checks its blocks
	badBlocks  map[int]int // how often each was wrong
	alarms     alarms
	deadline   time.Time // without a byte until then, it has failed
}

// arrival is a chunk message, of a device's own topic or of the image's shared stream.
type arrival struct {
	payload []byte
	stream  bool
}

// take hands a chunk message to the download without waiting: what it cannot
// hold is lost and asked for again.
func (dl *download) take(a arrival) {
	select {
	case dl.chunks <- a:
	default:
		dl.ds.metrics.strayChunk()
	}
}

// nudge has the download look at what has changed.
func (dl *download) nudge() {
	select {
	case dl.wake <- struct{}{}:
	default:
	}
}

func (dl *download) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	up := false
	for {
		if err := dl.guard(); err != nil {
			return err
		}
		if dl.img.Held() == dl.img.Size() {
			done, err := dl.verify()
			if done {
				return err
			}
		}
		dl.begin()
		leader, now := dl.leader(), time.Now()
		switch {
		case leader == nil:
			return context.Canceled
		case up != dl.connected():
			up = !up
			dl.fetcher.Restart()
			dl.deadline = now.Add(dl.ds.patience)
		}
		next := time.Hour
		if up {
			if !now.Before(dl.deadline) {
				return fmt.Errorf("%w for %v, at %d of %d bytes", errNetwork, dl.ds.patience, dl.img.Held(), dl.img.Size())
			}
			dl.ask(ctx, leader, now)
			next = max(0, time.Until(dl.next()))
			dl.slow(now)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case a := <-dl.chunks:
			if err := dl.chunksOf(a); err != nil {
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
	return dl.members[dl.fetcher.Stalls()/stallsPerLeader%len(dl.members)]
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
	if dl.guarded {
		return true, fmt.Errorf("%w: each block is what was signed and the whole is not, so the manifest contradicts itself; sign the image anew: %w", errChecksum, err)
	}
	dl.fetcher.Forget()
	if dl.mismatches++; dl.mismatches >= maxMismatches {
		return true, fmt.Errorf("%w, %d times: %w", errChecksum, dl.mismatches, err)
	}
	dl.ds.log.Warn("the image fetched is not the one announced; fetching it again", "event", logevent.FetchAgain, "error", err)
	return false, nil
}

// next is when something is due.
func (dl *download) next() time.Time {
	if at := dl.fetcher.Next(); !at.IsZero() && at.Before(dl.deadline) {
		return at
	}
	return dl.deadline
}

// ask asks for as much as there is room for.
func (dl *download) ask(ctx context.Context, leader *member, now time.Time) {
	dl.mu.Lock()
	joining := dl.joining
	dl.mu.Unlock()
	if joining {
		return // in a moment most of it comes without being asked for by each device
	}
	if leader != dl.asker {
		dl.fetcher.GiveUp() // what was on its way to the other one; who asks now awaits nothing
		dl.asker = leader
	}
	limits := fetcher.Limits{Window: dl.ds.share(), Chunk: leader.chunk, Follow: dl.follows()}
	for {
		f, ok := dl.fetcher.Ask(now, limits)
		if !ok {
			return
		}
		f.Image = leader.image
		// An error means that there is no connection, or none any more: the pieces run out of time.
		h := leader.trace
		leader.trace = nil
		if err := dl.ds.publish(ctx, leader.device, &f, h); err != nil {
			leader.trace = h
			dl.ds.log.Debug("fetch", "event", logevent.FetchNotSent, "device", leader.device, "error", err)
		}
	}
}

// chunksOf takes a chunk message and those that have come behind it, so that one fetch
// asks for what all of them have made room for. It leaves it at a quarter of what may be
// awaited: the service is to have the next fetch before it has nothing left to send. Its
// error ends the download.
func (dl *download) chunksOf(a arrival) error {
	for left := dl.ds.share() / 4; ; {
		left -= len(a.payload)
		if err := dl.chunk(a); err != nil || left <= 0 || dl.img.Held() == dl.img.Size() {
			return err
		}
		select {
		case a = <-dl.chunks:
		default:
			return nil
		}
	}
}

// chunk takes a chunk message. Its error ends the download.
func (dl *download) chunk(a arrival) error {
	h, data, err := schemas.ParseChunk(a.payload)
	if err != nil {
		dl.ds.metrics.refusedMessage(schemas.KindChunk)
		return nil
	}
	r := schemas.Range{Offset: h.Offset, Length: uint64(len(data))}
	wanted := dl.fetcher.Wants(h.Transfer, r)
	if a.stream {
		wanted = h.Transfer == 0 && r.End() <= dl.img.Size() && dl.follows()
	}
	if h.Image != dl.tag || !wanted {
		dl.ds.metrics.strayChunk()
		dl.unasked(len(a.payload))
		return nil
	}
	bad, err := dl.img.Take(data, h.Offset)
	if err != nil {
		return err
	}
	now, held := time.Now(), dl.img.Held()
	dl.ds.metrics.chunk(len(data))
	if held != dl.held.Swap(held) { // what is doubled is no progress
		dl.deadline = now.Add(dl.ds.patience)
	}
	dl.fetcher.Took(now, h.Transfer, r)
	return dl.spoiled(bad)
}
