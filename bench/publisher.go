package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"davit/schemas"
)

// subscriber is a connection to mosquitto that is sent the chunks of a device.
type subscriber struct {
	*link
	head []byte // of the packets that are published for it

	sent, received atomic.Int64 // chunks of the course
	sentAt         [sendRing]atomic.Int64
	wake           chan struct{} // its publisher's
	latency        histogram     // of received; the link's goroutine writes it
	began          time.Time
	repeated       atomic.Int64 // chunks that were not the next one
	next           uint64       // offset of the chunk expected
}

// sendRing is more than what may be under way to a subscriber.
const sendRing = 256

// publisher feeds mosquitto on one connection: packets of several subscribers in one
// vectored write, from one copy of the image in which each chunk's header stands
// before its data.
type publisher struct {
	conn   net.Conn
	to     []*subscriber
	wake   chan struct{}
	window int64    // chunks that may be under way to each subscriber
	total  int64    // chunks that each is to get
	chunks [][]byte // header and data
	gather int      // bytes that go in one write
	began  time.Time
}

// encodeChunks is what the payloads of all chunks of an image look like.
func encodeChunks(image []byte, chunk int) [][]byte {
	n := len(image) / chunk
	all := make([]byte, 0, len(image)+n*schemas.ChunkHeaderSize)
	chunks := make([][]byte, n)
	for i := range n {
		from := len(all)
		all = schemas.ChunkHeader{Offset: uint64(i * chunk)}.AppendTo(all)
		all = append(all, image[i*chunk:(i+1)*chunk]...)
		chunks[i] = all[from:len(all):len(all)]
	}
	return chunks
}

// run publishes until each subscriber was sent its course.
func (p *publisher) run(ctx context.Context) error {
	var iov, batch net.Buffers
	for {
		iov, size := iov[:0], 0
		left := false
		for _, s := range p.to {
			sent := s.sent.Load()
			left = left || sent < p.total
			room := min(p.window-(sent-s.received.Load()), p.total-sent)
			if room < p.window/2 && sent+room < p.total {
				continue // better a few together
			}
			now := int64(time.Since(p.began))
			for range room {
				c := p.chunks[int(sent)%len(p.chunks)]
				iov = append(iov, s.head, c)
				size += len(s.head) + len(c)
				s.sentAt[sent%sendRing].Store(now)
				sent++
			}
			s.sent.Store(sent)
			if size >= p.gather {
				batch = iov // WriteTo consumes it
				if _, err := batch.WriteTo(p.conn); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
				iov, size = iov[:0], 0
			}
		}
		if size > 0 {
			batch = iov
			if _, err := batch.WriteTo(p.conn); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
		} else if !left {
			return nil
		} else {
			select {
			case <-p.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// dialSubscriber connects to mosquitto and subscribes to the chunks of a device.
func dialSubscriber(addr, device string, image []byte) (*subscriber, error) {
	s := &subscriber{}
	var err error
	s.link, err = dialLink(addr, device, "", image, s.arrived, func(error) {})
	return s, err
}

// arrived notes a chunk that was compared.
func (s *subscriber) arrived(h schemas.ChunkHeader, length int, now time.Time) error {
	n := s.received.Load()
	if n >= s.sent.Load() {
		return fmt.Errorf("chunk %d of the course has arrived before it was published", n)
	}
	if h.Offset != s.next {
		s.repeated.Add(1)
	}
	s.next = (h.Offset + uint64(length)) % uint64(len(s.stream.image))
	s.latency.add(now.Sub(s.began)-time.Duration(s.sentAt[n%sendRing].Load()), 1)
	wake := s.wake
	s.received.Add(1) // what is not atomic belongs to the next course from here on
	select {
	case wake <- struct{}{}:
	default:
	}
	return nil
}

// feed has as many publishers as asked for send each subscriber its course, and returns
// how many chunks did not arrive.
func feed(ctx context.Context, addr string, subs []*subscriber, publishers int, c course, image []byte) (lost int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := encodeChunks(image, c.chunk)
	began := time.Now()
	all := make([]*publisher, publishers)
	for i := range all {
		p := &publisher{
			wake: make(chan struct{}, 1), window: int64(c.window), total: c.length / int64(c.chunk), chunks: chunks, gather: 256 << 10, began: began,
		}
		if p.conn, err = dialPublisher(addr, i); err != nil {
			return 0, err
		}
		defer p.conn.Close()
		all[i] = p
	}
	for i, s := range subs {
		p := all[i%publishers]
		p.to = append(p.to, s)
		s.head = appendPublishHead(nil, s.stream.topic, schemas.ChunkHeaderSize+c.chunk)
		s.sent.Store(0)
		s.received.Store(0)
		s.repeated.Store(0)
		s.next, s.wake, s.began, s.latency = 0, p.wake, began, histogram{}
	}
	failed := make(chan error, publishers)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { failed <- p.run(ctx) })
	}
	defer wg.Wait()
	defer cancel()
	return awaitArrival(ctx, subs, c.length/int64(c.chunk), failed, publishers)
}

// awaitArrival waits until every subscriber has its course, or nothing arrives any more.
func awaitArrival(ctx context.Context, subs []*subscriber, each int64, failed chan error, running int) (lost int64, err error) {
	want := each * int64(len(subs))
	for last, quiet := int64(-1), 0; ; {
		var got int64
		for _, s := range subs {
			got += s.received.Load()
		}
		if got >= want {
			return want - got, nil
		}
		if got == last {
			quiet++
		} else {
			last, quiet = got, 0
		}
		if quiet > int(stallTime/arrivalLook) {
			return want - got, nil
		}
		select {
		case err := <-failed:
			if running--; err != nil {
				return 0, err
			}
		case <-time.After(arrivalLook):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// arrivalLook is how exactly the end of a course at mosquitto is timed.
const arrivalLook = 2 * time.Millisecond

// dialPublisher connects and waits for CONNACK.
func dialPublisher(addr string, i int) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(appendConnect(nil, fmt.Sprint("publisher-", i), "", "")); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var answer [4]byte
	if _, err := conn.Read(answer[:]); err != nil || answer[0] != 0x20 || answer[3] != 0 {
		return nil, errors.Join(fmt.Errorf("CONNECT of a publisher was answered with % x", answer), err, conn.Close())
	}
	return conn, nil
}
