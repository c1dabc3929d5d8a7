package broker

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

func place(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// gate is an admission with so many turns.
func gate(turns, most int, closed func() bool) *admission {
	a := newAdmission(most, closed, func(int) {}, nil)
	a.free = turns
	return a
}

// The one module at its address is served after one of the thousand at another.
func TestLinesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := gate(0, 2000, func() bool { return false })
		var mu sync.Mutex
		var order []string
		arrive := func(from string) {
			go func() {
				ok, _ := a.enter(place(from), time.Now().Add(time.Hour), nil)
				if !ok {
					t.Error("not served")
				}
				mu.Lock()
				order = append(order, from)
				mu.Unlock()
				a.leave(false)
			}()
			synctest.Wait()
		}
		for range 1000 {
			arrive("10.0.0.1/32")
		}
		arrive("10.0.0.2/32")
		a.leave(false) // the first turn
		synctest.Wait()
		if len(order) != 1001 || order[1] != "10.0.0.2/32" {
			t.Errorf("%d served, the second from %s", len(order), order[1])
		}
		if a.waiting != 0 || len(a.lines) != 0 || len(a.turns) != 0 || a.free != 1 {
			t.Errorf("left over: %d waiting, %d lines, %d turns, %d free", a.waiting, len(a.lines), len(a.turns), a.free)
		}
	})
}

// A thousand come at once to a broker that serves one in 5 ms: never more than
// the turns are served at a time, nobody waits past the deadline, those who cannot
// be served in time know at once, and who comes back when told is served: the storm
// is over in little more than the time that serving takes.
func TestStormIsServedWithoutTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const modules, turns, work, patient = 2000, 4, 20 * time.Millisecond, 2 * time.Second
		a := gate(turns, 1000, func() bool { return false })
		var inside, sentAway atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for i := range modules {
			all.Go(func() {
				for {
					asked := time.Now()
					ok, retry := a.enter(place("10.0.0."+strconv.Itoa(i%200)+"/32"), asked.Add(patient), nil)
					if waited := time.Since(asked); waited > patient {
						t.Errorf("an answer after %s", waited)
					}
					if ok {
						break
					}
					sentAway.Add(1)
					if retry < minRetry/2 || retry > schemas.MaxRetryAfter {
						t.Errorf("told to come back after %s", retry)
					}
					time.Sleep(retry)
				}
				if n := inside.Add(1); n > turns {
					t.Errorf("%d served at a time", n)
				}
				time.Sleep(work)
				inside.Add(-1)
				a.leave(false)
			})
		}
		all.Wait()
		least := modules * work / turns
		if took := time.Since(began); took > 2*least {
			t.Errorf("took %s, serving alone takes %s", took, least)
		}
		if n := sentAway.Load(); n == 0 || n > 4*modules {
			t.Errorf("%d were sent away", n)
		}
		if a.waiting != 0 || len(a.lines) != 0 || a.free != turns {
			t.Errorf("left over: %d waiting, %d lines, %d free", a.waiting, len(a.lines), a.free)
		}
	})
}

// The advice grows with those who have been given one, and differs.
func TestRetryAdviceSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := gate(0, 1, func() bool { return false })
		a.waiting = 1
		var first, last time.Duration
		seen := map[time.Duration]bool{}
		for i := range 10_000 {
			_, retry := a.enter(place("10.0.0.1/32"), time.Now().Add(time.Second), nil)
			seen[retry.Round(time.Millisecond)] = true
			if i < 100 {
				first += retry / 100
			}
			if i >= 9900 {
				last += retry / 100
			}
		}
		if first > time.Second || last < 9*time.Second || last > 13*time.Second || len(seen) < 2000 {
			t.Errorf("the first are told %s, the last %s, in %d different ways", first, last, len(seen))
		}
		time.Sleep(20 * time.Second) // they are back
		if _, retry := a.enter(place("10.0.0.1/32"), time.Now().Add(time.Second), nil); retry > time.Second {
			t.Errorf("later: told %s", retry)
		}
	})
}

// However many are away, nobody is told to stay away for longer than a module heeds, and they
// are spread all the same.
func TestRetryAdviceIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := gate(0, 1, func() bool { return false })
		a.waiting, a.pace, a.away, a.at = 1, maxPace, 1e6, time.Now()
		least, most := schemas.MaxRetryAfter, time.Duration(0)
		for range 10_000 {
			_, retry := a.enter(place("10.0.0.1/32"), time.Now().Add(time.Second), nil)
			least, most = min(least, retry), max(most, retry)
		}
		if most > schemas.MaxRetryAfter || most-least < schemas.MaxRetryAfter/5 {
			t.Errorf("told %s to %s", least, most)
		}
	})
}

