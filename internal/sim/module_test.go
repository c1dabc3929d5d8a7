package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"davit/schemas"
	"github.com/eclipse/paho.golang/packets"
)

// fakeService is a broker and a service in one, for one module: it speaks just
// enough MQTT 5 to hold the contract against the module.
type fakeService struct {
	t        *testing.T
	listener net.Listener
	image    []byte
	offer    schemas.Offer
	damage   func(*packets.Publish) bool // false loses the message

	next []schemas.Offer // made when the module has ended the one before, or put it off

	mu    sync.Mutex // guards what follows and writes to conn
	conn  net.Conn
	got   map[schemas.Kind]int
	final chan schemas.Status
	ended chan struct{}
}

// startService starts one that offers image; prepare may change it before.
func startService(t *testing.T, image []byte, prepare func(*fakeService)) *fakeService {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(image)
	s := &fakeService{
		t: t, listener: l, image: image, got: map[schemas.Kind]int{},
		final: make(chan schemas.Status, 16), ended: make(chan struct{}),
		offer: schemas.Offer{
			V: schemas.Version, Execution: "ex-1", Attempt: 1, Image: "img-1", ImageType: "application", Version: "2.0.0",
			Size: uint64(len(image)), SHA256: hex.EncodeToString(sum[:]), Chunk: schemas.ChunkHint{Preferred: 1024, Max: 4096},
		},
	}
	if prepare != nil {
		prepare(s)
	}
	go s.accept()
	t.Cleanup(func() {
		_ = l.Close()
		<-s.ended
	})
	return s
}

func (s *fakeService) accept() {
	defer close(s.ended)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		s.serve(conn)
		_ = conn.Close()
	}
}

func (s *fakeService) serve(conn net.Conn) {
	for {
		in, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := in.Content.(type) {
		case *packets.Connect:
			s.write(packets.CONNACK, func(c any) {})
		case *packets.Subscribe:
			s.write(packets.SUBACK, func(c any) {
				ack := c.(*packets.Suback)
				ack.PacketID, ack.Reasons = p.PacketID, make([]byte, len(p.Subscriptions))
			})
			s.send(schemas.KindOffer, s.encode(&s.offer))
		case *packets.Publish:
			if p.QoS == 1 {
				s.write(packets.PUBACK, func(c any) { c.(*packets.Puback).PacketID = p.PacketID })
			}
			s.take(p)
		case *packets.Disconnect:
			return
		}
	}
}

