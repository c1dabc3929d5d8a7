package orchestrator

import (
	"math"
	"time"
)

// staleToken is how far ahead of the clock a limiter's time may lie. The slowest
// rate, one a minute, has it a minute ahead; what lies further ahead is from
// before the clock was set back.
const staleToken = 2 * time.Minute

// defaultRampFactor is what a ramp multiplies by if it does not say.
const defaultRampFactor = 2

// rate is how many devices may newly be offered the image in a minute, once so
// many have succeeded; 0 is no limit.
func (p *Pace) rate(successes int) int {
	if p == nil || p.Ramp == nil {
		return p.perMinute()
	}
	factor := p.Ramp.Factor
	if factor == 0 {
		factor = defaultRampFactor
	}
	limit := float64(math.MaxInt32)
	if p.PerMinute > 0 {
		limit = float64(p.PerMinute)
	}
	steps := max(successes, 0) / max(p.Ramp.After, 1)
	r := float64(p.Ramp.Start) * math.Pow(factor, float64(steps))
	return max(1, int(min(r, limit)))
}

func (p *Pace) perMinute() int {
	if p == nil {
		return 0
	}
	return p.PerMinute
}

// The limiter is the generic cell rate algorithm (ITU-T I.371) as plain data: one
// time, next, at which everything that went so far has been paid for at one
// interval each. burst cells may go ahead of that.
//
// A span from one cell to another holds at most burst + span/interval of them. For
// less than perMinute+1 of them in every minute, the interval is a minute divided
// by perMinute-burst+1.

// burst is how many may go at once. From 60 a minute on it is what one second
// brings and one more, rounded up, so that a caller that wakes up once a second,
// not quite on time, loses nothing to the interval that it is in.
func burst(perMinute int) int {
	if perMinute < 60 {
		return 1
	}
	return (perMinute+59)/60 + 1
}

// interval is the time that one pays for.
func interval(perMinute int) time.Duration {
	n := time.Duration(perMinute - burst(perMinute) + 1)
	return (time.Minute + n - 1) / n
}

// paid is the limiter's time as it counts now. One from before the clock was set
// back leaves room for one at once: it would otherwise hold up everything for as
// long as the clock was set back.
func paid(next time.Time, perMinute int, now time.Time) time.Time {
	switch {
	case next.After(now.Add(staleToken)):
		return now.Add(time.Duration(burst(perMinute)-1) * interval(perMinute))
	case next.Before(now):
		return now
	}
	return next
}

// allowance is how many may go now, and when it is worth while to ask again if
// they do: when half a burst may go. Never more than perMinute go in any 60 s,
// except for one more in the minute in which the clock is set back.
func allowance(next time.Time, perMinute int, now time.Time) (n int, at time.Time) {
	if perMinute <= 0 {
		return math.MaxInt32, now
	}
	size, each := burst(perMinute), interval(perMinute)
	ahead := paid(next, perMinute, now).Sub(now)
	n = max(0, size-int((ahead+each-1)/each))
	half := time.Duration(size - (size+1)/2)
	at = now.Add(ahead + time.Duration(n)*each - half*each)
	return n, at
}

// spend is the limiter's time after n went.
func spend(next time.Time, perMinute int, now time.Time, n int) time.Time {
	if perMinute <= 0 {
		return time.Time{}
	}
	return paid(next, perMinute, now).Add(time.Duration(n) * interval(perMinute))
}