// A broker that stood still for a moment in a storm sends nobody away for long, and is
// not idle afterwards while everybody waits to come back.
func TestStallDoesNotEmptyTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := gate(0, 10_000, func() bool { return false })
		a.waiting = 3000 // of whom nobody asks here
		for range 6000 {
			time.Sleep(time.Millisecond)
			a.measure(time.Now())
		}
		time.Sleep(6 * time.Second)
		a.measure(time.Now())
		for range 10 {
			time.Sleep(time.Millisecond)
			a.measure(time.Now())
		}
		a.mu.Lock()
		retry := a.promise()
		a.mu.Unlock()
		if retry < 3*time.Second || retry > 9*time.Second {
			t.Errorf("with 3,000 waiting at 1 ms each, told to come back after %s", retry)
		}
	})
}

// Who hangs up while it waits takes no turn, and a refused CONNECT keeps its own for
// a moment.
func TestTurnsThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := gate(0, 10, func() bool { return false })
		gone := make(chan struct{})
		close(gone)
		if ok, _ := a.enter(place("10.0.0.1/32"), time.Now().Add(time.Hour), gone); ok {
			t.Fatal("served though it has gone")
		}
		if a.waiting != 0 {
			t.Fatalf("%d wait", a.waiting)
		}
		began := time.Now()
		a.leave(true)
		if ok, _ := a.enter(place("10.0.0.2/32"), time.Now().Add(time.Hour), nil); !ok || time.Since(began) != failureHold {
			t.Errorf("served %t after %s", ok, time.Since(began))
		}
	})
}

// A service that has too much to do has new connections wait, and then told when
// to come back; its own it serves.
func TestPressedService(t *testing.T) {
	t.Parallel()
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) {
		c.Pressed = func() bool { return true }
		c.Metrics = m
		c.Limits.ConnectTimeout = 1500 * time.Millisecond // within which a busy machine has to read a CONNECT
	})
	dev := addDevice(t, b, "pump")
	connect(t, b.addr(), connectOptions{login: service()}).quiet()
	t.Run("refused", func(t *testing.T) {
		for version, want := range map[byte]byte{4: packets.Err3ServerUnavailable.Code, 5: packets.ErrServerBusy.Code} {
			t.Run(fmt.Sprintf("MQTT %d", version), func(t *testing.T) {
				t.Parallel()
				c, ack := try(t, b.addr(), connectOptions{login: dev, version: version})
				if ack.ReasonCode != want {
					t.Errorf("CONNACK %#x, want %#x", ack.ReasonCode, want)
				}
				if version == 5 {
					saysWhenToComeBack(t, ack)
				}
				c.ended()
			})
		}
	})
	if n := testutil.ToFloat64(m.refusals.WithLabelValues("busy")); n != 2 {
		t.Errorf("%v refusals counted", n)
	}
}

// saysWhenToComeBack looks at the refusal of a service that has too much to do.
func saysWhenToComeBack(t *testing.T, ack packets.Packet) {
	t.Helper()
	u := ack.Properties.User
	if len(u) != 1 || u[0].Key != schemas.RetryAfterProperty || ack.Properties.ReasonString == "" {
		t.Fatalf("properties %+v", ack.Properties)
	}
	if ms, err := strconv.Atoi(u[0].Val); err != nil || ms < 100 || ms > 2000 {
		t.Errorf("%s: %q", schemas.RetryAfterProperty, u[0].Val)
	}
}

// Who waits is served once the service has less to do.
func TestServiceThatWasPressed(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	var asked atomic.Int64
	b := start(t, func(c *Config) {
		c.Metrics = m
		c.Pressed = func() bool { return asked.Add(1) <= 3 } // as the CONNECT comes, and twice later on
	})
	connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")}).quiet()
	if n, w := asked.Load(), testutil.ToFloat64(m.waiting); n < 4 || w != 0 {
		t.Errorf("looked %d times whether there is too much to do; %v wait", n, w)
	}
}

