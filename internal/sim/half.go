package sim

import "time"

// maxLate is the most that is taken for the lateness of this program.
const maxLate = 5 * time.Millisecond

// wakeChars is how much room a driver wants in its transmit buffer before it
// wakes a blocked writer (WAKEUP_CHARS of the Linux serial core).
const wakeChars = 256

// half is one direction of a Line. Nothing runs: the state is brought to the
// present (advanceLocked) before every use, under the line's mutex.
type half struct {
	baud, bits  int64
	latency     time.Duration
	jitter      time.Duration
	txCap       int
	rxCap       int
	trigger     int64
	flowControl bool
	noise       noise

	tx      []byte    // taken from Write, not yet completely on the line
	anchor  time.Time // byte k since the anchor ends at anchor + (k+1) byte times
	sent    int64     // bytes since the anchor
	stalled bool      // RTS held low from outside
	blocked bool      // the line stands still; the anchor is void

	// late is by how much the last Read came after the last byte was there for it, on a line whose time is real.
	late time.Duration

	pipe  []packet // sent, not yet visible at the far end (latency)
	rx    []byte   // visible at the far end
	marks []int64  // stats.Sent at which a Write's last byte has gone out
	stats LineStats

	readable, writable chan struct{} // capacity 1: something changed
}

// packet is a run of bytes that become visible together, when the last of them
// does. It is open while bytes that go out next may still join it.
type packet struct {
	at   time.Time
	data []byte
	open bool
	sent int64 // bytes that went out for it
}

