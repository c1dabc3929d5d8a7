package gateway_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"davit/broker"
	"davit/internal/mosquittotest"
)

const (
	serviceUser = "davit-service"
	servicePass = "service-password"
)

// testBroker is a broker that a test may stop and start again on the same
// port.
type testBroker interface {
	URL() string
	Start(t testing.TB)
	Stop(t testing.TB)
	// Login lets somebody in who acts for these devices and returns the password.
	Login(t testing.TB, name string, devices ...string) string
}

// embedded is the real neighbour, davit/broker. Only the tests may import it;
// the gateway itself knows any broker by its URL.
type embedded struct {
	port        int
	credentials *broker.Credentials
	more        []broker.Listener // beside the plain one
	addrs       []net.Addr
	stop        func()
}

func newEmbedded(t testing.TB) testBroker {
	t.Helper()
	c, err := broker.OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &embedded{port: freePort(t), credentials: c}
	b.Start(t)
	t.Cleanup(func() { b.Stop(t) })
	return b
}

func (b *embedded) URL() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", b.port) }

func (b *embedded) Start(t testing.TB) {
	t.Helper()
	br, err := broker.New(broker.Config{
		Listeners:   append([]broker.Listener{{Transport: broker.TCP, Addr: fmt.Sprintf("127.0.0.1:%d", b.port)}}, b.more...),
		Credentials: b.credentials, ServiceName: serviceUser, ServicePassword: servicePass, Logger: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- br.Run(ctx) }()
	<-br.Ready()
	b.addrs = br.Addrs()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (b *embedded) Stop(testing.TB) {
	if b.stop != nil {
		b.stop()
	}
	b.stop = nil
}

func (b *embedded) Login(t testing.TB, name string, devices ...string) string {
	t.Helper()
	for _, p := range b.credentials.List() {
		if p.Name == name {
			password, err := b.credentials.Rotate(name)
			if err != nil {
				t.Fatal(err)
			}
			return password
		}
	}
	var password string
	var err error
	if len(devices) == 0 {
		password, err = b.credentials.AddDevice(name)
	} else {
		password, err = b.credentials.AddBridge(name, devices)
	}
	if err != nil {
		t.Fatal(err)
	}
	return password
}

// mosquitto is a foreign broker.
type mosquitto struct{ *mosquittotest.Broker }

// newMosquitto starts mosquitto, or skips the test if the program is missing.
func newMosquitto(t testing.TB) testBroker {
	t.Helper()
	return mosquitto{mosquittotest.Run(t)}
}

func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// Login has nothing to do: this broker lets everybody in.
func (mosquitto) Login(testing.TB, string, ...string) string { return "" }

// Stop ends it at once.
func (m mosquitto) Stop(testing.TB) { m.Kill() }
