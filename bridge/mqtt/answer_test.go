package mqtt

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"davit/internal/logtest"
	"davit/schemas"
)

// connack is a CONNACK of MQTT 5 with user properties, given by name and value.
func connack(code byte, properties ...string) []byte {
	ack := &packets.Connack{ReasonCode: code, Properties: &packets.Properties{ReasonString: "it says why"}}
	for i := 0; i < len(properties); i += 2 {
		ack.Properties.User = append(ack.Properties.User, packets.User{Key: properties[i], Value: properties[i+1]})
	}
	var b bytes.Buffer
	_, _ = ack.WriteTo(&b) // to memory it does not fail
	return b.Bytes()
}

// busy is the answer of a service that is, with its advice.
func busy(advice string) []byte {
	return connack(packets.ConnackServerBusy, schemas.RetryAfterProperty, advice)
}

func TestAdvice(t *testing.T) {
	const name = schemas.RetryAfterProperty
	for _, tt := range []struct {
		what   string
		answer []byte
		want   time.Duration
	}{
		{"busy", busy("1500"), 1500 * time.Millisecond},
		{"not ready", connack(packets.ConnackServerUnavailable, name, "700"), 700 * time.Millisecond},
		{"connects too often", connack(packets.ConnackConnectionRateExceeded, name, "30000"), 30 * time.Second},
		{"behind other properties", connack(packets.ConnackServerBusy, "x", "1", name, "5", name, "6"), 5 * time.Millisecond},
		{"what came behind it is not looked at", append(busy("1500"), 0xff), 1500 * time.Millisecond},
		{"a day", busy("86400000"), schemas.MaxRetryAfter},
		{"nothing", busy(""), 0},
		{"no time", busy("0"), 0},
		{"a negative number", busy("-1500"), 0},
		{"words", busy("soon"), 0},
		{"absent", connack(packets.ConnackServerBusy), 0},
		{"another property", connack(packets.ConnackServerBusy, "retry_after", "1500"), 0},
		{"let in", connack(packets.ConnackSuccess, name, "1500"), 0},
		{"a wrong password", connack(packets.ConnackBadUsernameOrPassword, name, "1500"), 0},
		{"banned", connack(packets.ConnackBanned, name, "1500"), 0},
		{"MQTT 3.1.1, server unavailable", []byte{0x20, 2, 0, 3}, 0},
		{"no answer", nil, 0},
		{"cut off", busy("1500")[:12], 0},
		{"another packet", []byte{0xd0, 0}, 0},
		{"no length", []byte{0x20}, 0},
		{"an endless length", []byte{0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0},
		{"more than comes", []byte{0x20, 0xff, 0xff, 0xff, 0x7f, 0, 0x89}, 0},
		{"no MQTT", []byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n"), 0},
	} {
		if _, got := advice(tt.answer); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

// What is kept of a connection is bounded and ends with the attempt.
func TestHeardIsBounded(t *testing.T) {
	h := &heard{}
	for range 100 {
		h.note(make([]byte, 100))
	}
	if n := len(h.take()); n != heardMost {
		t.Errorf("%d bytes are kept", n)
	}
	if h.note([]byte("more")); len(h.take()) != 0 {
		t.Error("it goes on after the attempt")
	}
}

// An answer that asks to wait is no failure: the waits after failures go on where they were.
func TestAskedToWaitIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reconnects
		within := func(what string, got, most time.Duration) {
			t.Helper()
			if got < most/2 || got > most {
				t.Errorf("%s: waits %v, not %v to %v", what, got, most/2, most)
			}
			time.Sleep(got)
		}
		exactly := func(what string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s: waits %v, not %v", what, got, want)
			}
			time.Sleep(got)
		}
		exactly("at the start", r.wait(0), 0)
		within("after a failure", r.wait(1), firstReconnect)
		for attempt := 2; attempt < 12; attempt++ {
			r.told(9 * time.Second)
			exactly("told", r.wait(attempt), 9*time.Second)
		}
		within("after another failure", r.wait(12), 2*firstReconnect)
		r.told(time.Millisecond)
		within("told to come back at once", r.wait(13), firstReconnect)
		r.told(5 * time.Second)
		time.Sleep(time.Second)
		exactly("a new password meanwhile", r.wait(0), 4*time.Second)
		exactly("once that time is over", r.wait(0), 0)
		within("a failure after all", r.wait(1), firstReconnect)
	})
}

// script is a broker that gives each attempt to connect the next answer; nil is none, as it
// cannot be reached.
type script struct {
	answers  [][]byte
	attempts []time.Time
}

func (s *script) reach(context.Context, *url.URL, *tls.Config) (net.Conn, error) {
	answer := s.answers[len(s.attempts)]
	s.attempts = append(s.attempts, time.Now())
	if answer == nil {
		return nil, errors.New("nobody is there")
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		if _, err := packets.ReadPacket(there); err != nil {
			return // the client is gone, and the test says so
		}
		_, _ = there.Write(answer)
		for err := error(nil); err == nil; { // until the client hangs up
			_, err = packets.ReadPacket(there)
		}
	}()
	return here, nil
}

// A client that is told to wait comes back at that moment, however often it is told, and a
// broker that talks nonsense, or means to silence it, cannot.
func TestComesBackWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: [][]byte{nil, busy("7000"), busy("86400000"), busy("never"), busy("2500"), connack(0)}}
		var log logtest.Buffer
		made, err := New(Config{URL: "mqtt://broker.example", ClientID: "rack"}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		made.(*client).reach = s.reach
		up, over := make(chan time.Time, 1), make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { over <- made.Run(ctx, silentClient(func() { up <- time.Now() })) }()
		connected := <-up
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		for i, want := range []struct{ least, most time.Duration }{
			{firstReconnect / 2, firstReconnect},
			{7 * time.Second, 7 * time.Second},
			{schemas.MaxRetryAfter, schemas.MaxRetryAfter},
			{firstReconnect, 2 * firstReconnect}, // the second failure
			{2500 * time.Millisecond, 2500 * time.Millisecond},
		} {
			if waited := s.attempts[i+1].Sub(s.attempts[i]); waited < want.least || waited > want.most {
				t.Errorf("after answer %d it waits %v, not %v to %v", i, waited, want.least, want.most)
			}
		}
		if last := s.attempts[len(s.attempts)-1]; len(s.attempts) != len(s.answers) || !connected.Equal(last) {
			t.Errorf("%d attempts; connected %v after the last", len(s.attempts), connected.Sub(last))
		}
		for _, wait := range []string{"7s", "1m0s", "2.5s"} {
			if n := len(log.Lines("level=INFO", "the service is busy and asks to come back later", "retry_after="+wait)); n != 1 {
				t.Errorf("%d lines tell to wait for %s:\n%s", n, wait, log.String())
			}
		}
		if n := len(log.Lines("level=WARN")); n != 2 {
			t.Errorf("%d warnings, not one of each failure:\n%s", n, log.String())
		}
	})
}

// silentClient has nothing to say and says when it is connected.
func silentClient(connected func()) Client {
	return Client{
		Will: func() Message { return Message{} }, Subscriptions: func() []Subscription { return nil },
		Connected: connected, Disconnected: func() {}, Received: func(string, []byte) {},
	}
}