// A client that takes short packets only gets an answer that it can take.
func TestBusyAnswerFits(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Pressed = func() bool { return true }
		c.Limits.ConnectTimeout = 200 * time.Millisecond
	})
	_, ack := try(t, b.addr(), connectOptions{login: addDevice(t, b, "pump"), props: packets.Properties{MaximumPacketSize: 20}})
	if ack.ReasonCode != packets.ErrServerBusy.Code || len(ack.Properties.User) != 0 || ack.FixedHeader.Remaining > 18 {
		t.Errorf("CONNACK %#x of %d bytes with %+v", ack.ReasonCode, ack.FixedHeader.Remaining, ack.Properties)
	}
}

// fakeSocket is a socket of nobody for pending.
func fakeSocket(from string) *socket {
	return &socket{origin: place(from)}
}

// The oldest of the address with most sockets makes way once it was silent long
// enough; before that, who comes waits.
func TestPendingMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPending(3)
		var out []*socket
		evict := func(s *socket) { out = append(out, s) }
		good := fakeSocket("10.0.0.1/32")
		bad := []*socket{fakeSocket("10.0.0.2/32"), fakeSocket("10.0.0.2/32"), fakeSocket("10.0.0.2/32")}
		for _, s := range []*socket{good, bad[0], bad[1]} {
			p.enter(s, nil, evict)
		}
		began := time.Now()
		if !p.enter(bad[2], nil, evict) || len(out) != 1 || out[0] != bad[0] || time.Since(began) != minSilence {
			t.Fatalf("%d made way after %s", len(out), time.Since(began))
		}
		entered := make(chan bool)
		go func() { entered <- p.enter(fakeSocket("10.0.0.3/32"), nil, evict) }()
		synctest.Wait()
		// The one that is there for long enough makes way at once, so nobody waits.
		if !<-entered || len(out) != 2 || out[1] != bad[1] {
			t.Fatalf("%d made way", len(out))
		}
		p.leave(good) // has said CONNECT
		p.enter(fakeSocket("10.0.0.4/32"), nil, evict)
		stop := make(chan struct{})
		go func() { entered <- p.enter(fakeSocket("10.0.0.3/32"), stop, evict) }()
		synctest.Wait()
		p.leave(bad[2])
		if !<-entered || len(out) != 2 || p.len() != 3 {
			t.Errorf("%d made way, %d are in", len(out), p.len())
		}
		close(stop)
		if p.enter(fakeSocket("10.0.0.4/32"), stop, evict) {
			t.Error("entered a broker that stops")
		}
	})
}

func TestOrigin(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		got := origin(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)))
		if got.String() != want {
			t.Errorf("%s is counted to %s, want %s", addr, got, want)
		}
	}
	if origin(&net.UnixAddr{}).IsValid() {
		t.Error("what is no address of IP has an origin")
	}
}

// A second's worth of wrong passwords is answered at once, the rest no faster than
// the rate or within the longest delay, and those who hang up are forgotten.
func TestFailuresAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := netip.MustParsePrefix("127.0.0.1/32")
		f := newFailures(100, 1000)
		began := time.Now()
		var all sync.WaitGroup
		var at [3]atomic.Int64 // answered at once, after up to a second, later
		for range 250 {
			all.Go(func() {
				if !f.delay(here, began.Add(-time.Second), nil) {
					t.Error("no answer")
				}
				at[min(2, int((time.Since(began)+time.Second-1)/time.Second))].Add(1)
			})
		}
		all.Wait()
		if at[0].Load() != 100 || at[1].Load() != 100 || at[2].Load() != 50 {
			t.Errorf("answered: %d at once, %d within a second, %d later", at[0].Load(), at[1].Load(), at[2].Load())
		}
		for range 5000 { // by those who never wait for an answer
			cut := make(chan struct{})
			close(cut)
			f.delay(here, began.Add(-time.Second), cut)
		}
		if f.waiting != 0 || time.Until(f.next) > longestDelay {
			t.Errorf("%d wait, the next answer is due in %s", f.waiting, time.Until(f.next))
		}
		if yes, taken := f.crowded(here); !yes && !taken {
			t.Error("their address is heard as any other")
		}
		time.Sleep(longestDelay + time.Millisecond)
		if yes, taken := f.crowded(here); yes || taken {
			t.Error("their address is not heard though they have ended")
		}
		f.most = 0
		if f.delay(here, began, nil) {
			t.Error("one more than may wait was kept")
		}
	})
}
