package bridge

import (
	"fmt"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// Bounds of downloads that look like an attack (The Update Framework's slow retrieval
// and endless data). They raise an alarm and end nothing: data that comes too slowly
// is ended by Config.FetchPatience once none comes, and data that nobody asked for is not kept.
const (
	// slowest is the rate in bytes per second, and slowGrace the time in addition,
	// that a download may take.
	slowest   = 1 << 10
	slowGrace = 2 * time.Minute
	// endlessGrace is how many bytes beyond the image's own size may come unasked:
	// what was asked for before a restart or a reconnection.
	endlessGrace = 256 << 10
)

// alarms is what a download has seen of that.
type alarms struct {
	began   time.Time // connected, the first time
	behind  uint64    // bytes that were there then
	stray   uint64    // bytes that nobody had asked for
	slow    bool      // said already
	endless bool
}

// guard has the spool check the blocks of the image once a member knows their hashes.
func (dl *download) guard() error {
	if dl.guarded {
		return nil
	}
	dl.mu.Lock()
	var m *member
	for _, x := range dl.members {
		if x.signed != nil {
			m = x
			break
		}
	}
	dl.mu.Unlock()
	if m == nil {
		return nil
	}
	dl.guarded = true
	bad, err := dl.img.Guard(m.signed)
	if bad > 0 {
		dl.ds.log.Warn("blocks on disk are not what was signed; fetching them again", "event", logevent.BlocksOnDiskBad, "sha256", dl.img.SHA256(), "blocks", bad)
		for range bad {
			dl.ds.metrics.badBlock()
		}
	}
	dl.held.Store(dl.img.Held())
	if err != nil {
		return err
	}
	return dl.reuse()
}

// reuse takes blocks from other images of the spool that have them, before anything is
// asked for: they are not fetched.
func (dl *download) reuse() error {
	found, err := dl.img.Reuse(dl.ctx)
	dl.held.Store(dl.img.Held())
	dl.ds.metrics.reused(found)
	if found.Blocks > 0 {
		dl.ds.log.Info("blocks of other images are the same; they are not fetched", "event", logevent.BlocksReused, "sha256", dl.img.SHA256(), "blocks", found.Blocks, "bytes", found.Bytes, "of", dl.img.Size())
	}
	return err
}

// begin tells members whose MCU leg may begin, because enough of the image is verified.
func (dl *download) begin() {
	if !dl.guarded {
		return
	}
	var start []func()
	dl.mu.Lock()
	for _, m := range dl.members {
		if m.start == nil || dl.img.Await(schemas.Range{Length: min(leadBytes, dl.img.Size())}) != nil {
			continue
		}
		start = append(start, m.start)
		m.start = nil
	}
	dl.mu.Unlock()
	for _, f := range start {
		f()
	}
}

// spoiled takes note of blocks that were not what was signed: they are asked for again,
// but not for ever.
func (dl *download) spoiled(blocks []int) error {
	if len(blocks) == 0 {
		return nil
	}
	if dl.badBlocks == nil {
		dl.badBlocks = map[int]int{}
	}
	for _, i := range blocks {
		dl.badBlocks[i]++
		dl.ds.metrics.badBlock()
		r := dl.img.Block(i)
		dl.ds.log.Warn("a block is not what was signed", "event", logevent.BlockBad, "sha256", dl.img.SHA256(), "block", i, "offset", r.Offset, "times", dl.badBlocks[i])
		if dl.badBlocks[i] >= maxBadBlocks {
			return fmt.Errorf("%w: block %d at offset %d came %d times and was never what was signed; look for what changes it between the signer and this bridge", errChecksum, i, r.Offset, maxBadBlocks)
		}
		dl.fetcher.Spoiled(r)
	}
	dl.held.Store(dl.img.Held())
	return nil
}

// slow raises an alarm when a download takes far longer than it could.
func (dl *download) slow(now time.Time) {
	a := &dl.alarms
	if a.began.IsZero() {
		a.began, a.behind = now, dl.img.Held()
	}
	limit := slowGrace + time.Duration(dl.img.Size()-a.behind)*time.Second/slowest
	if took := now.Sub(a.began); !a.slow && took > limit {
		a.slow = true
		dl.ds.metrics.alarm(alarmSlow)
		dl.ds.log.Warn("a download is suspiciously slow: somebody may hold an update back; look at the path to the service", "event", logevent.FetchSlow,
			"sha256", dl.img.SHA256(), "held", dl.img.Held(), "bytes", dl.img.Size(), "took", took.Round(time.Second).String())
	}
}

// unasked raises an alarm when more comes that nobody asked for than the image has.
func (dl *download) unasked(n int) {
	a := &dl.alarms
	a.stray += uint64(n)
	if !a.endless && a.stray > dl.img.Size()+endlessGrace {
		a.endless = true
		dl.ds.metrics.alarm(alarmEndless)
		dl.ds.log.Warn("data keeps coming that nobody asked for; it is dropped; look for who sends it", "event", logevent.FetchUnasked,
			"sha256", dl.img.SHA256(), "bytes", a.stray, "of", dl.img.Size())
	}
}
