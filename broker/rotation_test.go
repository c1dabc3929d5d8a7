package broker

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/clock"
	"davit/schemas"
)

// Both passwords are good until the first login with the new one, which ends the old one
// and its connections.
func TestRenewedPassword(t *testing.T) {
	b := start(t, nil)
	pump := addDevice(t, b, "pump-7")
	creds := b.cfg.Credentials
	old := connect(t, b.addr(), connectOptions{login: pump, clientID: "old"})
	first, _, err := creds.Renew("pump-7")
	check(t, err)
	second, until, err := creds.Renew("pump-7") // the answer of the first was lost
	check(t, err)
	if left := time.Until(until); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("it is good for %v", left)
	}
	old.publish(topic("pump-7", schemas.KindHello), 1, false, "still there")
	connect(t, b.addr(), connectOptions{login: pump, clientID: "also old"})
	for _, wrong := range []string{first, "guess"} {
		if _, ack := try(t, b.addr(), connectOptions{login: login{"pump-7", wrong}}); ack.ReasonCode != 0x86 {
			t.Errorf("%#x", ack.ReasonCode)
		}
	}
	fresh := connect(t, b.addr(), connectOptions{login: login{"pump-7", second}, clientID: "new"})
	old.ended()
	if _, ack := try(t, b.addr(), connectOptions{login: pump}); ack.ReasonCode != 0x86 {
		t.Errorf("the old password: %#x", ack.ReasonCode)
	}
	fresh.publish(topic("pump-7", schemas.KindHello), 1, false, "here")
	again, err := OpenCredentials(filepath.Dir(creds.path))
	check(t, err)
	if _, v := again.authenticate("pump-7", []byte(second)); v != verdictOK {
		t.Errorf("after a restart: %s", v)
	}
	if _, v := again.authenticate("pump-7", []byte(pump.password)); v != verdictPassword {
		t.Errorf("after a restart, the old one: %s", v)
	}
	if l, _ := again.Login("pump-7"); !l.PendingUntil.IsZero() || time.Since(l.Since) > time.Minute {
		t.Errorf("%+v", l)
	}
}

// A new password that nobody uses ends by itself, and one in quarantine changes nothing.
func TestRenewedPasswordEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := credentials(t)
		pump, err := c.AddDevice("pump-7")
		check(t, err)
		fresh, _, err := c.Renew("pump-7")
		check(t, err)
		c.Quarantine("pump-7")
		if _, v := c.authenticate("pump-7", []byte(fresh)); v != verdictShut {
			t.Errorf("in quarantine: %s", v)
		}
		c.Release("pump-7")
		time.Sleep(pendingLife)
		if _, v := c.authenticate("pump-7", []byte(fresh)); v != verdictPassword {
			t.Errorf("after its time: %s", v)
		}
		if _, v := c.authenticate("pump-7", []byte(pump)); v != verdictOK {
			t.Errorf("the old one: %s", v)
		}
		fresh, _, err = c.Renew("pump-7")
		check(t, err)
		if _, err := c.Rotate("pump-7"); err != nil { // an operator's: at once, and for all
			t.Fatal(err)
		}
		for _, gone := range []string{pump, fresh} {
			if _, v := c.authenticate("pump-7", []byte(gone)); v != verdictPassword {
				t.Errorf("after a rotation by people: %s", v)
			}
		}
	})
}

// A password that was asked for while the clock was ahead is not good for longer than any
// other, and the old one is; a clock that was set back by a little ends none.
func TestRenewedPasswordOfAnAheadClock(t *testing.T) {
	for _, tt := range []struct {
		back time.Duration
		want verdict
	}{{clock.Slack, verdictOK}, {clock.Slack + time.Minute, verdictPassword}, {365 * 24 * time.Hour, verdictPassword}} {
		c := credentials(t)
		pump, err := c.AddDevice("pump-7")
		check(t, err)
		fresh, until, err := c.Renew("pump-7")
		check(t, err)
		check(t, c.update(func(m map[string]*entry) error {
			r := m["pump-7"].record
			r.Pending = &pendingPassword{Hash: r.Pending.Hash, Since: r.Pending.Since.Add(tt.back), Until: until.Add(tt.back)}
			m["pump-7"] = m["pump-7"].changed(r)
			return nil
		}))
		if _, v := c.authenticate("pump-7", []byte(pump)); v != verdictOK {
			t.Errorf("set back by %s: the old one: %s", tt.back, v)
		}
		if l, _ := c.Login("pump-7"); l.PendingUntil.IsZero() != (tt.want != verdictOK) {
			t.Errorf("set back by %s: pending until %s", tt.back, l.PendingUntil)
		}
		if _, v := c.authenticate("pump-7", []byte(fresh)); v != tt.want {
			t.Errorf("set back by %s: the new one: %s, want %s", tt.back, v, tt.want)
		}
	}
}

