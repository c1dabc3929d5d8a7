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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// reached is how many of so many attempts to connect from an address come through at
// once; the system repeats the others after a second.
func reached(t *testing.T, from, addr string, attempts int) int {
	t.Helper()
	var n atomic.Int64
	var all sync.WaitGroup
	for range attempts {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 500 * time.Millisecond}
			if c, err := d.Dial("tcp", addr); err == nil {
				n.Add(1)
				_ = c.Close() // nothing was said
			}
		})
	}
	all.Wait()
	return int(n.Load())
}

// The filter drops most of what comes from its addresses, nothing of others, and nothing
// when it is taken away.
func TestSift(t *testing.T) {
	for _, c := range []struct{ listen, sifted, other, both string }{
		{"127.0.0.1:0", "127.0.0.2", "127.0.0.3", "127.0.0.2/32 127.0.0.9/32"},
		{"[::]:0", "127.0.0.2", "127.0.0.3", "127.0.0.2/32 2001:db8::/64"},
		{"[::1]:0", "::1", "", "127.0.0.1/32 ::/64"},
		{"[::1]:0", "", "::1", "127.0.0.1/32 2001:db8::/64 0:0:0:1::/64"},
	} {
		l, err := listen("tcp", c.listen)
		if err != nil {
			t.Skipf("no listener on %s: %v", c.listen, err)
		}
		defer l.Close()
		go func() {
			for {
				s, err := l.Accept()
				if err != nil {
					return
				}
				_ = s.Close() // it was accepted
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		at := func(from string) string {
			if netip.MustParseAddr(from).Is4() {
				return "127.0.0.1:" + port
			}
			return "[::1]:" + port
		}
		if err := sift(l, prefixes(t, c.both)); err != nil {
			t.Fatal(err)
		}
		const attempts = 200
		if c.sifted != "" {
			if n := reached(t, c.sifted, at(c.sifted), attempts); n < 1 || n > attempts/2 {
				t.Errorf("%s: %d of %d come through from %s, about %d should", c.listen, n, attempts, c.sifted, attempts/sievePasses)
			}
		}
		if c.other != "" {
			if n := reached(t, c.other, at(c.other), attempts); n != attempts {
				t.Errorf("%s: %d of %d come through from %s, which is not sifted", c.listen, n, attempts, c.other)
			}
		}
		for range 2 { // the second finds none
			if err := sift(l, nil); err != nil {
				t.Fatal(err)
			}
		}
		if c.sifted != "" {
			if n := reached(t, c.sifted, at(c.sifted), attempts); n != attempts {
				t.Errorf("%s: %d of %d come through from %s afterwards", c.listen, n, attempts, c.sifted)
			}
		}
	}
}

func prefixes(t *testing.T, list string) (all []netip.Prefix) {
	t.Helper()
	for len(list) > 0 {
		var one string
		if _, err := fmt.Sscan(list, &one); err != nil {
			t.Fatal(err)
		}
		all, list = append(all, netip.MustParsePrefix(one)), list[min(len(list), len(one)+1):]
	}
	return all
}

// As many addresses as may be sifted make a filter that the system takes.
func TestSiftsManyAddresses(t *testing.T) {
	l, err := listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var many []netip.Prefix
	for i := range sieveMost {
		many = append(many, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, byte(i)}), 64))
	}
	if err := sift(l, many); err != nil {
		t.Fatal(err)
	}
}

// An address with a storm of wrong passwords is sifted, and who comes from elsewhere gets in.
func TestCrowdedAddressIsSifted(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) { c.Metrics, c.Limits.FailureRate = m, 5 })
	pump := addDevice(t, b, "pump")
	for i := 0; testutil.ToFloat64(m.crowded) == 0; i++ {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 100 * time.Millisecond}
		c, err := d.Dial("tcp", b.addr())
		if err != nil {
			continue // sifted by now
		}
		defer c.Close()
		_, _ = c.Write(encoded(t, connectPacket(connectOptions{login: login{"pump", fmt.Sprint("guess-", i)}}))) // it may be closed already
		if i > 10_000 {
			t.Fatal("the storm goes on, and the address is not crowded")
		}
	}
	connect(t, b.addr(), connectOptions{login: pump, clientID: "x"}).quiet()
	if n := reached(t, "127.0.0.2", b.addr(), 200); n < 1 || n > 100 {
		t.Errorf("%d of 200 come through", n)
	}
}

// Of connections that are sent away unheard, an address has as many wrong passwords as of
// those that are heard, and the few that come through the sieve stand for all.
func TestUnheardCountAsTheHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 10
		bad, good := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
		f := newFailures(rate, 1000)
		wrong := func(from netip.Prefix) { f.note(from, time.Since(epoch)) }
		for range 4 * crowdedAfter / time.Second { // a fleet that comes back, of which one has a wrong password
			wrong(good)
			for range 100 * rate {
				f.right(good)
				f.busy(good)
			}
			f.right(good)
			wrong(bad)
			for range rate - 1 {
				f.busy(bad)
			}
			time.Sleep(time.Second / 2)
		}
		if got := f.crowds(); len(got) != 1 || got[0] != bad {
			t.Fatalf("crowded are %v, want %v", got, bad)
		}
		if len(f.came) != 1 {
			t.Error("it was not told")
		}
		f.sieved(f.crowds())
		for range 20 {
			time.Sleep(time.Second)
			wrong(bad)
			wrong(bad)
		}
		if len(f.crowds()) != 1 {
			t.Error("what is dropped does not count")
		}
		time.Sleep(longestDelay + time.Millisecond)
		if got := f.crowds(); len(got) != 0 {
			t.Errorf("crowded are still %v", got)
		}
	})
}
