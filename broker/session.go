package broker

import (
	"errors"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// copyLimit is how many bytes of chunks may be copied for one session that
// cannot be handed the image's own memory; one chunk always may.
const copyLimit = 64 << 10

// Errors of Session.Send.
var (
	// ErrSessionEnded says that the connection has ended or is about to.
	ErrSessionEnded = errors.New("the MQTT session has ended")
	// ErrNotSubscribed says that nobody would read the chunks here: the session
	// does not subscribe to the device's chunk topic, or may not read it.
	ErrNotSubscribed = errors.New("the MQTT session does not subscribe to the device's chunks")
)

// Session is the connection of a module, as Config.OnFetch is given it. It
// takes chunks past mochi: addressed, encoded once, straight to the socket.
// What the client sees is the same as if they had been published.
type Session struct {
	conn *conn

	mu     sync.Mutex        // held by one Send at a time
	topics map[string]string // of the devices' chunks, by device
}

// takeFetch hands a fetch to Config.OnFetch. It returns false if the message
// is none, or nobody is there to take it.
func (b *Broker) takeFetch(c *conn, pk *packets.Packet) bool {
	if b.cfg.OnFetch == nil || c.principal.service {
		return false
	}
	t, err := schemas.ParseTopic(pk.TopicName)
	if err != nil || t.Kind != schemas.KindFetch {
		return false
	}
	b.cfg.OnFetch(t.Device, pk.Payload, b.reader(c, t.Device))
	return true
}

// reader is the session that is to get the chunks that c has asked for.
func (b *Broker) reader(c *conn, device string) *Session {
	topic := schemas.Topic{Device: device, Kind: schemas.KindChunk}.String()
	if _, ok := c.sub.find(topic); !ok {
		for _, other := range b.sessions.of(c.principal.name) {
			if _, ok := other.sub.find(topic); ok {
				return &other.session
			}
		}
	}
	return &c.session
}

// Send writes chunks of one image, in order, as messages on the device's chunk
// topic, without waiting. It returns how many it has taken: they are on their
// way. With fewer than all, ready is called once, from any goroutine, when the
// session can take more or has ended; it must not block. With an error ready is
// not called. It is ErrSessionEnded, ErrNotSubscribed, or that of reading the
// image.
//
// A session takes at most one chunk more than its socket, or copyLimit bytes
// where they have to be copied, so a client that does not read costs that much
// and keeps its connection while its keep alive holds. The image must stay
// valid during the call; what is needed longer is retained.
func (s *Session) Send(device string, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (taken int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to, err := s.admit(device)
	for err == nil && taken < len(chunks) {
		var n int
		var waits bool
		n, waits, err = s.copied(to, image, chunks[taken:], ready)
		taken += n
		if waits {
			break
		}
	}
	return taken, err
}

// admit finds out how to address the device's chunks, if they may be sent here.
func (s *Session) admit(device string) (address, error) {
	c := s.conn
	topic, ok := s.topics[device]
	if !ok {
		topic = schemas.Topic{Device: device, Kind: schemas.KindChunk}.String()
		if c.principal.mayRead(topic) != allowed {
			return address{}, ErrNotSubscribed
		}
		if s.topics == nil {
			s.topics = make(map[string]string)
		}
		s.topics[device] = topic // at most one for each device of the principal
	}
	g, ok := c.sub.find(topic)
	if !ok || c.principal.revoked.Load() {
		return address{}, ErrNotSubscribed
	}
	return address{version: c.version, topic: topic, subscription: g.id}, nil
}

// copied sends chunks by way of the outbox. If bytes wait for the socket when
// it returns, and there is more to send, ready is going to be called.
func (s *Session) copied(to address, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (taken int, waits bool, err error) {
	c := s.conn
	if waits, err := c.awaitTurn(ready); waits || err != nil {
		return 0, waits, err
	}
	// The disk is read without the lock. Nobody else sends chunks meanwhile.
	buf := c.broker.buffer()
	for _, ch := range chunks {
		if taken > 0 && len(buf)+ch.Length > copyLimit {
			break
		}
		if buf, err = to.appendChunk(buf, image, &ch); err != nil {
			break // what there is goes out; without anything, the error is told
		}
		taken++
	}
	if taken == 0 {
		c.broker.recycle(buf)
		return 0, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		c.broker.recycle(buf)
		return 0, false, ErrSessionEnded
	}
	if len(c.out.ready) == 0 {
		c.broker.recycle(c.out.ready)
		c.out.ready = buf
	} else { // of mochi, in the meantime
		c.out.ready = append(c.out.ready, buf...)
		c.broker.recycle(buf)
	}
	c.send()
	if waits = c.flushing; waits && taken < len(chunks) {
		c.waiting.add(ready, true)
	}
	return taken, waits, nil
}

// awaitTurn returns true, and keeps ready, if chunks have to wait.
func (c *conn) awaitTurn(ready func()) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return false, ErrSessionEnded
	case c.flushing:
		c.waiting.add(ready, false)
		return true, nil
	}
	return false, nil
}

// waiters are those who want to know when a session can take more. Who got
// nothing this time comes before who got something, so that the devices of a
// bridge take turns.
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
	all := append(w.starved, w.fed...)
	*w = waiters{}
	return all
}
