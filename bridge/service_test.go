package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/schemas"
)

// service is a broker and the service behind it, as far as a bridge can tell:
// it keeps retained messages, answers fetches, records statuses and
// acknowledges them.
type service struct {
	t testing.TB
	// delay is how long a message takes each way.
	delay time.Duration
	// chunk may drop (nil) or change the n-th chunk message.
	chunk func(n int, b []byte) []byte
	// deaf, if set, says which topics the bridge gets nothing on.
	deaf func(topic string) bool
	// acks says whether statuses are acknowledged.
	acks bool
	// profiles are what it says of a device whose hello does not fit its type.
	profiles map[string]schemas.Profile
	// heardAll, if set, is told of each message that arrives.
	heardAll func(Message)

	// sums are the SHA-256 of images by their ids, where they are known already.
	sums map[string]string

	mu       sync.Mutex
	client   *Client
	up       bool
	topics   map[string]bool   // subscribed to, on this connection
	will     Message           // of this connection
	images   map[string][]byte // by image id
	retained map[string][]byte
	hellos   map[string]schemas.Hello
	heard    map[string]int // hellos by device
	online   map[string]bool
	attempts map[string]int            // by execution: the one that counts
	recorded map[string]schemas.Status // by execution: the last one accepted
	ended    chan schemas.Status       // gets what is recorded as an end, and images that are kept, if there is room
	fetching map[string]int            // attempts that are to fetch the image only, by execution
	statuses []schemas.Status          // those that changed something, and when
	times    []time.Time
	said     map[string]int // statuses by execution and state, repetitions included
	chunks   int
	joined   map[string]int // subscriptions of shared streams, by topic
	follows  int            // fetches that follow one
	alone    []schemas.Range
	served   int // bytes of chunks
	fetches  []string
	asked    []schemas.Range // every range of every fetch
	busy     sync.WaitGroup
}

func newService(t testing.TB) *service {
	return &service{
		t: t, delay: 5 * time.Millisecond, acks: true, up: true, images: map[string][]byte{}, retained: map[string][]byte{},
		attempts: map[string]int{}, fetching: map[string]int{}, ended: make(chan schemas.Status, 16), hellos: map[string]schemas.Hello{}, online: map[string]bool{}, recorded: map[string]schemas.Status{}, said: map[string]int{}, joined: map[string]int{}, heard: map[string]int{},
	}
}

