package mqtt

import (
	"bytes"
	"davit/internal/mosquittotest"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

func bothVersions(t *testing.T, f func(t *testing.T, v Version)) {
	for _, v := range []Version{V311, V5} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

func TestMessagesThroughMosquitto(t *testing.T) {
	addr := mosquittotest.Run(t, "max_queued_messages 0").Addr()
	bothVersions(t, func(t *testing.T, v Version) {
		a := dial(t, Options{Addr: addr, Version: v, ClientID: "a" + v.String(), KeepAlive: time.Minute})
		b := dial(t, Options{Addr: addr, Version: v, ClientID: "b" + v.String(), KeepAlive: time.Minute})
		a.subscribe("not/any/more", 0)
		if err := a.conn.Unsubscribe("not/any/more"); err != nil {
			t.Fatal(err)
		}
		a.subscribe("to/a/#", 1)
		b.publish(Message{Topic: []byte("not/any/more")})
		for i, size := range []int{0, 1, 100, 127, 128, readSize - 1, readSize, 3*readSize + 17} {
			m := Message{Topic: fmt.Appendf(nil, "to/a/%d", i), Payload: bytes.Repeat([]byte{byte(i)}, size), QoS: byte(i % 2)}
			id := b.publish(m)
			got := receive(t, a.messages, "message")
			if !bytes.Equal(got.Topic, m.Topic) || !bytes.Equal(got.Payload, m.Payload) || got.QoS != m.QoS || got.Retain {
				t.Errorf("message %d: got %s, %d bytes, QoS %d", i, got.Topic, len(got.Payload), got.QoS)
			}
			if m.QoS == 1 {
				if acked := receive(t, b.pubacks, "PUBACK"); acked != id {
					t.Errorf("message %d: PUBACK of %d, want %d", i, acked, id)
				}
			}
		}
	})
}

func TestRetainedAndWill(t *testing.T) {
	addr := mosquittotest.Run(t, "max_queued_messages 0").Addr()
	bothVersions(t, func(t *testing.T, v Version) {
		topic := []byte("presence/" + v.String())
		will := &Message{Topic: topic, Payload: []byte("offline"), QoS: 1, Retain: true}
		a := dial(t, Options{Addr: addr, Version: v, ClientID: "dies", Will: will})
		a.publish(Message{Topic: topic, Payload: []byte("online"), QoS: 1, Retain: true})
		receive(t, a.pubacks, "PUBACK")

		b := dial(t, Options{Addr: addr, Version: v, ClientID: "looks"})
		b.subscribe(string(topic), 1)
		if m := receive(t, b.messages, "retained message"); string(m.Payload) != "online" || !m.Retain {
			t.Errorf("got %q, retain %v", m.Payload, m.Retain)
		}
		if err := a.conn.Close(); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, b.messages, "will"); string(m.Payload) != "offline" || m.Retain {
			t.Errorf("got %q, retain %v", m.Payload, m.Retain)
		}
		if err := receive(t, a.ended, "end"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve returned %v after Close", err)
		}

		c := dial(t, Options{Addr: addr, Version: v, ClientID: "leaves", Will: will})
		if err := c.conn.Disconnect(); err != nil {
			t.Fatal(err)
		}
		receive(t, c.ended, "end")
		b.publish(Message{Topic: topic, Payload: []byte("mark"), QoS: 1})
		if m := receive(t, b.messages, "mark"); string(m.Payload) != "mark" {
			t.Errorf("after a DISCONNECT %q was published", m.Payload)
		}
	})
}

// TestFlood has one connection write far more than the socket takes at once, both ways.
func TestFlood(t *testing.T) {
	addr := mosquittotest.Run(t, "max_queued_messages 0").Addr()
	bothVersions(t, func(t *testing.T, v Version) {
		a := dial(t, Options{Addr: addr, Version: v, ClientID: "a" + v.String()})
		b := dial(t, Options{Addr: addr, Version: v, ClientID: "b" + v.String()})
		a.subscribe("flood", 0)
		const messages, size = 2000, 4096
		go func() {
			payload := make([]byte, size)
			for i := range messages {
				payload[0], payload[1] = byte(i>>8), byte(i)
				if i%2 == 0 { // both ways of sending keep their order
					if err := b.conn.Send(AppendPublish(nil, v, &Message{Topic: []byte("flood"), Payload: payload})); err != nil {
						t.Error(err)
					}
				} else {
					b.publish(Message{Topic: []byte("flood"), Payload: payload})
				}
			}
		}()
		for i := range messages {
			m := receive(t, a.messages, "message")
			if n := int(m.Payload[0])<<8 | int(m.Payload[1]); n != i || len(m.Payload) != size {
				t.Fatalf("message %d is number %d with %d bytes", i, n, len(m.Payload))
			}
		}
	})
}

func TestKeepAlive(t *testing.T) {
	addr := mosquittotest.Run(t, "max_queued_messages 0").Addr()
	bothVersions(t, func(t *testing.T, v Version) {
		a := dial(t, Options{Addr: addr, Version: v, ClientID: "a", KeepAlive: time.Minute})
		now := time.Now()
		next, err := a.conn.KeepAlive(now)
		if err != nil || next.Sub(now) > 45*time.Second || next.Sub(now) < 40*time.Second {
			t.Fatalf("next call after %v, %v", next.Sub(now), err)
		}
		// The answer to the PINGREQ is read before that to the SUBSCRIBE.
		if next, err = a.conn.KeepAlive(next); err != nil {
			t.Fatal(err)
		}
		a.subscribe("x", 0)
		if _, err := a.conn.KeepAlive(next.Add(time.Hour)); err != nil {
			t.Errorf("the PINGRESP was not noticed: %v", err)
		}
	})
}

func TestSilentBroker(t *testing.T) {
	l := fakeBroker(t, func(c io.Reader) {
		_, _ = io.Copy(io.Discard, c)
	}, []byte{0x20, 2, 0, 0})
	a := dial(t, Options{Addr: l, Version: V311, ClientID: "a", KeepAlive: time.Minute})
	now := time.Now().Add(50 * time.Second)
	if _, err := a.conn.KeepAlive(now); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conn.KeepAlive(now.Add(59 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conn.KeepAlive(now.Add(61 * time.Second)); !errors.Is(err, ErrSilent) {
		t.Fatalf("got %v", err)
	}
	if err := receive(t, a.ended, "end"); !errors.Is(err, ErrSilent) {
		t.Errorf("Serve returned %v", err)
	}
}

// fakeBroker answers each CONNECT with answer and goes on with f.
func fakeBroker(t *testing.T, f func(io.Reader), answer []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := c.Read(make([]byte, 1000)); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
				if f != nil {
					f(c)
				}
			}()
		}
	}()
	return l.Addr().String()
}
