package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"davit/schemas"
)

func TestManyDevicesInOneChange(t *testing.T) {
	c, err := OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.AddDevice("d0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddBridge("rack", []string{"d1"}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"d0", "d1", "d2"}
	passwords, err := c.PutDevices(t.Context(), ids)
	if err != nil || len(passwords) != 3 {
		t.Fatalf("%v, %v", passwords, err)
	}
	for _, id := range ids {
		if _, v := c.authenticate(id, []byte(passwords[id])); v != verdictOK {
			t.Errorf("%s: %s", id, v)
		}
	}
	if _, v := c.authenticate("d0", []byte(old)); v != verdictPassword {
		t.Errorf("the old password of d0: %s", v)
	}

	before, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, try := range map[string]func() error{
		"a bridge's name": func() error { _, err := c.PutDevices(t.Context(), []string{"d3", "rack"}); return err },
		"a bad id":        func() error { _, err := c.PutDevices(t.Context(), []string{"d3", "a/b"}); return err },
		"given up":        func() error { _, err := c.PutDevices(ended, []string{"d3"}); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, err := os.ReadFile(c.path); err != nil || string(after) != string(before) {
			t.Errorf("%s: the file changed (%v)", name, err)
		}
	}
	if _, err := c.PutDevices(t.Context(), []string{"rack"}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("%v", err)
	}
}

// A device that is made anew under an old name is not the one that a bridge
// was trusted with.
func TestForgottenDeviceLeavesTheBridges(t *testing.T) {
	b := start(t, nil)
	c := b.cfg.Credentials
	if _, err := c.AddDevice("a"); err != nil {
		t.Fatal(err)
	}
	pw, err := c.AddBridge("rack", []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddBridge("other", []string{"b"}); err != nil {
		t.Fatal(err)
	}
	rack := connect(t, b.addr(), connectOptions{login: login{"rack", pw}})
	if err := c.Forget("a"); err != nil {
		t.Fatal(err)
	}
	rack.ended()
	want := "[{other bridge [b]} {rack bridge [b]}]"
	if got := fmt.Sprint(c.List()); got != want {
		t.Errorf("List is %s, want %s", got, want)
	}
	if p, v := c.authenticate("rack", []byte(pw)); v != verdictOK || p.owns("a") || !p.owns("b") {
		t.Errorf("%s, rack acts for %v", v, p)
	}
	if err := c.Forget("b"); err != nil {
		t.Fatal(err)
	}
	if p, ok := c.Get("rack"); !ok || len(p.Devices) != 0 {
		t.Errorf("%v %v", p, ok)
	}
	if again, err := OpenCredentials(filepath.Dir(c.path)); err != nil || fmt.Sprint(again.List()) != fmt.Sprint(c.List()) {
		t.Errorf("after reading the file again: %v, %v", again, err)
	}
	if err := c.Forget("rack"); err != nil { // a bridge is not a device
		t.Fatal(err)
	}
	if _, ok := c.Get("rack"); !ok {
		t.Error("the bridge is gone")
	}
}

// The will of a bridge names its first device. When that one is decommissioned,
// the bridge is still admitted for its others, and the will says nothing.
func TestBridgeSurvivesTheEndOfTheDeviceOfItsWill(t *testing.T) {
	b := start(t, nil)
	c := b.cfg.Credentials
	pw, err := c.AddBridge("rack", []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Forget("a"); err != nil {
		t.Fatal(err)
	}
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindPresence))
	w := publishPacket(topic("a", schemas.KindPresence), 1, true, offline)
	rack := connect(t, b.addr(), connectOptions{login: login{"rack", pw}, will: &w})
	rack.send(publishPacket(topic("b", schemas.KindPresence), 0, true, online))
	if pk := svc.message(); pk.TopicName != topic("b", schemas.KindPresence) || string(pk.Payload) != online {
		t.Errorf("%s: %s", pk.TopicName, pk.Payload)
	}
	_ = rack.Close()
	if pk := svc.message(); pk.TopicName != topic("b", schemas.KindPresence) || string(pk.Payload) == online {
		t.Errorf("%s: %s", pk.TopicName, pk.Payload)
	}
	svc.quiet()
}
