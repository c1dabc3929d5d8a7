package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"davit/broker"
	"davit/gateway"
)

// TestTransports reaches the broker by each kind of URL.
func TestTransports(t *testing.T) {
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	secure := &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for scheme, l := range map[string]broker.Listener{
		"mqtts": {Transport: broker.TCP, Addr: "127.0.0.1:0", TLS: secure},
		"ws":    {Transport: broker.WebSocket, Addr: "127.0.0.1:0"},
		"wss":   {Transport: broker.WebSocket, Addr: "127.0.0.1:0", TLS: secure},
	} {
		t.Run(scheme, func(t *testing.T) {
			b := &embedded{port: freePort(t), more: []broker.Listener{l}}
			var err error
			if b.credentials, err = broker.OpenCredentials(t.TempDir()); err != nil {
				t.Fatal(err)
			}
			b.Start(t)
			t.Cleanup(func() { b.Stop(t) })
			orch := newFakeDevices()
			s := startSessions(t, gateway.SessionsOptions{Broker: fmt.Sprintf("%s://%s/mqtt", scheme, b.addrs[1]), TLS: trusting, Devices: orch})
			d := connect(t, b, "pump-7")
			d.say(hello())
			if e := orch.next(t); e.Device != "pump-7" {
				t.Errorf("got %+v", e)
			}
			if err := s.Offer(t.Context(), "pump-7", offer()); err != nil {
				t.Fatal(err)
			}
			d.hear()
		})
	}
}

// TestHealthSaysWhy: an operator can read from /readyz why devices are not
// served.
func TestHealthSaysWhy(t *testing.T) {
	b := newEmbedded(t)
	s := runSessions(t, gateway.SessionsOptions{Broker: b.URL(), Username: serviceUser, Password: "wrong", Devices: newFakeDevices()})
	eventually(t, func() bool {
		err := s.Health(t.Context())
		return err != nil && strings.Contains(err.Error(), "user name and password")
	})
	if err := s.Health(t.Context()); !strings.Contains(err.Error(), "control") || !strings.Contains(err.Error(), "data-1") {
		t.Errorf("health: %v", err)
	}
	select {
	case <-s.Ready():
		t.Error("ready without a connection")
	default:
	}
}
