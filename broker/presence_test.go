package broker

import (
	"fmt"
	"testing"

	"davit/schemas"
)

const online = `{"v":1,"online":true}`

// retainedPresence is what a fresh subscriber would see.
func retainedPresence(b *Broker, device string) string {
	pk, _ := b.server.Topics.Retained.Get(topic(device, schemas.KindPresence))
	return string(pk.Payload)
}

// addBridge adds a bridge and its devices.
func addBridge(t *testing.T, b *Broker, id string, devices ...string) login {
	t.Helper()
	pw, err := b.cfg.Credentials.AddBridge(id, devices)
	if err != nil {
		t.Fatal(err)
	}
	return login{id, pw}
}

// What is retained after the end of a bridge says offline for all of its
// devices, and what they say on their return is not overtaken by it.
func TestPresenceOfEveryDeviceEndsWithItsPrincipal(t *testing.T) {
	b := start(t, nil)
	who := addBridge(t, b, "rack", "d1", "d2", "d3")
	devices := []string{"d1", "d2", "d3"}
	for i := range 50 {
		rack := connect(t, b.addr(), connectOptions{login: who, clientID: fmt.Sprint(i % 2)})
		for _, d := range devices[:2] { // d3 never says a word
			rack.publish(topic(d, schemas.KindPresence), 1, true, online)
		}
		for _, d := range devices[:2] {
			if got := retainedPresence(b, d); got != online {
				t.Fatalf("round %d: %s is %q after its return", i, d, got)
			}
		}
		_ = rack.Close()
		if i%2 == 0 {
			continue // the next round begins while this connection ends
		}
		eventually(t, "all are offline", func() bool {
			for _, d := range devices {
				if retainedPresence(b, d) != offline {
					return false
				}
			}
			return true
		})
	}
}

// A device that another connected principal acts for stays as it is: it may
// have been moved from one bridge to another.
func TestPresenceIsNotTakenFromAnotherPrincipal(t *testing.T) {
	ended := make(chan string, 10)
	b := start(t, func(c *Config) { c.OnDisconnect = func(name string, _ []string) { ended <- name } })
	old := connect(t, b.addr(), connectOptions{login: addBridge(t, b, "old", "d1", "d2")})
	old.publish(topic("d2", schemas.KindPresence), 1, true, online)
	young := connect(t, b.addr(), connectOptions{login: addBridge(t, b, "young", "d1")})
	young.publish(topic("d1", schemas.KindPresence), 1, true, online)
	_ = old.Close()
	if name := <-ended; name != "old" {
		t.Fatal(name)
	}
	if d1, d2 := retainedPresence(b, "d1"), retainedPresence(b, "d2"); d1 != online || d2 != offline {
		t.Errorf("d1 %s, d2 %s", d1, d2)
	}
	_ = young.Close()
	if name := <-ended; name != "young" {
		t.Fatal(name)
	}
	if d1 := retainedPresence(b, "d1"); d1 != offline {
		t.Errorf("d1 %s", d1)
	}
}