// Run implements Transport.
func (s *service) Run(ctx context.Context, c Client) error {
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

// connect brings the connection up and delivers what is retained.
func (s *service) connect() {
	s.mu.Lock()
	s.up = true
	c := s.client
	s.topics = map[string]bool{}
	s.mu.Unlock()
	if c == nil {
		return
	}
	s.will = c.Will()
	subscriptions := c.Subscriptions()
	s.subscribe(subscriptions)
	c.Connected()
	s.deliverRetained(subscriptions)
}

func (s *service) subscribe(subscriptions []Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range subscriptions {
		s.topics[sub.Topic] = true
		if _, ok := schemas.ParseStreamTopic(sub.Topic); ok {
			s.joined[sub.Topic]++
		}
	}
}

func (s *service) deliverRetained(subscriptions []Subscription) {
	s.mu.Lock()
	var topics []string
	for _, sub := range subscriptions {
		if s.retained[sub.Topic] != nil {
			topics = append(topics, sub.Topic)
		}
	}
	s.mu.Unlock()
	slices.Sort(topics)
	for _, topic := range topics {
		s.deliver(topic)
	}
}

// Subscribe implements Transport.
func (s *service) Subscribe(_ context.Context, subscriptions []Subscription) error {
	if err := s.connected(); err != nil {
		return err
	}
	time.Sleep(2 * s.delay)
	s.subscribe(subscriptions)
	s.deliverRetained(subscriptions)
	return nil
}

// Unsubscribe implements Transport.
func (s *service) Unsubscribe(_ context.Context, topics []string) error {
	if err := s.connected(); err != nil {
		return err
	}
	time.Sleep(2 * s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range topics {
		delete(s.topics, topic)
	}
	return nil
}

// subscriptions is how many topics of a device are subscribed to.
func (s *service) subscriptions(device string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for topic := range s.topics {
		if t, err := schemas.ParseTopic(topic); err == nil && t.Device == device {
			n++
		}
	}
	return n
}

func (s *service) disconnect() {
	s.mu.Lock()
	s.up = false
	c := s.client
	s.mu.Unlock()
	if c != nil {
		c.Disconnected()
	}
}

// deliver sends a retained message.
func (s *service) deliver(topic string) {
	s.mu.Lock()
	b := s.retained[topic]
	s.mu.Unlock()
	s.send(topic, b)
}

// send delivers one message to the bridge, if it is there.
func (s *service) send(topic string, b []byte) {
	s.mu.Lock()
	c, up := s.client, s.up && (s.topics == nil || s.topics[topic])
	s.mu.Unlock()
	if c != nil && up && (s.deaf == nil || !s.deaf(topic)) {
		c.Received(topic, bytes.Clone(b))
	}
}

func topicOf(device string, k schemas.Kind) string {
	return schemas.Topic{Device: device, Kind: k}.String()
}

// offer retains an offer of an image for a device.
func (s *service) offer(device string, o schemas.Offer) {
	b, err := schemas.Encode(&o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.retained[topicOf(device, schemas.KindOffer)] = b
	s.attempts[o.Execution] = max(s.attempts[o.Execution], o.Attempt)
	if o.Action == schemas.ActionDownload {
		s.fetching[o.Execution] = o.Attempt
	}
	s.mu.Unlock()
	s.deliver(topicOf(device, schemas.KindOffer))
}

// deliverOffer delivers an offer that is not retained: late, and once more.
func (s *service) deliverOffer(device string, o schemas.Offer) {
	b, err := schemas.Encode(&o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(topicOf(device, schemas.KindOffer), b)
}

// reachable says whether a bridge that starts finds the broker.
func (s *service) reachable(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = up
}

func (s *service) withdraw(device string) {
	topic := topicOf(device, schemas.KindOffer)
	s.mu.Lock()
	delete(s.retained, topic)
	s.mu.Unlock()
	s.send(topic, nil)
}

// retract takes the offer of an execution back and returns its next attempt, which is
// the one that counts from now on.
func (s *service) retract(device, execution string) int {
	s.mu.Lock()
	s.attempts[execution]++
	attempt := s.attempts[execution]
	s.mu.Unlock()
	s.withdrawIf(device, execution)
	return attempt
}

// Publish implements Transport.
func (s *service) Publish(ctx context.Context, m Message) error {
	if err := s.connected(); err != nil {
		return err
	}
	if m.QoS > 0 {
		select {
		case <-time.After(2 * s.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.connected(); err != nil {
		return err // lost before it arrived
	}
	if s.heardAll != nil {
		s.heardAll(m)
	}
	topic, err := schemas.ParseTopic(m.Topic)
	if err != nil {
		s.t.Errorf("published on %s: %v", m.Topic, err)
		return nil
	}
	if m.QoS != topic.Kind.QoS() || m.Retain != topic.Kind.Retained() {
		s.t.Errorf("%s with QoS %d, retain %t", m.Topic, m.QoS, m.Retain)
	}
	s.take(topic, m.Payload)
	return nil
}

func (s *service) connected() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return errors.New("not connected")
	}
	return nil
}

func (s *service) take(t schemas.Topic, b []byte) {
	decode := func(p schemas.Payload) {
		if err := schemas.Decode(b, p); err != nil {
			s.t.Errorf("%s: %v", t, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t.Kind {
	case schemas.KindHello:
		var h schemas.Hello
		decode(&h)
		s.hellos[t.Device] = h
		s.heard[t.Device]++
		s.profile(t.Device, h)
	case schemas.KindPresence:
		var p schemas.Presence
		decode(&p)
		s.online[t.Device] = p.Online
	case schemas.KindFetch:
		var f schemas.Fetch
		decode(&f)
		s.fetches = append(s.fetches, t.Device)
		s.asked = append(s.asked, f.Ranges...)
		if f.Follow {
			s.follows++
		} else {
			s.alone = append(s.alone, f.Ranges...)
		}
		after := 2*s.delay + time.Duration(len(s.fetches)) // fetches of one moment are answered in their order
		s.busy.Go(func() {
			time.Sleep(after)
			s.serve(t.Device, f)
		})
	case schemas.KindStatus:
		var st schemas.Status
		decode(&st)
		s.record(t.Device, st)
	default:
		s.t.Errorf("a bridge has no business on %s", t)
	}
}

// profile answers a hello that lacks what the device's type says; mu is held.
func (s *service) profile(device string, h schemas.Hello) {
	p, ok := s.profiles[device]
	if !ok || h.Dialect == p.Dialect && !slices.ContainsFunc(p.VersionProperties, func(v string) bool { _, told := h.HostVersions[v]; return !told }) {
		return
	}
	b, err := schemas.Encode(&p)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.busy.Go(func() {
		time.Sleep(s.delay) // virtual
		s.send(topicOf(device, schemas.KindProfile), b)
	})
}

// record applies the contract's rule: only the attempt that counts, only forward,
// only with new numbers.
func (s *service) record(device string, st schemas.Status) {
	superseded := st.Attempt < s.attempts[st.Execution]
	if !superseded {
		s.news(st)
	}
	if !s.acks {
		return
	}
	recorded := s.recorded[st.Execution].State
	if superseded && recorded == "" {
		recorded = schemas.StateQueued
	}
	ack, err := schemas.Encode(&schemas.Ack{
		V: schemas.Version, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: recorded, Superseded: superseded,
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	final := recorded.Final() && !superseded
	s.busy.Go(func() {
		time.Sleep(s.delay)
		s.send(topicOf(device, schemas.KindAck), ack)
		if final {
			s.withdrawIf(device, st.Execution)
		}
	})
}

// news records a status if it says something new.
func (s *service) news(st schemas.Status) {
	old, known := s.recorded[st.Execution]
	s.said[st.Execution+string(st.State)]++
	if !known || st.Attempt > old.Attempt || st.Attempt == old.Attempt && (st.State.Rank() > old.State.Rank() || st.State == old.State && !st.State.Final() && st.Seq > old.Seq) {
		s.recorded[st.Execution] = st
		s.statuses = append(s.statuses, st)
		s.times = append(s.times, time.Now())
		if st.State.Final() || st.State == schemas.StateDownloaded && st.Attempt == s.fetching[st.Execution] {
			select {
			case s.ended <- st:
			default:
			}
		}
	} else if st.Attempt == old.Attempt && !old.State.Final() && st.Seq < old.Seq && st.State.Rank() > old.State.Rank() {
		s.t.Errorf("status %d (%s) after status %d (%s)", st.Seq, st.State, old.Seq, old.State)
	}
}

// withdrawIf clears the retained offer of an execution that has ended.
func (s *service) withdrawIf(device, execution string) {
	topic := topicOf(device, schemas.KindOffer)
	s.mu.Lock()
	mine := bytes.Contains(s.retained[topic], []byte(`"execution":"`+execution+`"`))
	s.mu.Unlock()
	if mine {
		s.withdraw(device)
	}
}

// serve answers a fetch.
func (s *service) serve(device string, f schemas.Fetch) {
	s.mu.Lock()
	image, sum := s.images[f.Image], s.sums[f.Image]
	s.mu.Unlock()
	if sum == "" {
		hash := sha256.Sum256(image)
		sum = hex.EncodeToString(hash[:])
	}
	tag, _ := schemas.TagOf(sum)
	topic := topicOf(device, schemas.KindChunk)
	if f.Follow {
		topic, f.Tag = schemas.StreamTopic(sum), 0
	}
	for _, r := range f.Ranges {
		for at := r.Offset; at < r.End(); {
			n := min(uint64(f.Chunk), r.End()-at)
			b := schemas.ChunkHeader{Transfer: f.Tag, Image: tag, Offset: at}.AppendTo(nil)
			b = append(b, image[at:at+n]...)
			at += n
			s.mu.Lock()
			s.chunks++
			s.served += int(n)
			count := s.chunks
			s.mu.Unlock()
			if s.chunk != nil {
				b = s.chunk(count, b)
			}
			if b != nil {
				s.send(topic, b)
			}
		}
	}
}

// last is what is recorded of an execution.
func (s *service) last(execution string) schemas.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recorded[execution]
}

func (s *service) hello(device string) schemas.Hello {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hellos[device]
}

// helloCount is how many hellos of a device arrived.
func (s *service) helloCount(device string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[device]
}

func (s *service) isOnline(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online[device]
}

// count is how often a status was said.
func (s *service) count(execution string, state schemas.State) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said[execution+string(state)]
}

func (s *service) setAcks(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = on
}

// bytes is how many bytes of images were served.
func (s *service) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

func (s *service) fetchCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fetches)
}

func (s *service) lastFetch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches[len(s.fetches)-1]
}

// states lists the states recorded for an execution, each once.
func (s *service) states(execution string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, st := range s.statuses {
		if st.Execution == execution && (len(out) == 0 || out[len(out)-1] != string(st.State)) {
			out = append(out, string(st.State))
		}
	}
	return strings.Join(out, " ")
}
