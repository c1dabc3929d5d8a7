package broker

import (
	"errors"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

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
// What the client sees is the same as if they had been published. Its methods
// may be called from any goroutine.
type Session struct {
	conn *conn

	sending sync.Mutex // one Send at a time, for the order of copied chunks

	mu     sync.Mutex
	topics map[string]string // of the devices' chunks, by device
	last   string            // the device that was admitted last, if to has a topic
	to     address           // its chunks
	lastIn uint32            // subscriptions.changes then
	unsent *unsent           // made when Backlog is first called, if it can be
	asked  bool
	memory any
}

// Memory is a place for what whoever takes the fetches knows of the device that asked last.
// Its access is theirs to order.
func (s *Session) Memory() *any { return &s.memory }

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
	traceparent := ""
	for _, u := range pk.Properties.User {
		if u.Key == schemas.TraceparentProperty {
			traceparent = u.Val
		}
	}
	b.fetch(c, t.Device, pk.Payload, traceparent)
	return true
}

// fetch hands a fetch over, and notes whether the connection is to rest. A bridge does not:
// one of its devices must not hold up the others.
func (b *Broker) fetch(c *conn, device string, payload []byte, traceparent string) {
	if !b.cfg.OnFetch(device, payload, b.reader(c, device), traceparent) && !c.principal.bridge() {
		c.talk.rest = true
	}
}

// fetchRest is for how long a device that asks faster than it is answered is not read. TCP
// holds it back meanwhile, and what it repeats is refused a few times a second.
const fetchRest = 500 * time.Millisecond

// rest waits before the next packet of a device is read, if that is due.
func (b *Broker) rest(c *conn) {
	if !c.talk.rest {
		return
	}
	c.talk.rest = false
	t := time.NewTimer(fetchRest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.closed:
	}
	b.expect(c)
}

// reader is the session that is to get the chunks that c has asked for: its
// own, or that of a second client with the same credentials which reads them.
func (b *Broker) reader(c *conn, device string) *Session {
	if _, err := c.session.admit(device); err != nil {
		for _, other := range b.sessions.of(c.principal.name) {
			if _, err := other.session.admit(device); err == nil {
				return &other.session
			}
		}
	}
	return &c.session
}

// Send writes chunks of one image, in order, as messages on the device's chunk
// topic, without waiting for the socket. It returns how many it has taken: they
// are on their way. With fewer than all, ready is called once, from any
// goroutine, when the session can take more or has ended; it must not block.
// With an error ready is not called. The error is ErrSessionEnded,
// ErrNotSubscribed, or why the chunk after those taken cannot be read from the
// image. Chunks in packets longer than the client takes (MQTT 5, 3.1.2.11.4)
// count as taken and do not leave.
//
// A session takes at most one chunk more than its socket, or copyLimit bytes
// where chunks have to be copied. So a client that does not read costs that
// much, and it keeps its connection while its keep alive holds. The image has to
// be valid until Send returns; what is needed longer is retained.
func (s *Session) Send(device string, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (taken int, err error) {
	c := s.conn
	to, err := s.admit(device)
	if err != nil {
		c.broker.metrics.chunkRefused(err)
		return 0, err
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	mapped := image.Mapped()
	if _, ok := c.raw.(vectorWriter); !ok {
		mapped = nil
	}
	for waits := false; !waits && taken < len(chunks); {
		var n int
		if mapped != nil {
			n, waits, err = c.sendVectored(&to, image, mapped, chunks[taken:], ready)
		} else {
			n, waits, err = c.sendCopied(&to, image, chunks[taken:], ready)
		}
		taken += n
		switch {
		case err == nil:
			continue
		case errors.Is(err, errUnreadable): // reading says what is wrong
			mapped = nil
			continue
		}
		c.broker.metrics.chunkRefused(err)
		if !errors.Is(err, errTooLarge) {
			return taken, err
		}
		taken++
	}
	return taken, nil
}

// admit finds out how to address the device's chunks, if they may be sent here: if the
// client subscribes to exactly their topic and has not lost its rights.
func (s *Session) admit(device string) (address, error) {
	c := s.conn
	s.mu.Lock()
	defer s.mu.Unlock()
	if changes := c.sub.changes.Load(); s.to.topic == "" || device != s.last || changes != s.lastIn {
		topic, err := s.topic(device)
		if err != nil {
			return address{}, err
		}
		if s.to, err = c.address(topic); err != nil {
			return address{}, err
		}
		s.last, s.lastIn = device, changes
	}
	if c.principal.revoked.Load() {
		return address{}, ErrNotSubscribed
	}
	return s.to, nil
}

// topic is the device's chunk topic, which is made once; mu is held.
func (s *Session) topic(device string) (string, error) {
	topic, ok := s.topics[device]
	if !ok {
		topic = schemas.Topic{Device: device, Kind: schemas.KindChunk}.String()
		if s.conn.principal.mayRead(topic) != allowed {
			return "", ErrNotSubscribed
		}
		if s.topics == nil {
			s.topics = make(map[string]string)
		}
		s.topics[device] = topic // at most one for each device of the principal
	}
	return topic, nil
}

// address says how to send on a topic, if the client subscribes to exactly
// that and has not lost its rights.
func (c *conn) address(topic string) (address, error) {
	g, ok := c.sub.find(topic)
	if !ok || c.principal.revoked.Load() {
		return address{}, ErrNotSubscribed
	}
	return address{version: c.version, topic: topic, subscription: g.id, maxPacket: c.maxPacket}, nil
}
