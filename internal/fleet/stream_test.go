package fleet_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"davit/internal/fleet"
	"davit/internal/fleet/mqtt"
	"davit/internal/mosquittotest"
	"davit/schemas"
)

// sender plays a service that knows nothing but how to stream: it answers fetches that
// follow on the shared stream, and leaves out every fourth chunk there.
type sender struct {
	t      *testing.T
	conn   *mqtt.Conn
	data   []byte
	offer  schemas.Offer
	tag    schemas.ImageTag
	ready  chan struct{}
	mu     sync.Mutex
	shared int // chunks that were meant for the stream
	alone  int // fetches that did not follow
}

func (s *sender) Puback(uint16, byte)   {}
func (s *sender) Suback(uint16, []byte) { close(s.ready) }

func (s *sender) publish(topic string, payload []byte, retain bool) {
	if _, err := s.conn.Publish(&mqtt.Message{Topic: []byte(topic), Payload: payload, Retain: retain}); err != nil {
		s.t.Error(err)
	}
}

func (s *sender) say(device string, p schemas.Payload) {
	b, err := schemas.Encode(p)
	if err != nil {
		s.t.Error(err)
	}
	s.publish(schemas.Topic{Device: device, Kind: p.Kind()}.String(), b, p.Kind().Retained())
}

func (s *sender) Message(m *mqtt.Message) error {
	t, err := schemas.ParseTopic(string(m.Topic))
	if err != nil {
		return err
	}
	switch t.Kind {
	case schemas.KindHello:
		var h schemas.Hello
		if err := schemas.Decode(m.Payload, &h); err != nil {
			return err
		}
		if h.HostVersions["oem_host_version"] != s.offer.Version {
			o := s.offer
			o.Execution, o.Stream = "exe-"+t.Device, h.Streams
			s.say(t.Device, &o)
		}
	case schemas.KindStatus:
		var st schemas.Status
		if err := schemas.Decode(m.Payload, &st); err != nil {
			return err
		}
		s.say(t.Device, &schemas.Ack{V: schemas.Version, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: st.State})
	case schemas.KindFetch:
		var f schemas.Fetch
		if err := schemas.Decode(m.Payload, &f); err != nil {
			return err
		}
		s.send(t.Device, &f)
	}
	return nil
}

func (s *sender) send(device string, f *schemas.Fetch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	topic, tag := schemas.Topic{Device: device, Kind: schemas.KindChunk}.String(), f.Tag
	if f.Follow {
		topic, tag = schemas.StreamTopic(s.offer.SHA256), 0
	} else {
		s.alone++
	}
	for _, r := range f.Ranges {
		for at := r.Offset; at < r.End(); at += uint64(f.Chunk) {
			end := min(at+uint64(f.Chunk), r.End())
			h := schemas.ChunkHeader{Transfer: tag, Image: s.tag, Offset: at}
			if end == s.offer.Size {
				h.Flags = schemas.ChunkFlagLast
			}
			if f.Follow {
				if s.shared++; at == 0 || s.shared%4 == 0 {
					continue
				}
			}
			s.publish(topic, append(h.AppendTo(nil), s.data[at:end]...), false)
		}
	}
}

// TestSharedStream has a fleet follow a stream with holes, over a broker that is not ours. The
// first chunk never comes on it, so each device has to ask for something alone: of other holes
// it may have what another one asks for again.
func TestSharedStream(t *testing.T) {
	t.Parallel()
	addr := mosquittotest.Run(t).Addr()
	data := make([]byte, 64_000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	sum := sha256.Sum256(data)
	s := &sender{t: t, data: data, ready: make(chan struct{}), offer: schemas.Offer{
		V: schemas.Version, Attempt: 1, Image: "img-1", ImageType: "app", Version: "2.0.0", Size: uint64(len(data)),
		SHA256: hex.EncodeToString(sum[:]), Chunk: schemas.ChunkHint{Preferred: 1000, Max: 4096},
	}}
	s.tag, _ = schemas.TagOf(s.offer.SHA256)
	conn, err := mqtt.Dial(t.Context(), mqtt.Options{Addr: addr, Version: mqtt.V5, ClientID: "service"})
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	ended := make(chan struct{})
	go func() { defer close(ended); _ = conn.Serve(s) }()
	defer func() { _ = conn.Close(); <-ended }()
	if _, err := conn.Subscribe(
		mqtt.Subscription{Filter: schemas.Filter(schemas.KindHello), QoS: 1},
		mqtt.Subscription{Filter: schemas.Filter(schemas.KindStatus), QoS: 1},
		mqtt.Subscription{Filter: schemas.Filter(schemas.KindFetch)},
	); err != nil {
		t.Fatal(err)
	}
	<-s.ready

	c := fleet.DefaultConfig()
	c.Broker, c.TimeScale, c.Ramp, c.Repeat, c.Timeout, c.Update = addr, 1000, 1000, 500*time.Millisecond, time.Minute, true
	for i := range 20 {
		c.Devices = append(c.Devices, fleet.Login{ID: fmt.Sprintf("sim-%d", i), Password: "any"})
	}
	c.Profiles[0].Streams, c.Profiles[0].V311 = true, 0.5
	c.Profiles = append(c.Profiles, c.Profiles[0])
	c.Profiles[1].Adaptive = true
	r := run(t, c)
	if r.Updates.AsDrawn != 20 || r.Messages.StreamChunks == 0 || r.Updates.WrongChunks != 0 {
		t.Errorf("updates %+v, messages %+v", r.Updates, r.Messages)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alone == 0 || int64(s.shared) >= r.Messages.StreamChunks {
		t.Errorf("%d chunks went to the stream and %d were received from it; %d fetches did not follow", s.shared, r.Messages.StreamChunks, s.alone)
	}
}
