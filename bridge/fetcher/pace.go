package fetcher

import (
	"math/bits"
	"time"

	"davit/schemas"
)

const (
	// firstWindow is how many bytes are awaited before anything is known of the path:
	// four seconds of a line of 64 kbit/s.
	firstWindow = 32 << 10
	// leastWindow is what is awaited on the worst of paths, in four chunks.
	leastWindow = 4 * leastChunk
	leastChunk  = 1 << 10
	// leastQueue is the delay that a queue on the way may always have: below it a
	// busy machine cannot be told from a full line.
	leastQueue = 100 * time.Millisecond
	// roundTripAge is how long a least round trip is believed. Then the path is
	// emptied to measure it again, as its own queue may be in it by now.
	roundTripAge = 10 * time.Second
	// nearTrip is the longest least round trip of a path that counts as near, as one of a
	// gateway beside the service is.
	nearTrip = 5 * time.Millisecond
	// chunkTime is how much of the line's time a chunk may take where the window has room.
	chunkTime = 25 * time.Millisecond
)

// pace decides how many bytes are awaited at a time and in chunks of what size.
//
// The window grows by what arrives, so it doubles with each round trip, as long as chunks
// come about as soon as the first ones did; and until the line was full for the first time it
// is never less than what the line has shown to deliver in the time that chunks may take, which
// on a fast line is most of an image after a few chunks. A chunk that comes later than the least
// round trip and room for a queue as long again shows that the line is full: the window
// shrinks to what the line delivers in that time (rate x delay). So the line is kept busy
// and its queue short, however slow it is. A chunk lost now and then is no sign of a full
// line and costs nothing but itself; many at once are one, and take a third off the window,
// which then grows by a chunk for each round trip.
type pace struct {
	limit     int // of the window, as the module has it
	window    int
	full      bool    // more than the line takes has been awaited
	threshold int     // above it the window grows slowly; 0 for none
	rate      float64 // bytes a second that came while the last piece was awaited
	leastTrip time.Duration
	tripAt    time.Time // when leastTrip was seen last; zero before the first
	draining  bool      // the path is being emptied to measure leastTrip again
	loss      float64   // share of chunks lost, over the last 64 or so
	cut       uint64    // the newest piece when the window was cut for losses
	round     uint64    // a round ends when a piece asked for later than this one arrives
	came      int       // pieces that arrived in this round
	missed    int       // and those that were lost in it
}

func newPace() pace { return pace{limit: schemas.MaxAwaited, window: firstWindow} }

// shape is how many bytes may be awaited now, the size of the next chunks, and how many
// bytes have to be free before more are asked for.
func (c *pace) shape(now time.Time, l Limits) (window, chunk, step int) {
	limit := max(min(l.Window, schemas.MaxAwaited), schemas.MinChunkSize)
	c.limit = limit
	c.window = max(min(c.window, limit), min(leastWindow, limit))
	window = c.window
	if !c.tripAt.IsZero() && now.Sub(c.tripAt) > roundTripAge {
		c.draining = true
	}
	if c.draining {
		window = max(window/4, min(leastWindow, limit))
	}
	chunk = c.chunk(l.Chunk)
	return window, chunk, max(c.step(window, l.Follow), chunk)
}

// chunk is the size of the next chunks, of which the module takes at most so many bytes. A
// window has 16 to 32 chunks, and twice as many where chunks are lost: then one that has to come
// again is not much. It has down to four where those are no wait: on a near path, and where the
// line and not the module's memory is the limit and takes chunkTime for one at most. Few
// chunks cost both sides less.
func (c *pace) chunk(most int) int {
	size := c.window / 16
	switch {
	case c.lossy():
		size = c.window / 32
	case c.near():
		size = c.window / 4
	case c.window < c.limit:
		size = min(max(size, c.delivers(chunkTime)), c.window/4)
	}
	size = max(size, min(leastChunk, c.limit/4), schemas.MinChunkSize)
	size = min(size, max(most, schemas.MinChunkSize), schemas.MaxChunkSize)
	return 1 << (bits.Len(uint(size)) - 1) // a power of two: chunks lie on pages
}

