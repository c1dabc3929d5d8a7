package module

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"davit/bridge/mqtt"
	"davit/schemas"
)

// delay is how long a message takes each way.
const delay = 20 * time.Millisecond

// service is a broker and the service behind it, as far as a module can tell. It is
// a mqtt.Transport.
type service struct {
	t     *testing.T
	image []byte
	// spoil may drop (nil) or change the n-th chunk message.
	spoil func(n int, b []byte) []byte
	deaf  bool                // statuses are not acknowledged
	trace schemas.TraceHeader // that offers come with, if it is not zero

	mu       sync.Mutex
	client   *mqtt.Client
	up       bool
	retained []byte // the offer
	seen
	busy sync.WaitGroup
}

// seen is what the service has seen of the module.
type seen struct {
	topics  map[string]bool // subscribed to
	hello   schemas.Hello
	online  bool
	heard   []schemas.Status          // in their order, repetitions included
	acked   map[string]schemas.Status // by execution: the last one
	fetches []schemas.Fetch
	chunks  int
	carried map[schemas.Kind][]schemas.TraceHeader // what messages said of a trace, in their order
}

// look returns a copy of it.
func (s *service) look() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.seen
	c.topics, c.acked, c.carried = maps.Clone(c.topics), maps.Clone(c.acked), maps.Clone(c.carried)
	c.heard, c.fetches = slices.Clone(c.heard), slices.Clone(c.fetches)
	return c
}

func newService(t *testing.T, size int) *service {
	image := make([]byte, size)
	for i := range image {
		image[i] = byte(i*i>>8 ^ i)
	}
	return &service{t: t, image: image, up: true, seen: seen{acked: map[string]schemas.Status{}, carried: map[schemas.Kind][]schemas.TraceHeader{}}}
}

// theOffer is of the service's image.
func (s *service) theOffer() schemas.Offer {
	sum := sha256.Sum256(s.image)
	return schemas.Offer{
		V: schemas.Version, Execution: "ex-1", Attempt: 1, Image: "img-1", ImageType: "application", Version: "2.0.0", Size: uint64(len(s.image)),
		SHA256: hex.EncodeToString(sum[:]), Chunk: schemas.ChunkHint{Preferred: 1024, Max: 4096},
	}
}

// Run implements mqtt.Transport.
func (s *service) Run(ctx context.Context, c mqtt.Client) error {
	s.mu.Lock()
	s.client = &c
	up := s.up
	s.mu.Unlock()
	if up {
		s.connect()
	}
	<-ctx.Done()
	s.mu.Lock()
	s.client = nil
	s.mu.Unlock()
	s.busy.Wait()
	return nil
}

func (s *service) connect() {
	s.mu.Lock()
	c, offer := s.client, s.retained
	s.up, s.topics = true, map[string]bool{}
	for _, sub := range c.Subscriptions() {
		s.topics[sub.Topic] = true
	}
	s.mu.Unlock()
	c.Connected()
	if offer != nil {
		s.send(topicOf(schemas.KindOffer), offer)
	}
}

func (s *service) disconnect() {
	s.mu.Lock()
	c := s.client
	s.up = false
	s.mu.Unlock()
	c.Disconnected()
}

const device = "pump-7"

func topicOf(k schemas.Kind) string { return schemas.Topic{Device: device, Kind: k}.String() }

func (s *service) send(topic string, b []byte) {
	s.mu.Lock()
	c, there := s.client, s.up && s.topics[topic]
	s.mu.Unlock()
	switch {
	case c == nil || !there:
	case s.trace.Parent != "" && topic == topicOf(schemas.KindOffer):
		c.Traced(topic, bytes.Clone(b), s.trace.Parent, s.trace.State)
	default:
		c.Received(topic, bytes.Clone(b))
	}
}