// A crash after any write leaves a file by which one of the passwords that were given away
// logs in. Each write is the last one that reaches the disk once.
func TestRenewedPasswordSurvivesCrashes(t *testing.T) {
	for writes := range 3 {
		dir := t.TempDir()
		c, err := OpenCredentials(dir)
		check(t, err)
		given := []string{}
		steps := []func(){
			func() { p, err := c.AddDevice("pump-7"); check(t, err); given = append(given, p) },
			func() { p, _, err := c.Renew("pump-7"); check(t, err); given = append(given, p) },
			func() { c.authenticate("pump-7", []byte(given[1])) },
		}
		for _, step := range steps[:writes+1] {
			step()
		}
		c, err = OpenCredentials(dir) // as after a crash
		check(t, err)
		good := 0
		for i := range given {
			if _, v := c.authenticate("pump-7", []byte(given[i])); v == verdictOK {
				good++
			}
		}
		if good == 0 {
			t.Errorf("after %d writes nothing logs in", writes+1)
		}
	}
}

// Who is to change its password is told when it subscribes, and at once if it is there;
// nobody else is, and not who logged in with another.
func TestOrderedRotation(t *testing.T) {
	b := start(t, func(c *Config) {
		c.OnRequest = func(_ context.Context, r Request) []byte { return []byte(r.Device + " asks") }
	})
	pump, fan := addDevice(t, b, "pump-7"), addDevice(t, b, "fan-7")
	creds := b.cfg.Credentials
	pw, err := creds.AddBridge("rack", []string{"pump-7"})
	check(t, err)
	rack := connect(t, b.addr(), connectOptions{login: login{"rack", pw}})
	if codes := rack.subscribe(1, rotatedTopic("rack"), rotatedTopic("pump-7")); codes[0] != 1 || codes[1] < 0x80 {
		t.Errorf("a bridge hears of its own password only: %#x", codes)
	}
	if code := rack.publish(topic("pump-7", schemas.KindRotate), 1, false, "x"); code != packets.ErrNotAuthorized.Code {
		t.Errorf("a bridge changes its device's password: %#x", code)
	}
	rack.send(publishPacket(topic("rack", schemas.KindRotate), 0, false, "x")) // without a PUBACK, which the answer may overtake
	if m := rack.message(); string(m.Payload) != "rack asks" {
		t.Errorf("%q", m.Payload)
	}
	rack.ack(1)
	other := connect(t, b.addr(), connectOptions{login: fan})
	other.subscribe(1, rotatedTopic("fan-7"))
	n, err := creds.Order(func(p Principal, _ Login) bool { return p.Name != "fan-7" })
	if check(t, err); n != 2 {
		t.Errorf("%d are ordered", n)
	}
	const due = `{"v":1,"due":true}`
	if m := rack.message(); string(m.Payload) != due {
		t.Errorf("%q", m.Payload)
	}
	c := connect(t, b.addr(), connectOptions{login: pump})
	c.subscribe(1, rotatedTopic("pump-7"))
	if m := c.message(); string(m.Payload) != due {
		t.Errorf("%q", m.Payload)
	}
	other.quiet()
	if n, err := creds.Order(func(Principal, Login) bool { return true }); err != nil || n != 1 {
		t.Errorf("%d are ordered anew, %v", n, err)
	}
	fresh, _, err := creds.Renew("pump-7")
	check(t, err)
	c = connect(t, b.addr(), connectOptions{login: login{"pump-7", fresh}})
	c.subscribe(1, rotatedTopic("pump-7"))
	c.quiet()
}
