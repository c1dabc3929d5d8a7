package app

import (
	"errors"
	"maps"
	"testing"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// retained asks the broker, with a fresh connection, for what it retains of a kind.
func retained(t *testing.T, s *Server, k schemas.Kind) map[string]string {
	t.Helper()
	const end = "test/end" // comes after what was retained
	m := onlooker(t, s, end, schemas.Filter(k))
	defer m.kill()
	m.publish(end, false, nil)
	found := map[string]string{}
	for {
		p := m.hear()
		if p.Topic == end {
			return found
		}
		topic, err := schemas.ParseTopic(p.Topic)
		if err != nil {
			t.Fatal(err)
		}
		found[topic.Device] = string(p.Payload)
		if len(p.Payload) == 0 { // cleared at this moment
			delete(found, topic.Device)
		}
	}
}

// The two things that a presence can say.
const (
	saysOnline  = `{"v":1,"online":true}`
	saysOffline = `{"v":1,"online":false}`
)

// recorded waits until the service has recorded all devices as online or offline.
func recorded(t *testing.T, c *client.Client, devices []string, online bool) {
	t.Helper()
	for _, id := range devices {
		until(t, id+" is recorded", func() bool {
			d, err := c.Device(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return d.Online == online
		})
	}
}

// A bridge's will covers its first device only; the others are made offline by
// the broker, for everybody who asks later: the service asks again whenever its
// own connection was lost.
func TestPresenceAfterTheDeathOfABridge(t *testing.T) {
	dir := t.TempDir()
	s, _ := startServer(t, testOptions(t, dir))
	c := clientFor(t, dir, s.Addresses().HTTP)
	devices := []string{"d1", "d2"}
	password := fleetRecords(t, c, devices)
	watcher := onlooker(t, s, schemas.Filter(schemas.KindPresence))
	want := func(online bool) {
		t.Helper()
		for heard := map[string]bool{}; !maps.Equal(heard, map[string]bool{"d1": online, "d2": online}); {
			p := watcher.hear()
			var said schemas.Presence
			topic, err := schemas.ParseTopic(p.Topic)
			if err := errors.Join(err, schemas.Decode(p.Payload, &said)); err != nil {
				t.Fatal(err)
			}
			heard[topic.Device] = said.Online
		}
		recorded(t, c, devices, online)
		says := map[bool]string{true: saysOnline, false: saysOffline}[online]
		if got := retained(t, s, schemas.KindPresence); !maps.Equal(got, map[string]string{"d1": says, "d2": says}) {
			t.Errorf("retained: %v, want both %v", got, online)
		}
	}
	for range 2 { // and once more after it came back
		rack := dialModule(t, s.Addresses().MQTT, "rack", password, "d1")
		for _, d := range devices {
			rack.say(d, &schemas.Presence{V: 1, Online: true})
		}
		want(true)
		rack.kill()
		want(false)
	}
	// A take-over is no end: nobody hears of d2, whose presence no will names.
	rack := dialModule(t, s.Addresses().MQTT, "rack", password, "d1")
	for _, d := range devices {
		rack.say(d, &schemas.Presence{V: 1, Online: true})
	}
	want(true)
	again := dialModule(t, s.Addresses().MQTT, "rack", password, "d1")
	again.say("d1", &schemas.Presence{V: 1, Online: true})
	for _, online := range []bool{false, true} {
		if p := watcher.hear(); p.Topic != topicOf("d1", schemas.KindPresence) || (string(p.Payload) == saysOnline) != online {
			t.Errorf("heard %s %s", p.Topic, p.Payload)
		}
	}
	recorded(t, c, devices, true)
	if got := retained(t, s, schemas.KindPresence); !maps.Equal(got, map[string]string{"d1": saysOnline, "d2": saysOnline}) {
		t.Errorf("retained after a take-over: %v", got)
	}
}

func TestDeletedDeviceLeavesNothingAtTheBroker(t *testing.T) {
	dir := t.TempDir()
	s, _ := startServer(t, testOptions(t, dir))
	c := clientFor(t, dir, s.Addresses().HTTP)
	rackPassword := fleetRecords(t, c, []string{"d1", "d2"})
	own, err := c.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "d3", Type: testDeviceType})
	if err != nil {
		t.Fatal(err)
	}
	rack := dialModule(t, s.Addresses().MQTT, "rack", rackPassword, "d1")
	alone := dialModule(t, s.Addresses().MQTT, "d3", own.Password, "d3")
	for _, d := range []string{"d1", "d2"} {
		rack.say(d, &schemas.Presence{V: 1, Online: true})
	}
	alone.say("d3", &schemas.Presence{V: 1, Online: true})
	recorded(t, c, []string{"d1", "d2", "d3"}, true)
	if _, err := c.CancelJob(t.Context(), "job", orchestrator.CancelRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"d2", "d3"} { // behind a bridge that stays, and connected by itself
		if err := c.DeleteDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	<-alone.mqtt.Done()
	// The bridge comes back with a shorter list.
	<-rack.mqtt.Done()
	rack = dialModule(t, s.Addresses().MQTT, "rack", rackPassword, "d1")
	rack.say("d1", &schemas.Presence{V: 1, Online: true})
	onlyD1 := func() bool {
		return maps.Equal(retained(t, s, schemas.KindPresence), map[string]string{"d1": saysOnline}) && len(retained(t, s, schemas.KindOffer)) == 0
	}
	until(t, "only d1 is retained", onlyD1)
	// What the bridge says of a device that is gone is refused, and still is when another device has got that id.
	presence := topicOf("d2", schemas.KindPresence)
	if code := rack.publish(presence, true, []byte(saysOnline)); code < 0x80 {
		t.Errorf("the bridge may speak for a deleted device: reason code %#x", code)
	}
	if _, err := c.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "d2", Type: testDeviceType}); err != nil {
		t.Fatal(err)
	}
	if code := rack.publish(presence, true, []byte(saysOnline)); code < 0x80 {
		t.Errorf("the bridge may speak for another device of the same id: reason code %#x", code)
	}
	if !onlyD1() {
		t.Errorf("retained: %v", retained(t, s, schemas.KindPresence))
	}
}
