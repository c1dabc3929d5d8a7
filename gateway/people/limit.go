package people

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"davit/internal/clock"
)

// Limits on trying to sign in, right or wrong.
type Limits struct {
	// PerAddress tries a second, after Burst at once, from one address: one of
	// IPv4, or a network of 64 bits of IPv6, of which one host may use all.
	PerAddress rate.Limit
	Burst      int
	// Overall tries a second, after OverallBurst at once.
	Overall      rate.Limit
	OverallBurst int
}

// DefaultLimits let an office behind one address sign in, and make guessing slow
// before the lock of a user ends it.
func DefaultLimits() Limits {
	return Limits{PerAddress: 0.5, Burst: 30, Overall: 10, OverallBurst: 100}
}

// maxAddresses bounds how many addresses are remembered; when there are more, the
// new ones share one limit.
const maxAddresses = 10_000

// limiter is a rate limit for each address and for all together.
type limiter struct {
	limits   Limits
	mu       sync.Mutex // guards what follows
	overall  *rate.Limiter
	crowd    *rate.Limiter
	by       map[string]*seen
	nextTidy time.Time
}

type seen struct {
	rate *rate.Limiter
	last time.Time
}

func newLimiter(l Limits) *limiter {
	return &limiter{
		limits: l, overall: rate.NewLimiter(l.Overall, l.OverallBurst),
		crowd: rate.NewLimiter(l.PerAddress, l.Burst), by: map[string]*seen{},
	}
}

// allow counts a try from an address; the error says when to try again.
func (l *limiter) allow(address string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range []*rate.Limiter{l.address(address, now), l.overall} {
		if r.AllowN(now, 1) {
			continue
		}
		wait := r.ReserveN(now, 1)
		after := wait.DelayFrom(now)
		wait.CancelAt(now)
		return &TooManyTriesError{RetryAfter: after}
	}
	return nil
}

func (l *limiter) address(address string, now time.Time) *rate.Limiter {
	key := Network(address)
	s := l.by[key]
	if s == nil {
		if len(l.by) >= maxAddresses {
			l.tidy(now)
		}
		if len(l.by) >= maxAddresses {
			return l.crowd
		}
		s = &seen{rate: rate.NewLimiter(l.limits.PerAddress, l.limits.Burst)}
		l.by[key] = s
	}
	s.last = now
	return s.rate
}

// tidyEvery is how often tidy runs at most.
const tidyEvery = time.Minute

// tidy forgets addresses that have all of their tries again. It looks at all of
// them.
func (l *limiter) tidy(now time.Time) {
	if now.Before(l.nextTidy) && l.nextTidy.Sub(now) <= tidyEvery { // or the clock was set back
		return
	}
	l.nextTidy = now.Add(tidyEvery)
	for key, s := range l.by {
		if clock.ToCome(s.last, now) || s.rate.TokensAt(now) >= float64(l.limits.Burst) { // a rate gives nothing back before its last try
			delete(l.by, key)
		}
	}
}

// Network is what an address is limited by: itself if it is one of IPv4, its network of
// 64 bits if it is one of IPv6.
func Network(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		address = ap.Addr().String()
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, _ := ip.Prefix(64) // an IPv6 address has 64 bits
	return p.String()
}
