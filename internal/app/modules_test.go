package app

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// lightModule is the least that an MQTT 5 module does: it connects, says presence and
// hello, subscribes to what the service says to it, and acknowledges. It writes its
// packets byte by byte, so that twenty thousand of them fit beside the service.
type lightModule struct {
	id, password string
	fleet        *modules

	mu   sync.Mutex
	conn net.Conn
}

// modules are many of them, and what happened to them.
type modules struct {
	all  []*lightModule
	at   atomic.Pointer[place]
	stop chan struct{}
	// dialing bounds how many are between the socket and what they say first.
	dialing chan struct{}
	runs    sync.WaitGroup

	reasons                                       [5]error
	greeted, offers, connects, busy, failed, lost atomic.Int64
}

// place is where the service is; open is closed once it is there.
type place struct {
	addr string
	open chan struct{}
}

// Times of a module.
const (
	moduleTimeout = 10 * time.Second // for an answer
	moduleRetry   = time.Second      // before another attempt, halved to doubled by chance
)

// Reason codes and packet types of MQTT 5.
const (
	mqttConnack, mqttPublish, mqttPuback, mqttSuback = 2, 3, 4, 9
	mqttServerBusy                                   = 0x89
)

// run connects and comes back whenever the connection is lost, until the fleet
// stops.
func (m *lightModule) run() {
	for {
		at := m.fleet.at.Load()
		select {
		case <-at.open:
		case <-m.fleet.stop:
			return
		}
		wait, err := m.session(at.addr)
		if m.fleet.at.Load() != at {
			continue
		}
		if err != nil {
			m.fleet.fail(err)
		}
		if wait == 0 {
			wait = moduleRetry/2 + rand.N(3*moduleRetry/2)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-m.fleet.stop:
			t.Stop()
			return
		}
	}
}

// fail counts an attempt that failed and keeps a few of the reasons.
func (f *modules) fail(err error) {
	if n := f.failed.Add(1); n <= 5 {
		f.reasons[n-1] = err
	}
}

// session is one connection. It returns how long the broker asks the module to stay
// away, if it did, and an error if the module was not served.
func (m *lightModule) session(addr string) (wait time.Duration, err error) {
	m.fleet.dialing <- struct{}{} // each module has a processor of its own; here they share one
	c, err := net.DialTimeout("tcp", addr, moduleTimeout)
	if err == nil {
		_, err = c.Write(m.greeting())
	}
	<-m.fleet.dialing
	if err != nil {
		return 0, fmt.Errorf("dial: %w", err)
	}
	m.mu.Lock()
	m.conn = c
	m.mu.Unlock()
	defer func() { _ = c.Close() }()
	m.fleet.connects.Add(1)
	_ = c.SetDeadline(time.Now().Add(moduleTimeout))
	r := bufio.NewReaderSize(c, 256)
	kind, body, err := readMQTT(r)
	switch {
	case err != nil:
		return 0, fmt.Errorf("CONNACK: %w", err)
	case kind>>4 != mqttConnack || len(body) < 2:
		return 0, errors.New("the first packet is no CONNACK")
	case body[1] == mqttServerBusy:
		m.fleet.busy.Add(1)
		return retryAfter(body), nil
	case body[1] != 0:
		return 0, fmt.Errorf("CONNACK %#x", body[1])
	}
	_ = c.SetDeadline(time.Now().Add(moduleTimeout))
	return 0, m.listen(c, r)
}

// listen takes what comes. The module is served when its subscriptions, its presence and
// its hello are acknowledged.
func (m *lightModule) listen(c net.Conn, r *bufio.Reader) error {
	missing := 3
	for {
		kind, body, err := readMQTT(r)
		if err != nil {
			if missing == 0 {
				m.fleet.greeted.Add(-1)
				m.fleet.lost.Add(1)
				return nil
			}
			return fmt.Errorf("acknowledgements: %w", err)
		}
		switch kind >> 4 {
		case mqttPuback, mqttSuback:
			if missing--; missing == 0 {
				_ = c.SetDeadline(time.Time{})
				m.fleet.greeted.Add(1)
			}
		case mqttPublish:
			topic := int(binary.BigEndian.Uint16(body))
			if kind&6 != 0 {
				if _, err := c.Write([]byte{mqttPuback << 4, 2, body[2+topic], body[3+topic]}); err != nil {
					continue // the next read says so
				}
			}
			if t, err := schemas.ParseTopic(string(body[2 : 2+topic])); err == nil && t.Kind == schemas.KindOffer {
				m.fleet.offers.Add(1)
			}
		}
	}
}

// greeting is CONNECT with the presence as will, SUBSCRIBE, presence and hello, as
// the contract has them.
func (m *lightModule) greeting() []byte {
	const keepAlive = 600
	body := append(mqttString(nil, "MQTT"), 5, 0b11101110, keepAlive>>8, keepAlive&0xff, 0)
	body = append(mqttString(body, m.id), 0) // no will properties
	body = mqttString(body, m.topic(schemas.KindPresence))
	body = mqttString(body, `{"v":1,"online":false}`)
	body = mqttString(mqttString(body, m.id), m.password)
	p := mqttPacket(nil, 0x10, body)
	body = []byte{0, 1, 0}
	for _, k := range []schemas.Kind{schemas.KindOffer, schemas.KindChunk, schemas.KindAck} {
		body = append(mqttString(body, m.topic(k)), k.QoS())
	}
	p = mqttPacket(p, 0x82, body)
	body = append(mqttString(nil, m.topic(schemas.KindPresence)), 0, 2, 0)
	p = mqttPacket(p, 0x33, append(body, `{"v":1,"online":true}`...))
	return m.hello(p)
}

// hello appends one.
func (m *lightModule) hello(p []byte) []byte {
	body := append(mqttString(nil, m.topic(schemas.KindHello)), 0, 3, 0)
	return mqttPacket(p, 0x32, append(body, `{"v":1,"device_type":"board","module":"storm 1.0","dialect":"ayla","host_versions":{"`+orchestrator.DefaultVersionProperty+`":"1.0.0"},"max_chunk":4096}`...))
}

func (m *lightModule) topic(k schemas.Kind) string {
	return schemas.Topic{Device: m.id, Kind: k}.String()
}

func mqttString(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(p, uint16(len(s))), s...)
}

func mqttPacket(p []byte, first byte, body []byte) []byte {
	return append(binary.AppendUvarint(append(p, first), uint64(len(body))), body...)
}

// readMQTT reads one packet.
func readMQTT(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r) // the same encoding as MQTT's
	if err != nil {
		return 0, nil, err
	}
	if n > 1<<20 {
		return 0, nil, fmt.Errorf("packet of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// retryAfter finds the advice when to come back in the body of a CONNACK.
func retryAfter(body []byte) time.Duration {
	const key = schemas.RetryAfterProperty
	for i := 0; i+len(key)+2 < len(body); i++ {
		if string(body[i:i+len(key)]) == key {
			var ms int
			_, _ = fmt.Sscan(string(body[i+len(key)+2:]), &ms) // stays 0 if it is no number
			return time.Duration(ms) * time.Millisecond
		}
	}
	return 0
}
