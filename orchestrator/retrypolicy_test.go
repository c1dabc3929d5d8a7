package orchestrator

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/schemas"
)

func TestRetryPolicy(t *testing.T) {
	d := func(v time.Duration) Duration { return Duration(v) }
	steady := &Backoff{First: d(10 * time.Second), Factor: 3, Max: d(time.Minute), Jitter: 0.1}
	for _, c := range []struct {
		name  string
		p     *RetryPolicy
		cause schemas.Cause
		tries int
		about time.Duration // without jitter; -1: not again
	}{
		{"no policy", nil, network, 1, -1},
		{"first of the defaults", &RetryPolicy{}, network, 1, time.Minute},
		{"second of the defaults", &RetryPolicy{}, network, 2, 2 * time.Minute},
		{"third of the defaults", &RetryPolicy{}, network, 3, -1},
		{"the default's longest wait", &RetryPolicy{Attempts: 100}, network, 99, time.Hour},
		{"the last attempt", &RetryPolicy{Attempts: 100}, network, 100, -1},
		{"one attempt", &RetryPolicy{Attempts: 1}, network, 1, -1},
		{"success", &RetryPolicy{}, none, 1, -1},
		{"a backoff of its own", &RetryPolicy{Attempts: 9, Backoff: steady}, network, 2, 30 * time.Second},
		{"its longest wait", &RetryPolicy{Attempts: 9, Backoff: steady}, network, 3, time.Minute},
		{"a long first wait", &RetryPolicy{Backoff: &Backoff{First: d(3 * time.Hour)}}, network, 2, 3 * time.Hour},
		{"a short longest wait", &RetryPolicy{Backoff: &Backoff{Max: d(time.Second)}}, network, 1, time.Second},
		{"another cause", &RetryPolicy{Attempts: 1, Causes: map[schemas.Cause]CauseRetry{boot: {Attempts: 5}}}, network, 1, -1},
		{"attempts of the cause", &RetryPolicy{Attempts: 1, Causes: map[schemas.Cause]CauseRetry{boot: {Attempts: 5}}}, boot, 4, 8 * time.Minute},
		{"never for the cause", &RetryPolicy{Attempts: 9, Causes: map[schemas.Cause]CauseRetry{boot: {Attempts: 1}}}, boot, 1, -1},
		{"backoff of the cause", &RetryPolicy{Causes: map[schemas.Cause]CauseRetry{boot: {Backoff: steady}}}, boot, 1, 10 * time.Second},
		{"the policy's backoff for the cause", &RetryPolicy{Backoff: steady, Causes: map[schemas.Cause]CauseRetry{boot: {Attempts: 5}}}, boot, 4, time.Minute},
		{"a hopeless cause", &RetryPolicy{Attempts: 9, Causes: map[schemas.Cause]CauseRetry{schemas.CauseSize: {Attempts: 5}}}, schemas.CauseSize, 1, -1},
		{"no number that fits", &RetryPolicy{Attempts: 100, Backoff: &Backoff{First: math.MaxInt64, Factor: 1e300, Max: math.MaxInt64, Jitter: 1}}, boot, 99, math.MaxInt64},
	} {
		wait, again := c.p.next(c.cause, c.tries, "key")
		if again != (c.about >= 0) {
			t.Errorf("%s: again %v", c.name, again)
			continue
		}
		if far := math.Abs(float64(wait-c.about)) / float64(c.about); again && far > 0.2 && c.about != math.MaxInt64 || wait < 0 {
			t.Errorf("%s: waits %v, want about %v", c.name, wait, c.about)
		}
	}
}

// The causes that are never tried again are those of the documentation.
func TestHopelessCauses(t *testing.T) {
	p := &RetryPolicy{Attempts: 100}
	never := ""
	for _, c := range schemas.Causes() {
		if _, again := p.next(c, 1, ""); !again {
			never += string(c) + " "
		}
	}
	if never != "size signature already min_version canceled " {
		t.Errorf("never again: %s", never)
	}
}

func TestRetryJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Backoff{
			First:  Duration(rapid.Int64Range(1, int64(240*time.Hour)).Draw(t, "first")),
			Factor: rapid.Float64Range(1, 10).Draw(t, "factor"),
			Jitter: rapid.Float64Range(0.001, 1).Draw(t, "jitter"),
		}
		b.Max = b.First + Duration(rapid.Int64Range(0, int64(240*time.Hour)).Draw(t, "more"))
		p := &RetryPolicy{Attempts: 100, Backoff: b}
		tries, key := rapid.IntRange(1, 99).Draw(t, "tries"), rapid.String().Draw(t, "key")
		wait, again := p.next(network, tries, key)
		plain := min(float64(b.First)*math.Pow(b.Factor, float64(tries-1)), float64(b.Max))
		if low, high := plain*(1-b.Jitter)-1, plain*(1+b.Jitter)+1; !again || wait < 0 || float64(wait) < low || float64(wait) > high {
			t.Fatalf("waits %v (%v), want %v to %v", wait, again, time.Duration(low), time.Duration(high))
		}
		if w, _ := p.next(network, tries, key); w != wait {
			t.Fatalf("%v, and %v the next time", wait, w)
		}
	})
	early := 0
	for i := range 1000 {
		if w, _ := (&RetryPolicy{}).next(network, 1, fmt.Sprint(i)); w < time.Minute {
			early++
		}
	}
	if early < 400 || early > 600 {
		t.Errorf("%d of 1000 waits are shorter than without jitter", early)
	}
}
