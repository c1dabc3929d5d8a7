package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// moodySocket takes any number of bytes at a time: what is left has to wait for
// a blocking write, which takes its time. It notes all of them in order.
type moodySocket struct {
	net.Conn // nil: what the conn does not use
	rnd      *rand.Rand
	vectors  bool

	mu     sync.Mutex
	took   bytes.Buffer
	cuts   int
	closed chan struct{}
	once   sync.Once
}

func newMoodySocket(rnd *rand.Rand, vectors bool) *moodySocket {
	return &moodySocket{rnd: rnd, vectors: vectors, closed: make(chan struct{})}
}

// take is what a non-blocking write does with packets.
func (m *moodySocket) take(packets ...[]byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := bytes.Join(packets, nil)
	n := len(all)
	switch m.rnd.IntN(6) {
	case 0:
		n = 0
	case 1:
		n = len(bytes.Join(packets[:m.rnd.IntN(len(packets))], nil)) // between two parts
	case 2:
		n = m.rnd.IntN(min(n, 40)) // in the first header
	case 3:
		n = m.rnd.IntN(n)
	}
	if n < len(all) {
		m.cuts++
	}
	m.took.Write(all[:n])
	return n, nil
}

func (m *moodySocket) tryWrite(p []byte) (int, error) { return m.take(p) }

// moodyVectors is a moodySocket that gathers.
type moodyVectors struct{ *moodySocket }

func (m moodyVectors) tryWritev(b *batch) (int, error) {
	var parts [][]byte
	for _, p := range b.packets {
		parts = append(parts, p.head, p.data)
	}
	return m.take(parts...)
}

func (m *moodySocket) raw() tryWriter {
	if m.vectors {
		return moodyVectors{m}
	}
	return m
}

func (m *moodySocket) Write(p []byte) (int, error) {
	m.mu.Lock()
	wait := time.Duration(m.rnd.IntN(5)) * time.Millisecond
	m.mu.Unlock()
	select {
	case <-m.closed:
		return 0, net.ErrClosed
	case <-time.After(wait):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.took.Write(p)
}

// bytes is what the client has got.
func (m *moodySocket) bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.took.Bytes())
}

func (m *moodySocket) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *moodySocket) SetReadDeadline(time.Time) error { return nil }

// moodySession is a session on a socket of that kind, without a client and
// without mochi.
func moodySession(t *testing.T, m *moodySocket, version byte, devices ...string) *Session {
	t.Helper()
	b, err := New(Config{Listeners: []Listener{{Transport: TCP}}, Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	c := newConn(b, TCP, m, m, m.raw())
	c.principal, c.version = newPrincipal("rack", devices), version
	for _, d := range devices {
		c.sub.grant(topic(d, schemas.KindChunk), grant{})
	}
	return &c.session
}

// Whatever a socket takes at a time and whatever mochi sends in between, the
// client sees whole packets, each side's in order, and nothing is lost.
func TestCutPackets(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) { cutPackets(t, seed) })
	}
}

func cutPackets(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	socket := newMoodySocket(rand.New(rand.NewPCG(seed, 0)), seed%4 != 3)
	version := byte(4 + seed%2)
	s := moodySession(t, socket, version, "d")
	image := newImage(60_000 + rnd.IntN(3))
	chunks := chunksOf(image, 64+rnd.IntN(4000))
	var all sync.WaitGroup
	all.Go(func() {
		for rest := chunks; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(70))
			check(t, sender{"d", s, image}.send(rest[:n]))
			rest = rest[n:]
		}
	})
	const others = 60
	all.Go(func() {
		for i := range others {
			pk := publishPacket("other", byte(i%2), false, fmt.Sprint(i))
			pk.ProtocolVersion, pk.PacketID = version, 1
			p, err := encode(pk)
			check(t, err)
			if n, err := s.conn.Write(p); n != len(p) || err != nil {
				t.Errorf("seed %d: %d of %d bytes: %v", seed, n, len(p), err)
			}
			time.Sleep(time.Duration(i%4) * time.Millisecond)
		}
	})
	all.Wait()
	s.conn.broker.tasks.Wait() // all is flushed

	r := rawReader(socket.bytes())
	var nextChunk, nextOther int
	for {
		pk, err := readPacket(r, version)
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			t.Fatalf("seed %d: after %d chunks and %d others: %v", seed, nextChunk, nextOther, err)
		case pk.TopicName == "other":
			if n := number(t, pk.Payload); n != nextOther {
				t.Fatalf("seed %d: message %d came as number %d", seed, n, nextOther)
			}
			nextOther++
		case pk.TopicName != topic("d", schemas.KindChunk) || !bytes.Equal(pk.Payload, image.payload(t, chunks[nextChunk])):
			t.Fatalf("seed %d: %d bytes on %q are not chunk %d", seed, len(pk.Payload), pk.TopicName, nextChunk)
		default:
			nextChunk++
		}
	}
	if nextChunk != len(chunks) || nextOther != others {
		t.Errorf("seed %d: %d of %d chunks and %d of %d others came", seed, nextChunk, len(chunks), nextOther, others)
	}
	if len(chunks) > 60 && socket.cuts == 0 {
		t.Errorf("seed %d: nothing was cut", seed)
	}
	image.free(t)
}

