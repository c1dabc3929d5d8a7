package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"davit/schemas"
	"github.com/eclipse/paho.golang/paho"
)

// ModuleConfig describes a simulated module.
type ModuleConfig struct {
	Broker             string // HOST:PORT of an MQTT 5 broker, without TLS
	Device             string // its id; also the MQTT client id
	Username, Password string
	DeviceType         string
	// Versions are what it reports in its hello, by version property.
	Versions map[string]string
	// Chunk is the size of the chunks that it asks for; 0 means what the offer
	// prefers. Window is how many it asks for at a time; 0 means 8.
	Chunk, Window int
	// Repeat is after how long without an answer a status or a fetch is
	// repeated; 0 means 2 s.
	Repeat time.Duration
	// Refuse, if set, is the cause with which every offer is rejected.
	Refuse schemas.Cause
	// Defer, if set, is asked for how long the product puts off what it is offered
	// and may put off, in whole seconds; 0 takes it.
	Defer func(schemas.Offer) time.Duration
	// Spoil, if set, may replace each payload before it is published; nil
	// leaves the message out.
	Spoil func(kind schemas.Kind, payload []byte) []byte
	// OnStatus, if set, is called for each new status, from the goroutine of Run.
	OnStatus func(schemas.Status)
}

// Module is a foreign implementation of the MQTT contract, written from
// schemas alone: a device whose host MCU is a variable. It fetches what it is
// offered, verifies it and reports success, or keeps it until it is to be installed.
type Module struct {
	cfg ModuleConfig

	mu       sync.Mutex // guards what accessors read
	versions map[string]string
	image    []byte // the last image that was installed
	client   *paho.Client

	// The rest belongs to the goroutine of Run.
	update  *moduleUpdate
	pending []schemas.Status // not acknowledged yet, oldest first
	tag     uint16
	kept    map[string][]byte // images to be installed later, by SHA-256
}

// moduleUpdate is the execution that a module works on.
type moduleUpdate struct {
	offer schemas.Offer
	data  []byte
	have  uint64          // bytes from the beginning that are there
	holes []schemas.Range // asked for and not there yet
	seq   uint64
	ended bool
}

// NewModule makes a module.
func NewModule(cfg ModuleConfig) *Module {
	setDefault(&cfg.Window, 8)
	if cfg.Repeat == 0 {
		cfg.Repeat = 2 * time.Second
	}
	versions := maps.Clone(cfg.Versions)
	if versions == nil {
		versions = map[string]string{DefaultVersionProperty: DefaultMCUVersion}
	}
	return &Module{cfg: cfg, versions: versions, kept: map[string][]byte{}}
}

// Versions is what the module's host MCU runs.
func (m *Module) Versions() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.versions)
}

// Image is the image that was installed last, nil for none.
func (m *Module) Image() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.image)
}

// Run connects and serves until ctx ends, which returns nil, or the connection
// does. It can be run again: an update under way continues.
func (m *Module) Run(ctx context.Context) error {
	inbox := make(chan *paho.Publish, 4*schemas.MaxWindow)
	stop := make(chan struct{})
	client, err := m.connect(ctx, inbox, stop)
	if err != nil {
		close(stop)
		return err
	}
	m.setClient(client)
	defer func() {
		m.setClient(nil)
		close(stop)
		_ = client.Disconnect(&paho.Disconnect{})
		<-client.Done()
	}()
	if err := m.introduce(ctx); err != nil {
		return m.orNil(ctx, err)
	}
	repeat := time.NewTicker(m.cfg.Repeat)
	defer repeat.Stop()
	for {
		select {
		case <-ctx.Done():
			// The will is not sent after a proper end, so the module says goodbye itself.
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Repeat)
			_ = m.publish(bye, &schemas.Presence{V: schemas.Version})
			cancel()
			return nil
		case <-client.Done():
			return errors.New("the connection to the broker ended")
		case p := <-inbox:
			err = m.onMessage(ctx, p)
		case <-repeat.C:
			err = m.again(ctx)
		}
		if err != nil {
			return m.orNil(ctx, err)
		}
	}
}