// step is how many bytes of a window have to be free before more are asked for. A few larger
// fetches cost the service less than many small ones, and while the window grows it grows by
// more if more has come. But where the module's memory and not the line is the limit, what is not
// awaited is lost.
func (c *pace) step(window int, follow bool) int {
	switch {
	case follow:
		return window / 2 // many do the same, and none of them sets the pace
	case c.window == c.limit:
		return window / 8
	case c.full:
		return window / 4
	case c.leastTrip <= leastQueue:
		return window / 4 * 3
	}
	return window / 2
}

// lossy says whether chunks are lost again and again.
func (c *pace) lossy() bool { return c.loss > 1.0/256 }

// near says whether what is asked for comes nearly at once: the line is fast as well, as the
// round trip of a chunk has the time in it that the chunk takes.
func (c *pace) near() bool { return !c.tripAt.IsZero() && c.leastTrip <= nearTrip }

// arrived takes the arrival of n bytes of p, in time. arrived is how many bytes have come so
// far, asked the order of the newest piece. Pieces that may come on a shared stream
// say nothing about the path: the service sends them when it suits all.
func (c *pace) arrived(now time.Time, p piece, n int, arrived, asked uint64) {
	c.loss -= c.loss / 64
	if p.order > c.round {
		c.came, c.missed, c.round = 0, 0, asked
	}
	c.came++
	if p.follow {
		c.grow(n, 0)
		return
	}
	took := now.Sub(p.sent)
	c.rate = float64(arrived-p.before) / max(took, time.Microsecond).Seconds()
	switch {
	case c.tripAt.IsZero() || took <= c.leastTrip || p.drained && c.draining:
		c.leastTrip, c.tripAt, c.draining = took, now, false
	case took <= c.leastTrip+c.leastTrip/8:
		c.tripAt = now
	}
	most := c.leastTrip + max(c.leastTrip, leastQueue)
	if took <= most {
		c.grow(n, most)
		return
	}
	c.shrink(c.delivers(most))
}

// delivers is how many bytes come in so much time, by what came last.
func (c *pace) delivers(in time.Duration) int {
	return int(min(c.rate*in.Seconds(), schemas.MaxAwaited))
}

// grow takes n bytes that came in time: as many more may be awaited, and no less than what
// the line has shown to deliver within most.
func (c *pace) grow(n int, most time.Duration) {
	to := c.window + n
	if !c.full {
		to = max(to, c.delivers(most))
	}
	if c.threshold > 0 && c.window >= c.threshold {
		to = c.window + max(1, n/16)
	}
	c.window = min(to, c.limit)
}

func (c *pace) shrink(to int) {
	c.window = min(c.window, max(to, leastWindow))
	c.full = true
}

// lost takes the loss of p; asked is the order of the newest piece. Where a tenth of a
// round is lost, and more than one chunk, the line was too full.
func (c *pace) lost(p piece, asked uint64) {
	c.loss += (1 - c.loss) / 64
	c.missed++
	if c.missed < 2 || 10*c.missed < c.came || p.order <= c.cut { // the last is of a window that was cut already
		return
	}
	c.shrink(c.window * 7 / 10)
	c.threshold, c.cut = c.window, asked
}

// stalled takes that nothing came at all for a while; first, that it did until then. What was
// awaited may be lost, or wait in front of a line that has become slow, where all of it once
// more would only wait behind it. So the window begins anew.
func (c *pace) stalled(now time.Time, first bool) {
	if first {
		c.threshold = max(c.window/2, leastWindow)
	}
	c.shrink(0)
	if c.draining {
		c.draining, c.tripAt = false, now
	}
}
