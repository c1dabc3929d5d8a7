package app

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/ca"
	"davit/internal/sim"
	"davit/orchestrator"
)

// lab is a certificate authority and what it has issued for a test.
type lab struct {
	t            *testing.T
	dir          string
	server, rack ca.Issued
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: filepath.Join(t.TempDir(), "ca")}
	if err := ca.Init(l.dir, ca.New{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	l.server, l.rack = l.issue(ca.Server, "127.0.0.1"), l.issue(ca.Bridge, "rack")
	return l
}

func (l *lab) issue(kind ca.Kind, name string) ca.Issued {
	l.t.Helper()
	made, err := ca.Issue(l.dir, ca.Request{Kind: kind, Name: name}, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	return made
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// A whole system by the certificates of a lab, without a password: the bridge logs in,
// a device in quarantine goes offline at once and gets its update when it is released, a
// revoked bridge is thrown out and comes back with a new certificate, and nothing of it
// needs a restart.
func TestLabOfCertificates(t *testing.T) {
	l, b := newLab(t), newBench(t)
	o := testOptions(t, b.serveData())
	o.TLSCert, o.TLSKey, o.MQTTS = l.server.Certificate, l.server.Key, "127.0.0.1:0"
	o.ClientCA, o.ClientCRLs, o.Passwords = l.path(ca.CertificateFile), []string{l.path(ca.CRLFile)}, PasswordsOff
	s, stop := startServer(t, o)
	b.client = clientFor(t, b.serveData(), s.Addresses().HTTP)
	b.records()
	b.plug()
	br, err := NewBridge(BridgeOptions{
		Broker: "mqtts://" + s.Addresses().MQTTS, Username: "rack", CAFile: l.path(ca.CertificateFile), TLSCert: l.rack.Certificate, TLSKey: l.rack.Key,
		Data: filepath.Join(b.dir, "bridge"), Ports: []bridge.PortConfig{{Device: "pump", Path: b.path, Baud: benchBaud}}, OfferInterval: 2 * time.Second, Log: b.log("bridge"),
	})
	if err != nil {
		t.Fatal(err)
	}
	runTask(t, br)
	recorded(t, b.client, []string{"pump"}, true)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.client.QuarantineDevice(ctx, "pump", "stolen"); err != nil {
		t.Fatal(err)
	}
	recorded(t, b.client, []string{"pump"}, false)
	image := sim.BuildDemoImage("2.0.0", 4096, 1)
	b.roll(image, "2.0.0")
	if list, _, err := b.client.DeviceExecutions(ctx, "pump", orchestrator.Page{}); err != nil || len(list) != 1 || list[0].State != "queued" {
		t.Errorf("in quarantine: %+v, %v", list, err)
	}
	revoke := func() {
		if _, err := ca.Revoke(l.dir, ca.Selection{Kind: ca.Bridge, Name: "rack"}, "key-compromise", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	revoke()
	until(t, "the bridge is thrown out", func() bool { return s.bus.embedded.Connections() == 0 })
	if _, err := b.client.ReleaseDevice(ctx, "pump"); err != nil {
		t.Fatal(err)
	}
	l.rack = l.issue(ca.Bridge, "rack") // in the same files
	b.awaitUpdated(image, stop)
}
