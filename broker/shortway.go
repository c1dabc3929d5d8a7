package broker

import (
	"errors"

	"davit/schemas"
)

// copyLimit is how many bytes of chunks are copied at a time for a session that
// cannot be handed the image's own memory; one chunk always is.
const copyLimit = 64 << 10

// sendVectored sends chunks straight from the image's memory. waits says that
// no more can be taken for now; if there is more to send, ready will be called.
func (c *conn) sendVectored(to *address, image schemas.ImageBytes, mapped []byte, chunks []schemas.Chunk, ready func()) (taken int, waits bool, err error) {
	b := c.broker.batches.Get().(*batch)
	defer c.broker.putBatch(b)
	err = b.fill(to, image, mapped, chunks)
	if len(b.packets) == 0 {
		return 0, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits, err := c.mustWait(ready); waits || err != nil {
		return 0, waits, err
	}
	taken, err = c.writeBatch(b, image)
	if err != nil {
		return 0, false, err
	}
	if waits = c.flushing; waits && taken < len(chunks) {
		c.waiting.add(ready, true)
	}
	c.broker.metrics.chunksSent(wayVectored, taken, b.sizeOf(taken))
	return taken, waits, nil
}

// writeBatch writes a batch to a socket for which nothing waits and returns how
// many packets are on their way. If they are not all, or a part of the last one
// waits, a flush has been started. c.mu is held. The only error is
// errUnreadable; others are flush's to find again.
func (c *conn) writeBatch(b *batch, image schemas.ImageBytes) (taken int, err error) {
	c.sends.Add(1)
	n, err := c.raw.(vectorWriter).tryWritev(b)
	c.broker.metrics.bytesSent(n)
	if errors.Is(err, errUnreadable) {
		return 0, err
	}
	if n == b.size {
		return len(b.packets), nil
	}
	i, rest := b.cut(n)
	c.cut = rest.remain(image)
	c.broker.metrics.packetCut()
	c.startFlush()
	return i + 1, nil
}

// sendCopied sends chunks by way of the outbox. waits and ready are as for
// sendVectored.
func (c *conn) sendCopied(to *address, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (taken int, waits bool, err error) {
	c.mu.Lock()
	waits, err = c.mustWait(ready)
	c.mu.Unlock()
	if waits || err != nil {
		return 0, waits, err
	}
	// The lock is not held during the reading, because a disk may be slow.
	buf, taken, err := to.appendChunks(c.broker.bigBuffer(), image, chunks)
	if taken == 0 {
		c.broker.recycle(buf)
		return 0, false, err
	}
	// With some taken, the error is told when the next call meets it.
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		c.broker.recycle(buf)
		return 0, false, ErrSessionEnded
	}
	size := len(buf)
	c.putOut(buf)
	if waits = c.flushing; waits && taken < len(chunks) {
		c.waiting.add(ready, true)
	}
	c.broker.metrics.chunksSent(wayCopied, taken, size)
	return taken, waits, nil
}

// putOut sends encoded packets, in the buffer that is given away with them;
// c.mu is held.
func (c *conn) putOut(buf []byte) {
	if len(c.out.ready) == 0 {
		c.out.ready, buf = buf, c.out.ready
	} else {
		c.out.ready = append(c.out.ready, buf...)
	}
	c.broker.recycle(buf)
	c.send()
}

// mustWait returns true, and keeps ready, if nothing can be taken because
// something else still waits for the socket; c.mu is held.
func (c *conn) mustWait(ready func()) (bool, error) {
	switch {
	case c.closing:
		return false, ErrSessionEnded
	case c.flushing:
		c.waiting.add(ready, false)
		return true, nil
	}
	return false, nil
}

func (b *Broker) putBatch(x *batch) {
	x.forget()
	b.batches.Put(x)
}

// waiters are those who want to know when a session can take more. Who got
// nothing this time is called before who got something, so that the devices of
// a bridge take turns.
type waiters struct{ starved, fed []func() }

func (w *waiters) add(ready func(), fed bool) {
	if fed {
		w.fed = append(w.fed, ready)
	} else {
		w.starved = append(w.starved, ready)
	}
}

// take returns all and forgets them.
func (w *waiters) take() []func() {
	all := w.fed
	if len(w.starved) > 0 {
		all = append(w.starved, w.fed...)
	}
	*w = waiters{}
	return all
}