func (s *fakeService) write(kind byte, fill func(content any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := packets.NewControlPacket(kind)
	fill(p.Content)
	_, _ = p.WriteTo(s.conn)
}

func (s *fakeService) encode(p schemas.Payload) []byte {
	b, err := schemas.Encode(p)
	if err != nil {
		s.t.Error(err)
	}
	return b
}

func (s *fakeService) send(k schemas.Kind, payload []byte) {
	s.write(packets.PUBLISH, func(c any) {
		p := c.(*packets.Publish)
		p.Topic, p.Payload = schemas.Topic{Device: "pump-7", Kind: k}.String(), payload
	})
}

// take checks what the module publishes against the contract and answers it.
func (s *fakeService) take(p *packets.Publish) {
	topic, err := schemas.ParseTopic(p.Topic)
	if err != nil || topic.Device != "pump-7" || p.QoS != topic.Kind.QoS() || p.Retain != topic.Kind.Retained() {
		s.t.Errorf("published on %s with QoS %d, retain %v: %v", p.Topic, p.QoS, p.Retain, err)
		return
	}
	s.mu.Lock()
	s.got[topic.Kind]++
	s.mu.Unlock()
	if s.damage != nil && !s.damage(p) {
		return
	}
	switch topic.Kind {
	case schemas.KindHello:
		s.check(schemas.Decode(p.Payload, &schemas.Hello{}))
		s.send(schemas.KindProfile, s.encode(&schemas.Profile{V: schemas.Version, DeviceType: "pump", Dialect: "afero", VersionProperties: []string{"2101"}}))
	case schemas.KindPresence:
		s.check(schemas.Decode(p.Payload, &schemas.Presence{}))
	case schemas.KindFetch:
		var f schemas.Fetch
		s.check(schemas.Decode(p.Payload, &f))
		s.serveChunks(f)
	case schemas.KindStatus:
		var st schemas.Status
		s.check(schemas.Decode(p.Payload, &st))
		s.send(schemas.KindAck, s.encode(&schemas.Ack{V: schemas.Version, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: st.State}))
		s.ends(st)
	default:
		s.t.Errorf("a module published %s", topic.Kind)
	}
}

// ends makes the next offer when st ends the one that stands, or hands st over if
// there is none.
func (s *fakeService) ends(st schemas.Status) {
	if !st.State.Final() && (st.State != schemas.StateDownloaded || s.offer.Action != schemas.ActionDownload) || st.Attempt != s.offer.Attempt {
		return
	}
	if len(s.next) == 0 {
		s.final <- st
		return
	}
	s.offer, s.next = s.next[0], s.next[1:]
	s.send(schemas.KindOffer, nil)
	s.send(schemas.KindOffer, s.encode(&s.offer))
}

func (s *fakeService) check(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *fakeService) serveChunks(f schemas.Fetch) {
	tag, _ := schemas.TagOf(s.offer.SHA256)
	for _, r := range f.Ranges {
		for off := r.Offset; off < r.End(); off += uint64(f.Chunk) {
			data := s.image[off:min(off+uint64(f.Chunk), r.End())]
			h := schemas.ChunkHeader{Transfer: f.Tag, Image: tag, Offset: off}
			if off+uint64(len(data)) == uint64(len(s.image)) {
				h.Flags = schemas.ChunkFlagLast
			}
			s.send(schemas.KindChunk, append(h.AppendTo(nil), data...))
		}
	}
}

func (s *fakeService) count(k schemas.Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[k]
}

// run runs a module against s until it reports an end.
func (s *fakeService) run(cfg ModuleConfig) (*Module, schemas.Status) {
	s.t.Helper()
	cfg.Broker, cfg.Device = s.listener.Addr().String(), "pump-7"
	m := NewModule(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var last schemas.Status
	select {
	case last = <-s.final:
	case err := <-ended:
		s.t.Errorf("the module ended: %v", err)
	case <-time.After(20 * time.Second):
		s.t.Error("the module reported no end")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			s.t.Errorf("Run: %v", err)
		}
	case <-time.After(20 * time.Second):
		s.t.Error("Run does not end")
	}
	return m, last
}

func TestModuleInstallsWhatItIsOffered(t *testing.T) {
	image := randomBytes(1, 50_001)
	s := startService(t, image, nil)
	var states []schemas.State
	m, last := s.run(ModuleConfig{OnStatus: func(st schemas.Status) { states = append(states, st.State) }})
	if last.State != schemas.StateSucceeded || last.HostVersion != "2.0.0" || !bytes.Equal(m.Image(), image) {
		t.Errorf("%+v, and the image agrees: %v", last, bytes.Equal(m.Image(), image))
	}
	if v := m.Versions()[DefaultVersionProperty]; v != "2.0.0" {
		t.Errorf("version %q", v)
	}
	if !slices.IsSortedFunc(states, func(a, b schemas.State) int { return a.Rank() - b.Rank() }) {
		t.Errorf("the states went back: %v", states)
	}
	if n := s.count(schemas.KindPresence); n < 1 || s.count(schemas.KindHello) != 1 {
		t.Errorf("%d presences, %d hellos", n, s.count(schemas.KindHello))
	}
}

// TestModuleAsksAgain: lost fetches and lost status reports are repeated.
func TestModuleAsksAgain(t *testing.T) {
	seen := map[string]bool{}
	s := startService(t, randomBytes(1, 20_000), func(s *fakeService) {
		s.damage = func(p *packets.Publish) bool {
			again := seen[string(p.Payload)]
			seen[string(p.Payload)] = true
			topic, err := schemas.ParseTopic(p.Topic)
			if err == nil && topic.Kind == schemas.KindFetch { // every other one: the tag makes each different
				return s.count(schemas.KindFetch)%2 == 0
			}
			return again || err != nil || topic.Kind != schemas.KindStatus
		}
	})
	if _, last := s.run(ModuleConfig{Repeat: 20 * time.Millisecond}); last.State != schemas.StateSucceeded {
		t.Errorf("%+v", last)
	}
}

func TestModuleRefusesAndFails(t *testing.T) {
	t.Run("refuses", func(t *testing.T) {
		s := startService(t, randomBytes(1, 1000), nil)
		if _, last := s.run(ModuleConfig{Refuse: schemas.CauseSize}); last.State != schemas.StateRejected || last.Cause != schemas.CauseSize {
			t.Errorf("%+v", last)
		}
	})
	t.Run("other image", func(t *testing.T) {
		s := startService(t, randomBytes(1, 1000), func(s *fakeService) { s.image[500] ^= 1 })
		m, last := s.run(ModuleConfig{})
		if last.State != schemas.StateFailed || last.Cause != schemas.CauseChecksum || m.Image() != nil {
			t.Errorf("%+v", last)
		}
	})
}

// TestModuleKeepsAndPutsOff: what was only to be downloaded is not fetched again
// when it is to be installed, and what may be put off is, as the product says.
func TestModuleKeepsAndPutsOff(t *testing.T) {
	image := randomBytes(1, 20_000)
	s := startService(t, image, func(s *fakeService) {
		s.offer.Action = schemas.ActionDownload
		for i, a := range []schemas.Action{schemas.ActionSoft, schemas.ActionConfirm, schemas.ActionInstall} {
			o := s.offer
			o.Attempt, o.Action = i+2, a
			s.next = append(s.next, o)
		}
	})
	var said []string
	fetches := 0
	m, last := s.run(ModuleConfig{
		Window: 16,
		Defer:  func(o schemas.Offer) time.Duration { return time.Duration(o.Attempt) * time.Minute },
		OnStatus: func(st schemas.Status) {
			if st.State == schemas.StateDownloaded && fetches == 0 {
				fetches = s.count(schemas.KindFetch)
			}
			if st.State != schemas.StateDownloading {
				said = append(said, fmt.Sprintf("%d %s %s %d", st.Attempt, st.State, st.Cause, st.DeferS))
			}
		},
	})
	want := []string{
		"1 accepted  0", "1 downloaded  0", "2 rejected deferred 120", "3 rejected deferred 180",
		"4 accepted  0", "4 downloaded  0", "4 installing  0", "4 booting  0", "4 succeeded  0",
	}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	if last.State != schemas.StateSucceeded || !bytes.Equal(m.Image(), image) || fetches == 0 || s.count(schemas.KindFetch) != fetches {
		t.Errorf("%+v after %d fetches, %d for the download", last, s.count(schemas.KindFetch), fetches)
	}
}

// TestModuleSpoils: what Spoil makes of a payload is what arrives.
func TestModuleSpoils(t *testing.T) {
	var hello []byte
	s := startService(t, randomBytes(1, 1000), func(s *fakeService) {
		s.damage = func(p *packets.Publish) bool {
			if topic, _ := schemas.ParseTopic(p.Topic); topic.Kind == schemas.KindHello {
				hello = p.Payload
				return false
			}
			return true
		}
	})
	s.run(ModuleConfig{Spoil: func(k schemas.Kind, b []byte) []byte {
		if k == schemas.KindHello {
			return []byte("{}{")
		}
		return b
	}})
	if string(hello) != "{}{" {
		t.Errorf("hello was %q", hello)
	}
	if err := NewModule(ModuleConfig{}).Publish(context.Background(), schemas.Topic{Device: "x", Kind: schemas.KindHello}, nil); err == nil {
		t.Error("a module that is not connected published something")
	}
}

func TestModuleSaysWhyItCannotConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, conn, 1)
			_ = conn.Close()
		}
	}()
	if err := NewModule(ModuleConfig{Broker: l.Addr().String(), Device: "x"}).Run(context.Background()); err == nil {
		t.Error("a broker that hangs up was taken for one")
	}
	_ = l.Close()
	if err := NewModule(ModuleConfig{Broker: l.Addr().String(), Device: "x"}).Run(context.Background()); err == nil {
		t.Error("no broker at all was taken for one")
	}
}
