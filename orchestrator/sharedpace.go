package orchestrator

import "time"

// Bounds of the pace of a shared stream, in bytes a second for each follower, and
// of how it is found.
const (
	firstRate = 1 << 20
	leastRate = 64 << 10
	mostRate  = 256 << 20
	rateStep  = 256 << 10              // added whenever little is lost
	rateTime  = 200 * time.Millisecond // between two looks at what is lost
	lossLimit = 0.1                    // the part of the deliveries that may be lost
	paceSlack = 20 * time.Millisecond  // what may be caught up of time that was lost
)

// sharedPace is how fast a shared stream is sent: faster by a fixed step while little
// is lost, by a third slower when more is (additive increase, multiplicative
// decrease); until the first loss it doubles.
type sharedPace struct {
	rate  float64
	slow  bool      // it has lost something, so it does not double any more
	next  time.Time // when something may be sent again
	since time.Time // what follows was counted from then on

	held       bool // something had to wait for the pace
	deliveries int  // that were to be made, of chunks
	missed     int  // that were not
	sent       uint64
	repaired   uint64 // bytes that followers asked for again
}

// wait is for how long nothing may be sent.
func (p *sharedPace) wait(now time.Time) time.Duration {
	d := p.next.Sub(now)
	if d > 0 {
		p.held = true
	}
	return d
}

// send counts bytes as sent to each follower.
func (p *sharedPace) send(bytes uint64, now time.Time) {
	if p.rate == 0 {
		p.rate, p.since = firstRate, now
	}
	if earliest := now.Add(-paceSlack); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(bytes) / p.rate * float64(time.Second)))
	p.sent += bytes
}

// adapt looks at what was lost by so many followers, once in a while.
func (p *sharedPace) adapt(followers int, now time.Time) {
	if p.rate == 0 || p.sent == 0 || now.Sub(p.since) < rateTime {
		return
	}
	loss := float64(p.repaired) / (float64(p.sent) * float64(max(1, followers)))
	if p.deliveries > 0 {
		loss = max(loss, float64(p.missed)/float64(p.deliveries))
	}
	switch {
	case loss > lossLimit:
		p.rate, p.slow = max(leastRate, p.rate*2/3), true
	case p.held && p.slow:
		p.rate = min(mostRate, p.rate+rateStep)
	case p.held:
		p.rate = min(mostRate, 2*p.rate)
	}
	*p = sharedPace{rate: p.rate, slow: p.slow, next: p.next, since: now}
}
