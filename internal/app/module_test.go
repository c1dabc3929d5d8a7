package app

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"davit/schemas"
)

// module is a foreign MQTT client: a module, a bridge or an onlooker.
type module struct {
	t    *testing.T
	mqtt *paho.Client
	conn net.Conn
	got  chan *paho.Publish
}

// dialModule connects; will names the device whose presence is the will, if any.
func dialModule(t *testing.T, addr, username, password, will string) *module {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &module{t: t, conn: conn, got: make(chan *paho.Publish, 1000)}
	m.mqtt = paho.NewClient(paho.ClientConfig{
		Conn: conn, OnClientError: func(error) {},
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			m.got <- p.Packet
			return true, nil
		}},
	})
	c := &paho.Connect{
		KeepAlive: 30, CleanStart: true, UsernameFlag: true, Username: username, PasswordFlag: true, Password: []byte(password),
	}
	if will != "" {
		c.ClientID = username // so that the next one takes over
		c.WillMessage = &paho.WillMessage{Retain: true, QoS: 1, Topic: topicOf(will, schemas.KindPresence), Payload: []byte(saysOffline)}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := m.mqtt.Connect(ctx, c); err != nil {
		t.Fatalf("connect as %s: %v", username, err)
	}
	t.Cleanup(m.kill)
	return m
}

// onlooker sees what the broker sees: it connects as the service does.
func onlooker(t *testing.T, s *Server, filters ...string) *module {
	t.Helper()
	m := dialModule(t, s.Addresses().MQTT, s.bus.username, s.bus.password, "")
	m.subscribe(filters...)
	return m
}

func topicOf(device string, k schemas.Kind) string {
	return schemas.Topic{Device: device, Kind: k}.String()
}

// kill cuts the connection without a word.
func (m *module) kill() {
	_ = m.conn.Close() // it may be closed already
	<-m.mqtt.Done()
}

func (m *module) subscribe(filters ...string) {
	m.t.Helper()
	var subs []paho.SubscribeOptions
	for _, f := range filters {
		subs = append(subs, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if _, err := m.mqtt.Subscribe(ctx, &paho.Subscribe{Subscriptions: subs}); err != nil {
		m.t.Fatal(err)
	}
}

// publish sends one message with QoS 1 and returns the reason code of the answer.
func (m *module) publish(topic string, retain bool, payload []byte) byte {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	answer, err := m.mqtt.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Retain: retain, Payload: payload})
	if answer == nil {
		m.t.Fatalf("publish on %s: %v", topic, err)
	}
	return answer.ReasonCode
}

// say sends a payload of the contract for a device.
func (m *module) say(device string, p schemas.Payload) {
	m.t.Helper()
	b, err := schemas.Encode(p)
	if err != nil {
		m.t.Fatal(err)
	}
	if code := m.publish(topicOf(device, p.Kind()), p.Kind().Retained(), b); code >= 0x80 {
		m.t.Fatalf("%s of %s: reason code %#x", p.Kind(), device, code)
	}
}

// hear returns the next message.
func (m *module) hear() *paho.Publish {
	m.t.Helper()
	select {
	case p := <-m.got:
		return p
	case <-time.After(patience):
		m.t.Fatal("nothing was heard")
		return nil
	}
}

// hearChunk returns the next message that is no offer: one is made anew whenever the service
// learns something of the device, which it may have told just before the job began.
func (m *module) hearChunk() *paho.Publish {
	m.t.Helper()
	for {
		if p := m.hear(); !strings.HasSuffix(p.Topic, "/"+string(schemas.KindOffer)) {
			return p
		}
	}
}

// until polls for what another process does in its own time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
