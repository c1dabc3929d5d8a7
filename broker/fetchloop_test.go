package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas"
)

// overflow has the service send one device more than its buffer and its sockets hold, and then
// a message to another, which is to come.
func overflow(t *testing.T, b *Broker, full string) {
	t.Helper()
	svc := connect(t, b.addr(), connectOptions{login: service()})
	pump := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
	pump.subscribe(1, topic("pump", schemas.KindOffer))
	for range 10_000 {
		svc.send(publishPacket(topic(full, schemas.KindOffer), 0, false, strings.Repeat("x", 4000)))
	}
	svc.send(publishPacket(topic("pump", schemas.KindOffer), 0, false, "yours"))
	pump.message()
}

// Others are served while a fetch is being taken, which may wait for the store, also when the
// one that asks has to be ended meanwhile for reading nothing.
func TestOthersAreServedWhileAFetchWaits(t *testing.T) {
	came, release := make(chan struct{}, 1), make(chan struct{})
	b := start(t, func(c *Config) {
		c.OnFetch = func(string, []byte, *Session, string) bool {
			came <- struct{}{}
			<-release
			return true
		}
		c.Limits.WriteBuffer = 64 << 10
	})
	defer close(release)
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d1")})
	dev.subscribe(1, topic("d1", schemas.KindOffer))
	dev.send(publishPacket(topic("d1", schemas.KindFetch), 0, false, "fetch"))
	<-came
	overflow(t, b, "d1")
}

// Others are served while a bridge asks on and on and reads nothing, which ends it.
func TestOthersAreServedWhileOneAsksOn(t *testing.T) {
	var asked atomic.Int64
	b := start(t, func(c *Config) {
		c.OnFetch = func(string, []byte, *Session, string) bool {
			asked.Add(1)
			for end := time.Now().Add(20 * time.Microsecond); time.Now().Before(end); { // what a fetch costs
			}
			return false // asks faster than it is answered
		}
		c.Limits.WriteBuffer = 64 << 10
	})
	var devices []string
	for i := range 100 { // which may ask faster together than they are read here
		devices = append(devices, fmt.Sprintf("d%d", i))
	}
	dev := connect(t, b.addr(), connectOptions{login: addBridge(t, b, "rack", devices...)})
	dev.subscribe(1, topic("d1", schemas.KindOffer))
	name := topic("d1", schemas.KindFetch)
	fetch := encoded(t, publishPacket(name, 0, false, strings.Repeat("x", 128-2-2-len(name)-1))) // whole ones in all that is read at a time
	many := bytes.Repeat(fetch, 64<<10/len(fetch))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := dev.Write(many); err != nil {
				return
			}
		}
	}()
	eventually(t, "it asks on and on", func() bool { return asked.Load() > 2000 })
	overflow(t, b, "d1")
	eventually(t, "it has ended", func() bool { return !b.sessions.anyFor("d1") })
	<-ended
}

// deadlines is a connection that notes the deadlines for reading.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// The keep alive of a client begins anew when its fetch has been taken, however long that has
// lasted and whatever came behind the fetch; a part of a packet alone does not count.
func TestKeepAliveBeginsBehindAFetch(t *testing.T) {
	const keepAlive, taking = 30 * time.Second, time.Hour
	fetch := encoded(t, publishPacket(topic("d", schemas.KindFetch), 0, false, "fetch"))
	part := encoded(t, publishPacket(topic("d", schemas.KindStatus), 0, false, "status"))[:10]
	for name, c := range map[string]struct {
		ahead []byte
		fresh bool
	}{
		"a fetch":                {fetch, true},
		"two fetches":            {append(bytes.Clone(fetch), fetch...), true},
		"a fetch and a part":     {append(bytes.Clone(fetch), part...), true},
		"a part":                 {part, false},
		"a part of a fetch only": {fetch[:len(fetch)-1], false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := newPipes()
				b, err := New(Config{
					Listeners: []Listener{{Transport: TCP, Addr: "pipe"}}, Credentials: credentials(t), Logger: slog.New(slog.DiscardHandler),
					listen: func(string, string) (net.Listener, error) { return listener, nil },
					OnFetch: func(string, []byte, *Session, string) bool {
						time.Sleep(taking) // virtual
						return true
					},
				})
				check(t, err)
				check(t, b.Start())
				defer b.Stop()
				_, ack := tryOn(t, listener.dial(), connectOptions{login: addDevice(t, b, "d")})
				if ack.ReasonCode != 0 {
					t.Fatalf("CONNACK %#x", ack.ReasonCode)
				}
				synctest.Wait()
				noted := &deadlines{}
				like := newConn(b, TCP, noted, noted, nil)
				like.principal, like.version, like.talk.silence, like.ahead = b.open()[0].principal, 4, keepAlive, c.ahead
				b.takeAllPlain(like)
				if !c.fresh && len(noted.set) > 0 {
					t.Errorf("a deadline was set: %v", noted.set)
				}
				if c.fresh && (len(noted.set) == 0 || !noted.set[len(noted.set)-1].Equal(time.Now().Add(keepAlive*3/2))) {
					t.Errorf("deadlines %v at %v, want one half as long again as %s behind it", noted.set, time.Now(), keepAlive)
				}
			})
		})
	}
}

// A length of more than four bytes is for mochi to refuse, in whatever it comes.
func TestLengthOfFiveBytes(t *testing.T) {
	for _, b := range [][]byte{
		{0x30, 0x80, 0x80, 0x80, 0x80, 0x80}, {0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0}, {0x30, 0x80, 0x80, 0x80, 0x80, 0}, {0x30, 0x80, 0x80, 0x80, 0x80, 0x01, 0},
	} {
		if _, _, _, size := wholePublish(b, 5); size != 0 {
			t.Errorf("%x: taken for a PUBLISH of %d bytes", b, size)
		}
	}
}
