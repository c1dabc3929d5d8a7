package orchestrator

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"davit/schemas"
)

// What a retry policy does where it does not say.
const (
	defaultAttempts = 3
	defaultFirst    = time.Minute
	defaultFactor   = 2
	defaultMax      = time.Hour
	defaultJitter   = 0.2
)

// hopeless are the causes that another try cannot help.
var hopeless = []schemas.Cause{schemas.CauseAlready, schemas.CauseSize, schemas.CauseSignature, schemas.CauseMinVersion, schemas.CauseCanceled}

// retriable says whether another try may help after a cause.
func retriable(c schemas.Cause) bool { return c != schemas.CauseNone && !slices.Contains(hopeless, c) }

// next says whether an update that ended with the cause is tried again, and how
// long is waited before. tries is how many attempts ended without success so far,
// this one included; key is what the jitter is drawn from.
func (p *RetryPolicy) next(cause schemas.Cause, tries int, key string) (wait time.Duration, again bool) {
	if p == nil || !retriable(cause) {
		return 0, false
	}
	attempts, backoff := p.Attempts, p.Backoff
	if c, ok := p.Causes[cause]; ok {
		if c.Attempts > 0 {
			attempts = c.Attempts
		}
		if c.Backoff != nil {
			backoff = c.Backoff
		}
	}
	if attempts == 0 {
		attempts = defaultAttempts
	}
	if tries >= attempts {
		return 0, false
	}
	return backoff.full().wait(tries, key), true
}

// full is the backoff with what was left out. A first wait beyond the default of
// the longest one raises that, and a longest one below the default of the first
// lowers that.
func (b *Backoff) full() Backoff {
	f := Backoff{}
	if b != nil {
		f = *b
	}
	switch {
	case f.First == 0 && f.Max == 0:
		f.First, f.Max = Duration(defaultFirst), Duration(defaultMax)
	case f.First == 0:
		f.First = min(Duration(defaultFirst), f.Max)
	case f.Max == 0:
		f.Max = max(Duration(defaultMax), f.First)
	}
	if f.Factor == 0 {
		f.Factor = defaultFactor
	}
	if f.Jitter == 0 {
		f.Jitter = defaultJitter
	}
	return f
}

// wait is how long a full backoff waits after so many tries.
func (b Backoff) wait(tries int, key string) time.Duration {
	w := min(float64(b.First)*math.Pow(b.Factor, float64(max(tries, 1)-1)), float64(b.Max))
	w *= 1 + b.Jitter*(2*fraction(key)-1)
	if w >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(0, time.Duration(w))
}

// fraction draws a number from 0 to below 1 from a key.
func fraction(key string) float64 {
	sum := sha256.Sum256([]byte(key))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}
