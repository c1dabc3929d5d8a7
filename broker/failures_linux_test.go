package broker

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// While wrong passwords of an address are as far ahead of the rate as the longest delay, so
// many of its sockets are heard a second as there are answers, and others are heard as
// ever. If those that are heard are wrong ones it stays so, though few answers wait; when
// they are over it ends at once.
func TestCrowdIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, most = 10, 40
		f := newFailures(rate, 1000)
		crowded, calm := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
		var all sync.WaitGroup
		for i := range most + 1 {
			if yes, _ := f.crowded(crowded); yes {
				t.Fatalf("not heard with %d before it", i)
			}
			all.Go(func() { f.delay(crowded, time.Now().Add(-time.Second), nil) })
			synctest.Wait()
		}
		all.Go(func() { f.delay(netip.Prefix{}, time.Now(), nil) })
		heard := 0
		for range 100 {
			for _, other := range []netip.Prefix{calm, {}} {
				if yes, taken := f.crowded(other); yes || taken {
					t.Fatal("another address is not heard")
				}
			}
			if yes, _ := f.crowded(crowded); !yes {
				heard++
				all.Go(func() { f.delay(crowded, time.Now(), nil) })
				synctest.Wait()
			}
			time.Sleep(10 * time.Millisecond)
		}
		if heard < rate-1 || heard > rate+1 {
			t.Errorf("%d are heard in a second, want %d", heard, rate)
		}
		all.Wait()
		if yes, taken := f.crowded(crowded); yes || taken || f.waiting != 0 {
			t.Errorf("the address is not heard after its answers; %d wait", f.waiting)
		}
	})
}

// Addresses that have nothing against them are not remembered for long, however many come.
func TestAddressesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures(1000, 10)
		for i := range 10_000 {
			f.delay(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), time.Now(), nil)
			if len(f.from) > 64 {
				t.Fatalf("%d addresses are remembered", len(f.from))
			}
		}
	})
}

// Whether somebody has the name cannot be told from the time of the answer: the
// shortest delay covers the hash that only a name which exists costs.
func TestAnswersToWrongPasswordsTakeTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures(100, 10)
		for _, hash := range []time.Duration{0, shortestDelay / 2, shortestDelay} {
			began := time.Now()
			time.Sleep(hash)
			f.delay(netip.Prefix{}, began, nil)
			if took := time.Since(began); took != shortestDelay {
				t.Errorf("with a hash of %s the answer took %s", hash, took)
			}
		}
	})
}

// unsieved is a listener whose socket the sieve does not find.
type unsieved struct{ net.Listener }

// A storm of connections with bad credentials is not heard, also where the system has no
// filter for it: few of them cost a hash or a place to wait. A module at another address, and one at the
// attackers' own, get in beside it.
func TestStormOfBadCredentialsIsShed(t *testing.T) {
	const rate, storm = 20, 1500
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) {
		c.Metrics, c.Limits.FailureRate = m, rate
		c.listen = func(network, addr string) (net.Listener, error) {
			l, err := listen(network, addr)
			return unsieved{l}, err
		}
	})
	pump, near := addDevice(t, b, "pump"), addDevice(t, b, "near")
	var hashes atomic.Int64
	b.cfg.Credentials.verifier.compare = func(password, hash string) (bool, error) {
		hashes.Add(1)
		return argon2id.ComparePasswordAndHash(password, hash)
	}
	began := time.Now()
	for i := range storm {
		c := dialFrom(t, "127.0.0.2", b.addr())
		defer c.Close()
		name := "pump"
		if i%2 == 0 {
			name = fmt.Sprint("nobody-", i)
		}
		_, _ = c.Write(encoded(t, connectPacket(connectOptions{login: login{name, fmt.Sprint("guess-", i)}}))) // it may be closed already
		if i == storm/2 {
			connect(t, b.addr(), connectOptions{login: pump, clientID: "x"}).quiet()
		}
	}
	took := time.Since(began).Seconds()
	refused := func(reason string) float64 { return testutil.ToFloat64(m.refusals.WithLabelValues(reason)) }
	// As many as are ahead of the rate, and then rate a second, are heard.
	heard := rate*crowdedAfter.Seconds() + rate*took
	eventually(t, "the storm is shed", func() bool { return refused("crowded")+refused("busy") >= storm-2*heard })
	if n := float64(hashes.Load()); n > heard+16 { // 16 may be under way when the address becomes crowded
		t.Errorf("%v hashes in %.1f s for %d connections, at most %v are allowed", n, took, storm, heard)
	}
	eventually(t, "a module at the attackers' address gets in", func() bool {
		c := dialFrom(t, "127.0.0.2", b.addr())
		defer c.Close()
		cl := rawClient(t, c, 5)
		if cl.put(connectPacket(connectOptions{login: near, clientID: "x"})) != nil {
			return false
		}
		ack, err := cl.next(patience)
		return err == nil && ack.ReasonCode == 0
	})
	b.failures.mu.Lock()
	waiting := b.failures.waiting
	b.failures.mu.Unlock()
	if n := b.tarpit.len(); n > b.tarpit.most {
		t.Errorf("%d sockets are held, at most %d may be", n, b.tarpit.most)
	}
	if waiting > int(2*heard) {
		t.Errorf("%d wait for an answer", waiting)
	}
	if n := testing.AllocsPerRun(100, func() { b.failures.crowded(netip.MustParsePrefix("127.0.0.2/32")) }); n != 0 {
		t.Errorf("%v allocations to find out whether an address is crowded", n)
	}
}