func (m *Module) orNil(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (m *Module) setClient(c *paho.Client) {
	m.mu.Lock()
	m.client = c
	m.mu.Unlock()
}

func (m *Module) topic(k schemas.Kind) string {
	return schemas.Topic{Device: m.cfg.Device, Kind: k}.String()
}

// connect opens the MQTT connection and subscribes.
func (m *Module) connect(ctx context.Context, inbox chan<- *paho.Publish, stop <-chan struct{}) (*paho.Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.cfg.Broker)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	client := paho.NewClient(paho.ClientConfig{
		Conn: conn, PacketTimeout: time.Minute, // a busy machine is no failure of the broker's
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			select {
			case inbox <- p.Packet:
			case <-stop:
			}
			return true, nil
		}},
	})
	will, err := schemas.Encode(&schemas.Presence{V: schemas.Version})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	receiveMaximum := uint16(4 * schemas.MaxWindow)
	ack, err := client.Connect(ctx, &paho.Connect{
		Properties: &paho.ConnectProperties{ReceiveMaximum: &receiveMaximum},
		ClientID:   m.cfg.Device, KeepAlive: 30, CleanStart: true,
		Username: m.cfg.Username, UsernameFlag: m.cfg.Username != "",
		Password: []byte(m.cfg.Password), PasswordFlag: m.cfg.Password != "",
		WillMessage: &paho.WillMessage{Topic: m.topic(schemas.KindPresence), Payload: will, QoS: 1, Retain: true},
	})
	if err != nil {
		if ack != nil {
			err = fmt.Errorf("the broker refused the connection with reason code %#02x: %w", ack.ReasonCode, err)
		}
		return nil, errors.Join(err, conn.Close())
	}
	var topics []paho.SubscribeOptions
	for _, k := range schemas.Kinds() {
		if !k.FromDevice() {
			topics = append(topics, paho.SubscribeOptions{Topic: m.topic(k), QoS: k.QoS()})
		}
	}
	if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: topics}); err != nil {
		_ = client.Disconnect(&paho.Disconnect{})
		<-client.Done()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return client, nil
}

// introduce says that the module is there and what it is.
func (m *Module) introduce(ctx context.Context) error {
	if err := m.publish(ctx, &schemas.Presence{V: schemas.Version, Online: true}); err != nil {
		return err
	}
	return m.hello(ctx)
}

func (m *Module) hello(ctx context.Context) error {
	h := &schemas.Hello{
		V: schemas.Version, DeviceType: m.cfg.DeviceType, Module: "simulated module", Dialect: "none",
		HostVersions: m.Versions(), MaxChunk: m.cfg.Chunk,
	}
	if m.update != nil && !m.update.ended {
		h.Execution, h.Attempt = m.update.offer.Execution, m.update.offer.Attempt
	}
	return m.publish(ctx, h)
}

// publish encodes p and publishes it on the module's topic.
func (m *Module) publish(ctx context.Context, p schemas.Payload) error {
	b, err := schemas.Encode(p)
	if err != nil {
		return err
	}
	if m.cfg.Spoil != nil {
		if b = m.cfg.Spoil(p.Kind(), b); b == nil {
			return nil
		}
	}
	return m.Publish(ctx, schemas.Topic{Device: m.cfg.Device, Kind: p.Kind()}, b)
}

// Publish publishes any bytes on any topic, for tests of what the service
// makes of them. The module must be running.
func (m *Module) Publish(ctx context.Context, t schemas.Topic, payload []byte) error {
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	if client == nil {
		return errors.New("the simulated module is not connected")
	}
	_, err := client.Publish(ctx, &paho.Publish{Topic: t.String(), QoS: t.Kind.QoS(), Retain: t.Kind.Retained(), Payload: payload})
	if err != nil {
		return fmt.Errorf("publish on %s: %w", t, err)
	}
	return nil
}

