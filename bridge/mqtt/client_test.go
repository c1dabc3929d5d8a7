package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// aLogin is a Login whose password stays the same.
type aLogin struct{ renewed chan struct{} }

func (aLogin) Password() string           { return "planted-secret-login" }
func (aLogin) Accepted() error            { return nil }
func (aLogin) Refused()                   {}
func (l aLogin) Renewed() <-chan struct{} { return l.renewed }

// A message that the broker has not acknowledged when the connection ends does not hold up
// what is to be said on the next one.
func TestPublishEndsWithItsConnection(t *testing.T) {
	for _, by := range []string{"the broker ends it", "another password"} {
		t.Run(by, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			login := aLogin{make(chan struct{}, 1)}
			published := func(c net.Conn) { _ = c.Close() }
			if by != "the broker ends it" {
				published = func(net.Conn) { login.renewed <- struct{}{} }
			}
			silent := make(chan struct{})
			go func() { defer close(silent); acceptSilently(listener, published) }()
			made, err := New(Config{URL: "mqtt://" + listener.Addr().String(), ClientID: "rack", Username: "rack", Login: login}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			up, over := make(chan struct{}, 8), make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			go func() {
				over <- made.Run(ctx, Client{
					Will: func() Message { return Message{} }, Subscriptions: func() []Subscription { return nil },
					Connected: func() { up <- struct{}{} }, Disconnected: func() {}, Received: func(string, []byte) {},
				})
			}()
			<-up
			if err := made.Publish(t.Context(), Message{Topic: "a", QoS: 1}); !errors.Is(err, errConnectionEnded) {
				t.Errorf("it waits for an acknowledgement of the connection before: %v", err)
			}
			stop()
			if err := <-over; err != nil {
				t.Error(err)
			}
			_ = listener.Close()
			<-silent
		})
	}
}

// acceptSilently lets everybody in and acknowledges nothing. published is called with the
// connection of the first PUBLISH. It returns when the listener is closed and every client
// has left.
func acceptSilently(listener net.Listener, published func(net.Conn)) {
	var last chan struct{}
	for {
		c, err := listener.Accept()
		if last != nil {
			<-last
		}
		if err != nil {
			return
		}
		last = make(chan struct{})
		go func() {
			defer close(last)
			defer c.Close()
			for {
				p, err := packets.ReadPacket(c)
				if err != nil {
					return
				}
				switch p.Type {
				case packets.CONNECT:
					_, _ = packets.NewControlPacket(packets.CONNACK).WriteTo(c)
				case packets.PUBLISH:
					published(c)
				}
			}
		}()
	}
}
