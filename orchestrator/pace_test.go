package orchestrator

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRampRate(t *testing.T) {
	for _, c := range []struct {
		p    *Pace
		want string // after 0, 9, 10, 20, 30, 1000, 1e9 successes
	}{
		{nil, "[0 0 0 0 0 0 0]"},
		{&Pace{}, "[0 0 0 0 0 0 0]"},
		{&Pace{PerMinute: 7}, "[7 7 7 7 7 7 7]"},
		{&Pace{PerMinute: 100, Ramp: &Ramp{Start: 10, After: 10}}, "[10 10 20 40 80 100 100]"},
		{&Pace{PerMinute: 100, Ramp: &Ramp{Start: 10, After: 10, Factor: 1.5}}, "[10 10 15 22 33 100 100]"},
		{&Pace{Ramp: &Ramp{Start: 1, After: 10, Factor: 10}}, "[1 1 10 100 1000 2147483647 2147483647]"},
	} {
		var got []int
		for _, n := range []int{0, 9, 10, 20, 30, 1000, 1e9} {
			got = append(got, c.p.rate(n))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v, want %s", c.p, got, c.want)
		}
	}
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// limiter is what a caller of the limiter keeps, with a record of when how many
// went, on a clock that is not set.
type limiter struct {
	next time.Time
	went []time.Duration
}

// ask lets as many go as may and are wanted, and returns when to ask again.
func (l *limiter) ask(perMinute int, now time.Time, real time.Duration, want int) time.Time {
	n, at := allowance(l.next, perMinute, now)
	n = min(n, want)
	l.next = spend(l.next, perMinute, now, n)
	for range n {
		l.went = append(l.went, real)
	}
	return at
}

// most is the most that went in any 60 s.
func (l *limiter) most() int {
	most, from := 0, 0
	for i, at := range l.went {
		for l.went[from] <= at-time.Minute {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func TestPaceIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.OneOf(rapid.IntRange(1, 130), rapid.IntRange(1, 20_000)).Draw(t, "rate")
		l, real := &limiter{}, time.Duration(0)
		for range rapid.IntRange(1, 300).Draw(t, "calls") {
			at := l.ask(perMinute, noon.Add(real), real, rapid.IntRange(0, 2*perMinute).Draw(t, "want"))
			if rapid.Bool().Draw(t, "when told to") {
				real = max(real, at.Sub(noon))
			} else {
				real += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause"))
			}
		}
		if most := l.most(); most > perMinute {
			t.Fatalf("%d in a minute, %d are allowed", most, perMinute)
		}
	})
}

// Whether the caller wakes up when it is told to, once a second or somewhat late,
// it gets 95 % of the rate.
func TestPaceIsSustained(t *testing.T) {
	const minutes = 10
	for _, perMinute := range []int{1, 2, 7, 59, 60, 61, 62, 100, 119, 120, 121, 600, 1001, 60_000} {
		for _, c := range []struct {
			name  string
			every time.Duration // 0: when it is told to
			late  time.Duration
		}{{"when told to", 0, 0}, {"late", 0, 300 * time.Millisecond}, {"once a second", time.Second, 0}, {"once a second, unevenly", time.Second, 40 * time.Millisecond}} {
			l, calls := &limiter{}, 0
			for now := time.Duration(0); now < minutes*time.Minute; calls++ {
				late := c.late * time.Duration(calls%3) / 2
				at := l.ask(perMinute, noon.Add(now+late), now+late, math.MaxInt)
				if c.every == 0 {
					now = at.Sub(noon)
				} else {
					now += c.every
				}
			}
			if most := l.most(); most > perMinute {
				t.Errorf("%d a minute, %s: %d in a minute", perMinute, c.name, most)
			}
			if perMinute >= 60 && len(l.went) < perMinute*minutes*95/100 {
				t.Errorf("%d a minute, %s: %d in %d minutes", perMinute, c.name, len(l.went), minutes)
			}
			if perMinute < 60 && c.every == 0 && c.late == 0 && len(l.went) != perMinute*minutes {
				t.Errorf("%d a minute, %s: %d in %d minutes", perMinute, c.name, len(l.went), minutes)
			}
			if calls > 3*60*minutes {
				t.Errorf("%d a minute, %s: asked %d times in %d minutes", perMinute, c.name, calls, minutes)
			}
		}
	}
}

// A clock that is set back by an hour neither holds anything up nor lets more
// than one go beyond the limit.
func TestPaceWithClockSetBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.IntRange(1, 2000).Draw(t, "rate")
		back := time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "back"))
		when := time.Duration(rapid.Int64Range(0, int64(3*time.Minute)).Draw(t, "when"))
		l, real := &limiter{}, time.Duration(0)
		for real < 8*time.Minute {
			clock := noon.Add(real)
			if real >= when {
				clock = clock.Add(-back)
			}
			at := l.ask(perMinute, clock, real, math.MaxInt)
			step := max(at.Sub(clock), time.Millisecond)
			if real < when {
				step = min(step, when-real)
			}
			real += step
		}
		if most := l.most(); most > perMinute+1 {
			t.Fatalf("%d in a minute, %d are allowed", most, perMinute)
		}
		after := 0
		for _, at := range l.went {
			if at > when+staleToken {
				after++
			}
		}
		if minutes := (8*time.Minute - when - staleToken).Minutes(); float64(after) < 0.9*float64(perMinute)*minutes-2 {
			t.Fatalf("%d in the %.1f minutes after the clock was set back", after, minutes)
		}
	})
}

func TestNoPace(t *testing.T) {
	if n, at := allowance(noon.Add(time.Hour), 0, noon); n != math.MaxInt32 || at.After(noon) {
		t.Errorf("%d, again at %v", n, at)
	}
	if next := spend(noon, 0, noon, 1000); !next.IsZero() {
		t.Errorf("next %v", next)
	}
	if n, _ := allowance(time.Time{}, 1, noon); n != 1 {
		t.Errorf("%d to begin with", n)
	}
}

// When a ramp raises the rate, what went at the old one counts at the old price.
func TestPaceOfARamp(t *testing.T) {
	p := &Pace{PerMinute: 600, Ramp: &Ramp{Start: 1, After: 1}}
	l, real := &limiter{}, time.Duration(0)
	for real < 12*time.Minute {
		rate := p.rate(len(l.went)) // each succeeds at once
		at := l.ask(rate, noon.Add(real), real, math.MaxInt)
		real = max(at.Sub(noon), real+time.Millisecond)
	}
	if most := l.most(); most > 600 || most < 570 {
		t.Errorf("%d in a minute", most)
	}
}