// A session that ends at any moment calls ready once for everybody who waits,
// lets go of the image, and what was sent before is a prefix of the right bytes.
func TestSessionEndsWhileAPacketIsCut(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			s := moodySession(t, newMoodySocket(rand.New(rand.NewPCG(seed, 3)), seed%4 != 3), 5, "a", "b", "c")
			image := newImage(200_000)
			var all sync.WaitGroup
			for _, d := range []string{"a", "b", "c"} {
				all.Go(func() {
					chunks := chunksOf(image, 1000)
					for {
						var called atomic.Int32
						n, err := s.Send(d, image, chunks[:16], func() { called.Add(1) })
						if err != nil && !errors.Is(err, ErrSessionEnded) {
							t.Errorf("seed %d: %v", seed, err)
						}
						time.Sleep(50 * time.Millisecond) // longer than the flush of all that can wait
						want := int32(0)
						if err == nil && n < 16 {
							want = 1
						}
						if called := called.Load(); called != want {
							t.Errorf("seed %d: %d taken, %v: ready called %d times", seed, n, err, called)
						}
						if err != nil {
							return
						}
					}
				})
			}
			time.Sleep(time.Duration(rnd.IntN(500_000)) * time.Microsecond)
			if seed%2 == 0 {
				check(t, s.conn.Close())
			}
			s.conn.abort()
			all.Wait()
			s.conn.broker.tasks.Wait()
			image.free(t)
			if s.conn.cut != nil || s.conn.flushing {
				t.Errorf("seed %d: cut %v, flushing %t", seed, s.conn.cut, s.conn.flushing)
			}
		})
	}
}

// The devices of a bridge take turns on its connection: where there is room for
// one packet at a time, who had it comes last.
func TestDevicesOfABridgeTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowSocket{moodySocket: newMoodySocket(rand.New(rand.NewPCG(1, 3)), true)}
		devices := []string{"a", "b", "c", "d"}
		s := moodySession(t, slow.moodySocket, 5, devices...)
		s.conn.Conn, s.conn.socket, s.conn.raw = slow, slow, slow
		image := newImage(1 << 20)
		chunks := chunksOf(image, 4096)
		var mu sync.Mutex
		got := make(map[string]int)
		for _, d := range devices {
			var again func()
			again = func() {
				n, err := s.Send(d, image, chunks[:16], again)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[d] += n
			}
			again()
		}
		time.Sleep(200 * time.Second)
		s.conn.abort()
		s.conn.broker.tasks.Wait()
		for _, d := range devices {
			if got[d] < got["a"]-1 || got[d] > got["a"]+1 || got[d] < 20 {
				t.Fatalf("chunks of each device: %v", got)
			}
		}
	})
}

// A client that takes nothing costs one packet, and its image is let go of when
// the connection is closed, within the time that closing has.
func TestCloseDoesNotWaitForAStalledSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalled := &stalledSocket{moodySocket: newMoodySocket(nil, true)}
		s := moodySession(t, stalled.moodySocket, 5, "d")
		s.conn.Conn, s.conn.socket, s.conn.raw = stalled, stalled, stalled
		image := newImage(1 << 20)
		var called atomic.Int32
		n, err := s.Send("d", image, chunksOf(image, 4096), func() { called.Add(1) })
		if n != 1 || err != nil {
			t.Fatalf("%d taken: %v", n, err)
		}
		if again, err := s.Send("d", image, chunksOf(image, 4096), func() { called.Add(1) }); again != 0 || err != nil {
			t.Fatalf("%d more taken: %v", again, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if called.Load() != 0 || image.retained.Load() != 1 {
			t.Fatalf("ready called %d times, retained %d times", called.Load(), image.retained.Load())
		}
		start := time.Now()
		check(t, s.conn.Close())
		s.conn.broker.tasks.Wait()
		if took := time.Since(start); took != closeGrace {
			t.Errorf("closing took %s", took)
		}
		if n := called.Load(); n != 2 {
			t.Errorf("ready called %d times, want once for each", n)
		}
		image.free(t)
		if _, err := s.Send("d", image, chunksOf(image, 4096), nil); !errors.Is(err, ErrSessionEnded) {
			t.Errorf("Send on an ended session: %v", err)
		}
	})
}

