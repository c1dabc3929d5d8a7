package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// Quarantine ends a device's session at once, refuses its login with the right password
// as with the right certificate, takes it from its bridge, and leaves the others alone.
func TestQuarantineDropsAtOnce(t *testing.T) {
	m := newMutual(t, nil)
	m.registered = []string{"bare"}
	pumpLogin, fanLogin := addDevice(t, m.Broker, "pump"), addDevice(t, m.Broker, "fan")
	_, err := m.cfg.Credentials.AddBridge("rack", []string{"pump", "valve"})
	check(t, err)
	plain := start(t, func(c *Config) { c.Credentials = m.cfg.Credentials; c.KnowsDevice = m.cfg.KnowsDevice })
	m.cfg.Credentials.watch(func(name string) { m.revoked(name); plain.revoked(name) }, nil) // one file serves one broker, but for this test
	pumpCert, bareCert := m.ca.issue(nil, uris("davit:device:pump")), m.ca.issue(nil, uris("davit:device:bare"))
	rackCert := m.ca.issue(nil, uris("davit:bridge:rack"))
	byPassword := connect(t, plain.addr(), connectOptions{login: pumpLogin, clientID: "a"})
	byCert, bare, rack := m.in(login{}, pumpCert), m.in(login{}, bareCert), m.in(login{}, rackCert)
	fan := connect(t, plain.addr(), connectOptions{login: fanLogin})

	for _, d := range []string{"pump", "bare", "nobody"} {
		m.cfg.Credentials.Quarantine(d)
		m.cfg.Credentials.Quarantine(d)
	}
	for name, c := range map[string]*mqttConn{"password": byPassword, "certificate": byCert, "bare certificate": bare, "its bridge": rack} {
		if code := c.ended(); code != packets.ErrAdministrativeAction.Code {
			t.Errorf("by %s: DISCONNECT %#x", name, code)
		}
	}
	fan.quiet()
	m.refusedCONNECT(string(verdictShut), login{}, pumpCert)
	m.refusedCONNECT(string(verdictShut), login{}, bareCert)
	if _, ack := try(t, plain.addr(), connectOptions{login: pumpLogin}); ack.ReasonCode != packets.ErrNotAuthorized.Code {
		t.Errorf("with the right password: %#x", ack.ReasonCode)
	}
	if _, ack := try(t, plain.addr(), connectOptions{login: login{"pump", "wrong"}}); ack.ReasonCode != packets.ErrBadUsernameOrPassword.Code {
		t.Errorf("with a wrong one, which learns nothing: %#x", ack.ReasonCode)
	}
	rack = m.in(login{}, rackCert)
	if code := rack.publish(topic("pump", schemas.KindHello), 1, false, "{}"); code < 0x80 {
		t.Errorf("the bridge speaks for a device in quarantine: %#x", code)
	}
	if code := rack.publish(topic("valve", schemas.KindHello), 1, false, "{}"); code >= 0x80 {
		t.Errorf("the bridge does not speak for its other device: %#x", code)
	}
	// A new password, a new list and a reload change nothing.
	_, err = m.cfg.Credentials.Rotate("pump")
	check(t, err)
	check(t, m.cfg.Credentials.SetBridgeDevices("rack", []string{"pump"}))
	check(t, m.cfg.Credentials.Reload())
	m.refusedCONNECT(string(verdictShut), login{}, pumpCert)
	rack.ended()
	rack = m.in(login{}, rackCert)
	if code := rack.publish(topic("pump", schemas.KindHello), 1, false, "{}"); code < 0x80 {
		t.Errorf("after a change of its list the bridge speaks for the device: %#x", code)
	}
	m.cfg.Credentials.Release("pump")
	m.in(login{}, pumpCert).quiet()
	rack.ended() // it comes back for the device
	rack = m.in(login{}, rackCert)
	if code := rack.publish(topic("pump", schemas.KindHello), 1, false, "{}"); code >= 0x80 {
		t.Errorf("the bridge does not speak for the device that was released: %#x", code)
	}
	// What the service says at a start is what counts.
	m.cfg.Credentials.SetQuarantined([]string{"pump"})
	rack.ended()
	m.refusedCONNECT(string(verdictShut), login{}, pumpCert)
	m.in(login{}, bareCert).quiet()
	// A device that is forgotten, and made anew, is another one.
	check(t, m.cfg.Credentials.Forget("pump"))
	addDevice(t, m.Broker, "pump")
	m.in(login{}, pumpCert).quiet()
}

// A device that has a certificate and no entry loses its session when it is forgotten,
// and when it gets an entry.
func TestBareDeviceIsRevoked(t *testing.T) {
	m := newMutual(t, nil)
	m.registered = []string{"bare"}
	cert := m.ca.issue(nil, uris("davit:device:bare"))
	c := m.in(login{}, cert)
	check(t, m.cfg.Credentials.Forget("bare"))
	c.ended()
	c = m.in(login{}, cert)
	addDevice(t, m.Broker, "bare")
	c.ended()
	m.in(login{}, cert).quiet()
}
