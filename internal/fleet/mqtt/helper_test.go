package mqtt

import (
	"testing"
	"time"
)

const patience = 20 * time.Second

// client is a connection under test and what it was told.
type client struct {
	t        *testing.T
	conn     *Conn
	messages chan Message
	pubacks  chan uint16
	subacks  chan []byte
	ended    chan error
}

func (c *client) Message(m *Message) error {
	kept := *m
	kept.Topic, kept.Payload = append([]byte(nil), m.Topic...), append([]byte(nil), m.Payload...)
	c.messages <- kept
	return nil
}
func (c *client) Puback(id uint16, _ byte)      { c.pubacks <- id }
func (c *client) Suback(_ uint16, codes []byte) { c.subacks <- append([]byte(nil), codes...) }

func dial(t *testing.T, o Options) *client {
	t.Helper()
	conn, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, conn)
}

func serve(t *testing.T, conn *Conn) *client {
	c := &client{t: t, conn: conn, messages: make(chan Message, 10_000), pubacks: make(chan uint16, 10_000), subacks: make(chan []byte, 10), ended: make(chan error, 1)}
	go func() { c.ended <- conn.Serve(c) }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-conn.Done()
	})
	return c
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("unreachable")
	}
}

func (c *client) subscribe(filter string, qos byte) {
	c.t.Helper()
	if _, err := c.conn.Subscribe(Subscription{filter, qos}); err != nil {
		c.t.Fatal(err)
	}
	if codes := receive(c.t, c.subacks, "SUBACK"); len(codes) != 1 || codes[0] != qos {
		c.t.Fatalf("SUBACK says %v, want [%d]", codes, qos)
	}
}

func (c *client) publish(m Message) uint16 {
	c.t.Helper()
	id, err := c.conn.Publish(&m)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}
