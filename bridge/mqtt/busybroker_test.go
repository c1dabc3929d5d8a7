package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"davit/broker" // the real one, in tests only
	"davit/internal/logevent"
	"davit/internal/secrettest"
)

// sentAway is what the broker has logged of a client that it has asked to come back later.
type sentAway struct {
	at    time.Time
	retry time.Duration
}

// listener hears of each from the broker's log.
type listener struct {
	slog.Handler
	heard func(sentAway)
}

func (l listener) WithAttrs([]slog.Attr) slog.Handler           { return l }
func (l listener) Enabled(_ context.Context, _ slog.Level) bool { return true }

func (l listener) Handle(_ context.Context, r slog.Record) error {
	told := sentAway{at: r.Time}
	is := false
	r.Attrs(func(a slog.Attr) bool {
		is = is || a.Key == logevent.KeyEvent && a.Value.Any() == logevent.BrokerBusy
		if a.Key == logevent.KeyRetryAfter {
			told.retry = a.Value.Duration()
		}
		return true
	})
	if is {
		l.heard(told)
	}
	return nil
}

// The real broker, pressed, sends a client away. It comes back not before it was told to, and is
// let in then. Sockets are real, and so is the time, which takes two seconds.
func TestServedWhenToldToComeBack(t *testing.T) {
	cert, key := pair(t, "broker", nil)
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(cert)
	for scheme, l := range map[string]broker.Listener{
		"mqtt":  {Transport: broker.TCP},
		"mqtts": {Transport: broker.TCP, TLS: &tls.Config{Certificates: []tls.Certificate{own}}},
		"ws":    {Transport: broker.WebSocket},
		"wss":   {Transport: broker.WebSocket, TLS: &tls.Config{Certificates: []tls.Certificate{own}}},
	} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			l.Addr = "127.0.0.1:0"
			told := make(chan sentAway, 100)
			address, password := startPressed(t, l, told)
			made, err := New(Config{
				URL: scheme + "://" + address, ClientID: "pump", Username: "pump", Password: password, TLS: &tls.Config{RootCAs: trust},
			}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			attempts := make(chan time.Time, 100)
			made.(*client).reach = func(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
				attempts <- time.Now()
				return reach(ctx, u, conf)
			}
			up, over := make(chan struct{}, 100), make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			go func() { over <- made.Run(ctx, silentClient(func() { up <- struct{}{} })) }()
			<-up
			stop()
			if err := <-over; err != nil {
				t.Error(err)
			}
			cameBackWhenTold(t, told, attempts)
		})
	}
}

// startPressed runs a broker that has too much to do until it has sent somebody away, and
// returns its address and the password of the device pump.
func startPressed(t *testing.T, l broker.Listener, told chan<- sentAway) (address, password string) {
	t.Helper()
	accounts, err := broker.OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if password, err = accounts.AddDevice("pump"); err != nil {
		t.Fatal(err)
	}
	var relaxed atomic.Bool
	b, err := broker.New(broker.Config{
		Listeners: []broker.Listener{l}, Credentials: accounts, ServiceName: "service", ServicePassword: secrettest.Mark + "service",
		Pressed: func() bool { return !relaxed.Load() },
		Limits:  broker.Limits{ConnectTimeout: 1500 * time.Millisecond}, // within which a busy machine has to read a CONNECT
		Logger: slog.New(listener{slog.DiscardHandler, func(s sentAway) {
			told <- s
			relaxed.Store(true)
		}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b.Addrs()[0].String(), password
}

// cameBackWhenTold compares what the broker said with when the client tried.
func cameBackWhenTold(t *testing.T, told <-chan sentAway, attempts <-chan time.Time) {
	t.Helper()
	if len(told) != 1 {
		t.Fatalf("sent away %d times", len(told))
	}
	sent := <-told
	due := sent.at.Add(sent.retry.Truncate(time.Millisecond)) // whole ones are said
	for range len(attempts) {
		at := <-attempts
		if at.Before(sent.at) {
			continue
		}
		if at.Before(due) {
			t.Errorf("it was told to stay away for %v and came back after %v", sent.retry, at.Sub(sent.at))
		}
		return // later ones may follow a failure
	}
	t.Error("it is connected without another attempt")
}