// onMessage takes one message of the service. What does not follow the contract
// is an error: the service is what is tested here.
func (m *Module) onMessage(ctx context.Context, p *paho.Publish) error {
	t, err := schemas.ParseTopic(p.Topic)
	if err != nil {
		return err
	}
	switch t.Kind {
	case schemas.KindOffer:
		if len(p.Payload) == 0 {
			m.update, m.pending = nil, nil
			return nil
		}
		var o schemas.Offer
		if err := schemas.Decode(p.Payload, &o); err != nil {
			return err
		}
		return m.onOffer(ctx, o)
	case schemas.KindAck:
		var a schemas.Ack
		if err := schemas.Decode(p.Payload, &a); err != nil {
			return err
		}
		m.onAck(a)
	case schemas.KindChunk:
		h, data, err := schemas.ParseChunk(p.Payload)
		if err != nil {
			return err
		}
		return m.onChunk(ctx, h, data)
	case schemas.KindProfile: // says what a host MCU speaks; there is none here
		return schemas.Decode(p.Payload, &schemas.Profile{})
	}
	return nil
}

func (m *Module) onOffer(ctx context.Context, o schemas.Offer) error {
	if u := m.update; u != nil && u.offer.Execution == o.Execution && u.offer.Attempt == o.Attempt {
		return nil // the retained offer once more
	}
	m.pending = nil
	m.update = &moduleUpdate{offer: o, data: make([]byte, o.Size)}
	if m.cfg.Refuse != schemas.CauseNone {
		return m.status(ctx, schemas.Status{State: schemas.StateRejected, Cause: m.cfg.Refuse, Detail: "this simulated module refuses everything"})
	}
	if o.Action.Deferrable() && m.cfg.Defer != nil {
		if d := m.cfg.Defer(o); d > 0 {
			return m.status(ctx, schemas.Status{
				State: schemas.StateRejected, Cause: schemas.CauseDeferred, DeferS: int(d / time.Second), Detail: "this simulated product is busy",
			})
		}
	}
	if err := m.status(ctx, schemas.Status{State: schemas.StateAccepted}); err != nil {
		return err
	}
	if data := m.kept[o.SHA256]; data != nil {
		m.update.data, m.update.have = data, o.Size
		return m.complete(ctx)
	}
	return m.fetch(ctx)
}

// status reports a new state of the update.
func (m *Module) status(ctx context.Context, s schemas.Status) error {
	u := m.update
	u.seq++
	s.V, s.Execution, s.Attempt, s.Seq = schemas.Version, u.offer.Execution, u.offer.Attempt, u.seq
	u.ended = s.State.Final()
	m.pending = append(m.pending, s)
	if m.cfg.OnStatus != nil {
		m.cfg.OnStatus(s)
	}
	return m.publish(ctx, &s)
}

func (m *Module) onAck(a schemas.Ack) {
	m.pending = slices.DeleteFunc(m.pending, func(s schemas.Status) bool {
		return s.Execution == a.Execution && s.Attempt == a.Attempt && (s.Seq == a.Seq || a.Superseded)
	})
	if u := m.update; u != nil && a.Superseded && u.offer.Execution == a.Execution && u.offer.Attempt == a.Attempt {
		u.ended = true
	}
}

// chunkSize is the size that the module asks for.
func (m *Module) chunkSize() int {
	size := m.cfg.Chunk
	if size == 0 {
		size = m.update.offer.Chunk.Preferred
	}
	return min(size, m.update.offer.Chunk.Max)
}

