package gateway_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"davit/gateway"
	"davit/schemas"
)

// deafBroker takes connections and subscriptions and never acknowledges a
// publish.
type deafBroker struct {
	ln        net.Listener
	published chan *packets.Publish
	tasks     sync.WaitGroup
	mu        sync.Mutex
	conns     []net.Conn
}

func newDeafBroker(t *testing.T) *deafBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &deafBroker{ln: ln, published: make(chan *packets.Publish, 10_000)}
	b.tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, c)
			b.mu.Unlock()
			b.tasks.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); b.hangUp(); b.tasks.Wait() })
	return b
}

func (b *deafBroker) serve(c net.Conn) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.Content.(type) {
		case *packets.Connect:
			_, err = (&packets.Connack{Properties: &packets.Properties{}}).WriteTo(c)
		case *packets.Subscribe:
			_, err = (&packets.Suback{PacketID: p.PacketID, Properties: &packets.Properties{}, Reasons: make([]byte, len(p.Subscriptions))}).WriteTo(c)
		case *packets.Pingreq:
			_, err = packets.NewControlPacket(packets.PINGRESP).WriteTo(c)
		case *packets.Publish:
			b.published <- p
		}
		if err != nil {
			return
		}
	}
}

// hangUp ends all connections.
func (b *deafBroker) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

// TestPublishDoesNotOutliveItsConnection: a publish that waits for its PUBACK
// ends with the caller's context, and at once when the connection is lost; the
// next connection does not repeat it.
func TestPublishDoesNotOutliveItsConnection(t *testing.T) {
	b := newDeafBroker(t)
	s := startSessions(t, gateway.SessionsOptions{Broker: "mqtt://" + b.ln.Addr().String(), Devices: newFakeDevices()})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Offer(ctx, "a", offer()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without PUBACK: %v", err)
	}
	<-b.published
	ack := schemas.Ack{V: 1, Execution: "ex-1", Attempt: 1, Seq: 1, State: schemas.StateDownloading}
	failed := make(chan error, 1)
	go func() { failed <- s.Ack(t.Context(), "a", ack) }()
	<-b.published
	b.hangUp()
	select {
	case err := <-failed:
		if !errors.Is(err, gateway.ErrDisconnected) {
			t.Errorf("after the connection was lost: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the publish still waits for a PUBACK that cannot come")
	}
	eventually(t, func() bool { return s.Health(t.Context()) == nil })
	// On the same link, whose loss has been noticed; the others may not know yet that theirs is gone.
	marked, stop := context.WithCancel(t.Context())
	defer stop()
	marker := ack
	marker.Seq = 2
	go func() { failed <- s.Ack(marked, "a", marker) }()
	select {
	case p := <-b.published:
		if !strings.Contains(string(p.Payload), `"seq":2`) {
			t.Errorf("the new connection began with %s %q, want only what was published on it", p.Topic, p.Payload)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing is published on the new connection")
	}
	stop()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("after its caller has given up: %v", err)
	}
}

// TestOutstandingPublishesAreCapped: however many callers there are, a broker
// that does not answer holds a bounded number of publishes.
func TestOutstandingPublishesAreCapped(t *testing.T) {
	const most = 512
	b := newDeafBroker(t)
	s := startSessions(t, gateway.SessionsOptions{Broker: "mqtt://" + b.ln.Addr().String(), Devices: newFakeDevices()})
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 2 * most {
		callers.Go(func() {
			if err := s.Withdraw(ctx, "a"); err == nil {
				t.Error("a publish succeeded without PUBACK")
			}
		})
	}
	eventually(t, func() bool { return len(b.published) == most })
	late, cancelLate := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelLate()
	if err := s.Withdraw(late, "b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one publish too many: %v", err)
	}
	if n := len(b.published); n != most {
		t.Errorf("%d publishes were outstanding, want at most %d", n, most)
	}
	cancel()
	callers.Wait()
}
