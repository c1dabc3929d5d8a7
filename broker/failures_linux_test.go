package broker

import (
	"fmt"
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

// While an address has as many answers waiting as are given in the longest delay, so many of its sockets are heard a second as there are answers, and others are heard as
// ever; when the answers are given nothing is remembered.
func TestCrowdIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, most = 10, 20
		f := &failures{rate: rate, most: 1000}
		crowded, calm := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
		var all sync.WaitGroup
		for i := range rate + most { // the first are answered at once
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
			if yes, taken := f.crowded(crowded); yes == taken {
				t.Fatal("heard, and not counted")
			} else if taken {
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
		if len(f.from) != 0 || f.waiting != 0 {
			t.Errorf("%d addresses are remembered", len(f.from))
		}
	})
}

// Whether somebody has the name cannot be told from the time of the answer: the
// shortest delay covers the hash that only a name which exists costs.
func TestAnswersToWrongPasswordsTakeTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failures{rate: 100, most: 10}
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

// A storm of connections with bad credentials is not heard: few of them cost
// a hash or a place to wait. A module at another address, and one at the
// attackers' own, get in beside it.
func TestStormOfBadCredentialsIsShed(t *testing.T) {
	const rate, storm = 20, 1500
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) { c.Metrics, c.Limits.FailureRate = m, rate })
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
	// A second's worth is answered, two wait; then rate a second are heard.
	heard := rate + rate*longestDelay.Seconds() + rate*took
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