// fetch asks for the next window, or for what is missing of the last one.
func (m *Module) fetch(ctx context.Context) error {
	u := m.update
	size := m.chunkSize()
	if len(u.holes) == 0 {
		n := min(uint64(size*min(m.cfg.Window, schemas.MaxWindow)), u.offer.Size-u.have)
		u.holes = []schemas.Range{{Offset: u.have, Length: n}}
		u.have += n
	}
	m.tag++
	return m.publish(ctx, &schemas.Fetch{V: schemas.Version, Image: u.offer.Image, Tag: m.tag, Chunk: size, Ranges: u.holes})
}

func (m *Module) onChunk(ctx context.Context, h schemas.ChunkHeader, data []byte) error {
	u := m.update
	tag, ok := schemas.ImageTag(0), false
	if u != nil {
		tag, ok = schemas.TagOf(u.offer.SHA256)
	}
	end := h.Offset + uint64(len(data))
	if !ok || u.ended || h.Image != tag || end > u.offer.Size {
		return nil // of another image, or too late
	}
	if last := h.Flags&schemas.ChunkFlagLast != 0; last != (end == u.offer.Size) {
		return fmt.Errorf("a chunk that ends at %d of %d bytes has the last flag: %v", end, u.offer.Size, last)
	}
	before := len(u.holes)
	u.holes = without(u.holes, schemas.Range{Offset: h.Offset, Length: uint64(len(data))})
	copy(u.data[h.Offset:], data)
	if before == 0 || len(u.holes) > 0 {
		return nil
	}
	if u.have < u.offer.Size {
		if err := m.status(ctx, schemas.Status{State: schemas.StateDownloading, BytesDone: u.have}); err != nil {
			return err
		}
		return m.fetch(ctx)
	}
	return m.complete(ctx)
}

// without takes r out of ranges.
func without(ranges []schemas.Range, r schemas.Range) []schemas.Range {
	var rest []schemas.Range
	for _, h := range ranges {
		if from, to := h.Offset, min(h.End(), r.Offset); from < to {
			rest = append(rest, schemas.Range{Offset: from, Length: to - from})
		}
		if from, to := max(h.Offset, r.End()), h.End(); from < to {
			rest = append(rest, schemas.Range{Offset: from, Length: to - from})
		}
	}
	return rest
}

// complete verifies the image and does with it what the offer says.
func (m *Module) complete(ctx context.Context) error {
	u := m.update
	sum := sha256.Sum256(u.data)
	if hex.EncodeToString(sum[:]) != u.offer.SHA256 {
		return m.status(ctx, schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseChecksum, Detail: "the SHA-256 of the image does not agree"})
	}
	if err := m.status(ctx, schemas.Status{State: schemas.StateDownloaded, BytesDone: u.offer.Size}); err != nil {
		return err
	}
	if u.offer.Action == schemas.ActionDownload {
		m.kept[u.offer.SHA256] = u.data
		u.ended = true
		return nil
	}
	delete(m.kept, u.offer.SHA256)
	return m.install(ctx)
}

// install runs the image and says so.
func (m *Module) install(ctx context.Context) error {
	u := m.update
	for _, s := range []schemas.Status{
		{State: schemas.StateInstalling, BytesDone: u.offer.Size},
		{State: schemas.StateBooting, BytesDone: u.offer.Size},
	} {
		if err := m.status(ctx, s); err != nil {
			return err
		}
	}
	property := u.offer.Host.VersionProperty
	if property == "" {
		property = DefaultVersionProperty
	}
	m.mu.Lock()
	m.versions[property], m.image = u.offer.Version, u.data
	m.mu.Unlock()
	return m.status(ctx, schemas.Status{State: schemas.StateSucceeded, BytesDone: u.offer.Size, HostVersion: u.offer.Version})
}

// again repeats what has not been answered.
func (m *Module) again(ctx context.Context) error {
	for i := range m.pending {
		if err := m.publish(ctx, &m.pending[i]); err != nil {
			return err
		}
	}
	if u := m.update; u != nil && !u.ended && len(u.holes) > 0 {
		return m.fetch(ctx)
	}
	return nil
}