// stalledSocket takes nothing at all.
type stalledSocket struct{ *moodySocket }

func (s *stalledSocket) tryWrite([]byte) (int, error)  { return 0, nil }
func (s *stalledSocket) tryWritev(*batch) (int, error) { return 0, nil }
func (s *stalledSocket) Write([]byte) (int, error) {
	<-s.closed
	return 0, os.ErrClosed
}

// What a broken socket says is found out by flush: nobody waits for ever.
func TestSendOnABrokenSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &brokenSocket{moodySocket: newMoodySocket(nil, true)}
		s := moodySession(t, broken.moodySocket, 5, "d")
		s.conn.Conn, s.conn.socket, s.conn.raw = broken, broken, broken
		image := newImage(1 << 20)
		var called atomic.Int32
		if n, err := s.Send("d", image, chunksOf(image, 4096), func() { called.Add(1) }); n != 1 || err != nil {
			t.Fatalf("%d taken: %v", n, err)
		}
		s.conn.broker.tasks.Wait()
		if _, err := s.Send("d", image, chunksOf(image, 4096), nil); called.Load() != 1 || !errors.Is(err, ErrSessionEnded) {
			t.Errorf("ready called %d times; then %v", called.Load(), err)
		}
		image.free(t)
	})
}

var errBroken = errors.New("broken pipe")

type brokenSocket struct{ *moodySocket }

func (s *brokenSocket) tryWrite([]byte) (int, error)  { return 0, errBroken }
func (s *brokenSocket) tryWritev(*batch) (int, error) { return 0, errBroken }
func (s *brokenSocket) Write([]byte) (int, error)     { return 0, errBroken }

func TestChunksThatCannotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		socket := newMoodySocket(rand.New(rand.NewPCG(1, 4)), true)
		s := moodySession(t, socket, 5, "d")
		mapped := newImage(1000)
		for _, image := range []*testImage{mapped, mapped.unmapped()} {
			for _, bad := range []schemas.Chunk{
				{Length: 0}, {Length: -1}, {Length: schemas.MaxChunkSize + 1}, {Length: 1001},
				{Length: 1, ChunkHeader: schemas.ChunkHeader{Offset: 1000}},
				{Length: 2, ChunkHeader: schemas.ChunkHeader{Offset: 1<<64 - 1}},
			} {
				synctest.Wait()
				time.Sleep(time.Second)
				n, err := s.Send("d", image, []schemas.Chunk{{Length: 10}, bad, {Length: 10}}, func() {})
				if err == nil && n == 1 { // the socket was full before it was looked at
					time.Sleep(time.Second)
					n, err = s.Send("d", image, []schemas.Chunk{bad}, nil)
					n++
				}
				if n != 1 || err == nil {
					t.Errorf("chunk of %d bytes at %d: %d taken, %v", bad.Length, bad.Offset, n, err)
				}
			}
		}
		time.Sleep(time.Second)
		if n, err := s.Send("d", mapped, nil, nil); n != 0 || err != nil {
			t.Errorf("nothing to send: %d, %v", n, err)
		}
	})
}

// packetTypes are those of a stream of bytes.
func packetTypes(t *testing.T, b []byte) (types []byte) {
	t.Helper()
	for r := rawReader(b); ; {
		pk, err := readPacket(r, 5)
		if err != nil {
			return types
		}
		types = append(types, pk.FixedHeader.Type)
	}
}

// What mochi sends while a packet is cut follows that packet, before any other chunk.
func TestMochiComesBeforeTheNextChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowSocket{moodySocket: newMoodySocket(rand.New(rand.NewPCG(1, 5)), true)}
		s := moodySession(t, slow.moodySocket, 5, "d")
		s.conn.Conn, s.conn.socket, s.conn.raw = slow, slow, slow
		image := newImage(4096)
		go func() { _ = sender{"d", s, image}.send(chunksOf(image, 1024)) }()
		synctest.Wait()
		if _, err := s.conn.Write([]byte{packets.Pingresp << 4, 0}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		want := []byte{packets.Publish, packets.Pingresp, packets.Publish, packets.Publish, packets.Publish}
		if got := packetTypes(t, slow.bytes()); !bytes.Equal(got, want) {
			t.Errorf("packets of types %v, want %v", got, want)
		}
	})
}

// slowSocket takes one packet a second.
type slowSocket struct{ *moodySocket }

func (s *slowSocket) tryWrite([]byte) (int, error)  { return 0, nil }
func (s *slowSocket) tryWritev(*batch) (int, error) { return 0, nil }
func (s *slowSocket) Write(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.moodySocket.Write(p)
}