// offer retains an offer and delivers it.
func (s *service) offer(o schemas.Offer) {
	b, err := schemas.Encode(&o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.retained = b
	s.mu.Unlock()
	s.send(topicOf(schemas.KindOffer), b)
}

func (s *service) withdraw() {
	s.mu.Lock()
	s.retained = nil
	s.mu.Unlock()
	s.send(topicOf(schemas.KindOffer), nil)
}

var errDown = errors.New("not connected")

// Subscribe and Unsubscribe implement mqtt.Transport.
func (s *service) Subscribe(_ context.Context, subscriptions []mqtt.Subscription) error {
	return s.change(func() {
		for _, sub := range subscriptions {
			s.topics[sub.Topic] = true
		}
	})
}

func (s *service) Unsubscribe(_ context.Context, topics []string) error {
	return s.change(func() {
		for _, topic := range topics {
			delete(s.topics, topic)
		}
	})
}

func (s *service) change(f func()) error {
	time.Sleep(2 * delay) // virtual
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return errDown
	}
	f()
	return nil
}

// Publish implements mqtt.Transport.
func (s *service) Publish(_ context.Context, m mqtt.Message) error {
	if m.QoS > 0 {
		time.Sleep(2 * delay) // virtual
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return errDown
	}
	topic, err := schemas.ParseTopic(m.Topic)
	if err != nil || topic.Device != device || !topic.Kind.FromDevice() || m.QoS != topic.Kind.QoS() || m.Retain != topic.Kind.Retained() {
		s.t.Errorf("published on %s with QoS %d, retain %t: %v", m.Topic, m.QoS, m.Retain, err)
		return nil
	}
	s.carried[topic.Kind] = append(s.carried[topic.Kind], schemas.TraceHeader{Parent: m.Traceparent, State: m.Tracestate})
	decode := func(p schemas.Payload) {
		if err := schemas.Decode(m.Payload, p); err != nil {
			s.t.Errorf("%s: %v", topic, err)
		}
	}
	switch topic.Kind {
	case schemas.KindHello:
		s.hello = schemas.Hello{}
		decode(&s.hello)
	case schemas.KindPresence:
		var p schemas.Presence
		decode(&p)
		s.online = p.Online
	case schemas.KindFetch:
		var f schemas.Fetch
		decode(&f)
		s.fetches = append(s.fetches, f)
		s.later(len(s.fetches), func() { s.serve(f) })
	case schemas.KindStatus:
		var st schemas.Status
		decode(&st)
		s.record(st)
	}
	return nil
}

// later does f when a message has gone there and back; those of one moment keep their order.
func (s *service) later(order int, f func()) {
	s.busy.Go(func() {
		time.Sleep(2*delay + time.Duration(order))
		f()
	})
}

// record acknowledges a status; mu is held.
func (s *service) record(st schemas.Status) {
	if n := len(s.heard); n > 0 && s.heard[n-1].Execution == st.Execution && s.heard[n-1].Attempt == st.Attempt {
		if old := s.heard[n-1]; st.Seq < old.Seq || st.State.Rank() < old.State.Rank() || st.Seq == old.Seq && st != old {
			s.t.Errorf("status %+v after %+v", st, old)
		}
	}
	s.heard = append(s.heard, st)
	if s.deaf {
		return
	}
	s.acked[st.Execution] = st
	b, err := schemas.Encode(&schemas.Ack{V: schemas.Version, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: st.State})
	if err != nil {
		s.t.Error(err)
	}
	s.later(len(s.heard), func() { s.send(topicOf(schemas.KindAck), b) })
}

func (s *service) serve(f schemas.Fetch) {
	o := s.theOffer()
	tag, _ := schemas.TagOf(o.SHA256)
	topic := topicOf(schemas.KindChunk)
	if f.Follow {
		topic, f.Tag = schemas.StreamTopic(o.SHA256), 0
	}
	for _, r := range f.Ranges {
		for at := r.Offset; at < r.End(); at += uint64(f.Chunk) {
			b := schemas.ChunkHeader{Transfer: f.Tag, Image: tag, Offset: at}.AppendTo(nil)
			b = append(b, s.image[at:min(at+uint64(f.Chunk), r.End())]...)
			s.mu.Lock()
			s.chunks++
			n := s.chunks
			s.mu.Unlock()
			if s.spoil != nil {
				b = s.spoil(n, b)
			}
			if b != nil {
				s.send(topic, b)
			}
		}
	}
}

// end is what is recorded of an execution's end.
func (s *service) end(execution string) (schemas.Status, bool) {
	st := s.look().acked[execution]
	return st, st.State.Final()
}