func newHalf(cfg LineConfig, f LineFaults, stream uint64) *half {
	h := &half{
		baud: int64(cfg.Baud), bits: int64(cfg.BitsPerByte),
		latency: cfg.Latency, jitter: cfg.Jitter,
		txCap: cfg.TxBuffer, rxCap: cfg.RxBuffer, trigger: int64(cfg.RxTrigger),
		flowControl: !cfg.NoFlowControl,
		blocked:     true,
		readable:    make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
	h.noise = newNoise(cfg.Seed, stream, f)
	return h
}

// span is the exact time that n bytes take, rounded up to a nanosecond so that
// no byte is early.
func (h *half) span(n int64) time.Duration {
	secs, rest := n/h.baud, n%h.baud
	return time.Duration(secs*h.bits)*time.Second +
		time.Duration((rest*h.bits*int64(time.Second)+h.baud-1)/h.baud)
}

// fits is how many whole bytes go into d: the inverse of span.
func (h *half) fits(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	period := time.Duration(h.bits) * time.Second // baud bytes exactly
	whole, rest := int64(d/period), int64(d%period)
	// rest < bits*1e9, so rest*baud stays below 2^63 up to 16 Mbit/s and 11 bits.
	return whole*h.baud + int64(uint64(rest)*uint64(h.baud)/uint64(period))
}

// advanceLocked moves what has gone out on the line by now into the far end's
// receive buffer, or loses it if nobody listens there.
func (h *half) advanceLocked(now time.Time, listening bool) {
	if !h.blocked && len(h.tx) > 0 {
		n := min(h.fits(now.Sub(h.anchor))-h.sent, int64(len(h.tx)))
		room := int64(h.rxCap - h.waiting())
		if h.flowControl && listening && n >= room {
			// The receive buffer fills up with the last of these bytes; RTS goes low.
			n = max(room, 0)
			h.blocked = true
		}
		if n > 0 {
			h.sendLocked(int(n), listening)
		}
	}
	if len(h.tx) == 0 {
		h.blocked = true
	}
	h.surfaceLocked(now)
}

// waiting is how many bytes the far end has not read yet.
func (h *half) waiting() int {
	n := len(h.rx)
	for _, p := range h.pipe {
		n += len(p.data)
	}
	return n
}

// sendLocked puts the first n bytes of tx on the line.
func (h *half) sendLocked(n int, listening bool) {
	for data := h.tx[:n]; len(data) > 0; {
		k := len(data)
		if h.latency > 0 {
			k = int(min(int64(k), h.trigger-h.openLocked(), h.toMarkLocked()))
		} else if h.noise.f.GarbageRate > 0 {
			k = int(min(int64(k), h.toMarkLocked())) // it comes between one Write and the next
		}
		h.deliverLocked(data[:k], listening)
		data = data[k:]
	}
	h.tx = h.tx[:copy(h.tx, h.tx[n:])]
}

// openLocked is how many bytes the last packet of the pipe holds, if it is open.
func (h *half) openLocked() int64 {
	if n := len(h.pipe); n > 0 && h.pipe[n-1].open {
		return h.pipe[n-1].sent
	}
	return 0
}

func (h *half) deliverLocked(data []byte, listening bool) {
	h.sent += int64(len(data))
	h.stats.Sent += int64(len(data))
	ended := false
	for len(h.marks) > 0 && h.marks[0] <= h.stats.Sent {
		h.marks = h.marks[1:]
		ended = true
	}
	switch {
	case !listening:
		h.stats.Lost += int64(len(data))
	case h.latency == 0:
		before := len(h.rx)
		h.rx = h.noise.apply(h.rx, data, &h.stats)
		if ended {
			h.rx = h.noise.garbage(h.rx, &h.stats)
		}
		h.capLocked(before)
	default:
		if h.openLocked() == 0 {
			h.pipe = append(h.pipe, packet{})
		}
		p := &h.pipe[len(h.pipe)-1]
		p.at = h.anchor.Add(h.span(h.sent) + h.latency)
		p.data = h.noise.apply(p.data, data, &h.stats)
		if ended {
			p.data = h.noise.garbage(p.data, &h.stats)
		}
		p.sent += int64(len(data))
		p.open = !ended && p.sent < h.trigger
	}
}

// capLocked drops what overruns the receive buffer and counts the rest.
func (h *half) capLocked(before int) {
	if over := len(h.rx) - h.rxCap; over > 0 && !h.flowControl {
		over = min(over, len(h.rx)-before)
		h.rx = h.rx[:len(h.rx)-over]
		h.stats.Overrun += int64(over)
	}
	h.stats.Delivered += int64(len(h.rx) - before)
}

// surfaceLocked makes visible what has passed the latency.
func (h *half) surfaceLocked(now time.Time) {
	for len(h.pipe) > 0 && !h.pipe[0].at.After(now) {
		before := len(h.rx)
		h.rx = append(h.rx, h.pipe[0].data...)
		h.capLocked(before)
		h.pipe = h.pipe[1:]
	}
}

// resumeLocked starts the clock anew if the line stood still and can go on.
func (h *half) resumeLocked(now time.Time) {
	if h.stalled {
		h.blocked = true
		return
	}
	if h.blocked && len(h.tx) > 0 && (!h.flowControl || h.waiting() < h.rxCap) {
		h.blocked = false
		h.anchor, h.sent = now, 0
	}
}

// takeLocked reads visible bytes.
func (h *half) takeLocked(p []byte, now time.Time) int {
	n := copy(p, h.rx)
	if n == 0 {
		return 0
	}
	h.rx = h.rx[:copy(h.rx, h.rx[n:])]
	h.late = min(max(0, now.Sub(h.endLocked())-h.latency), maxLate)
	if h.blocked && len(h.tx) > 0 {
		h.resumeLocked(now)
		notify(h.writable)
	}
	return n
}

// putLocked takes as much of p as the transmit buffer has room for.
func (h *half) putLocked(p []byte, now time.Time) int {
	n := min(len(p), h.txCap-len(h.tx))
	if n <= 0 {
		return 0
	}
	idle := len(h.tx) == 0
	h.tx = append(h.tx, p[:n]...)
	h.stats.Written += int64(n)
	if idle {
		h.resumeLocked(now.Add(h.noise.delay(h.jitter)))
	}
	notify(h.readable)
	return n
}

// endLocked is when the last byte that went out was wholly on the line.
func (h *half) endLocked() time.Time { return h.anchor.Add(h.span(h.sent)) }

// markLocked notes that a Write ends with the bytes taken so far.
func (h *half) markLocked() {
	if end := h.stats.Written; end > h.stats.Sent {
		h.marks = append(h.marks, end)
	}
}

// nextArrivalLocked is when a waiting reader has to look again, and whether
// there is such a time.
func (h *half) nextArrivalLocked() (time.Time, bool) {
	var at time.Time
	if !h.blocked && len(h.tx) > 0 {
		at = h.timeOfLocked(min(h.trigger, h.toMarkLocked(), h.toFullLocked())).Add(h.latency)
	}
	if len(h.pipe) > 0 && (at.IsZero() || h.pipe[0].at.Before(at)) {
		at = h.pipe[0].at
	}
	return at, !at.IsZero()
}

// toMarkLocked is how many bytes are missing until the next Write, or all that
// is taken of one under way, has gone out.
func (h *half) toMarkLocked() int64 {
	if len(h.marks) > 0 {
		return h.marks[0] - h.stats.Sent
	}
	return h.stats.Written - h.stats.Sent
}

// toFullLocked is how many bytes the far end still has room for.
func (h *half) toFullLocked() int64 {
	if !h.flowControl {
		return int64(len(h.tx))
	}
	return max(int64(h.rxCap-h.waiting()), 1)
}

// nextRoomLocked is when the transmit buffer has room enough to wake a writer
// that has n more bytes; false if only the reader can make that happen.
func (h *half) nextRoomLocked(n int) (time.Time, bool) {
	if h.blocked || len(h.tx) == 0 {
		return time.Time{}, false
	}
	need := min(n, wakeChars, h.txCap) - (h.txCap - len(h.tx))
	return h.timeOfLocked(int64(max(need, 1))), true
}

// timeOfLocked is when the n-th next byte will have gone out.
func (h *half) timeOfLocked(n int64) time.Time { return h.anchor.Add(h.span(h.sent + n)) }

// clearLocked loses everything under way.
func (h *half) clearLocked() {
	h.stats.Lost += int64(len(h.tx))
	h.tx, h.pipe, h.marks = h.tx[:0], nil, nil
	h.blocked = true
}

func (h *half) wakeLocked() {
	notify(h.readable)
	notify(h.writable)
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
