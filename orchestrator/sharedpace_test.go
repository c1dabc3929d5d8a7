package orchestrator

import (
	"testing"
	"time"

	"davit/schemas"
)

// paced sends for a while over lines that carry so many bytes a second; what is more is
// missed. It returns the rate in the end.
func paced(p *sharedPace, line float64, followers int, now time.Time, d time.Duration) (time.Time, float64) {
	const chunk = 16 << 10
	room, filled := float64(chunk), now
	for end := now.Add(d); now.Before(end); {
		p.adapt(followers, now)
		if wait := p.wait(now); wait > 0 {
			now = now.Add(wait)
			continue
		}
		p.send(chunk, now)
		room = min(64<<10, room+line*now.Sub(filled).Seconds())
		filled = now
		p.deliveries += followers
		if room >= chunk {
			room -= chunk
		} else {
			p.missed += followers
		}
	}
	return now, p.rate
}

// TestSharedPace: it comes near what the lines carry, stays there, and follows a change both
// ways, within the bounds.
func TestSharedPace(t *testing.T) {
	var p sharedPace
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		line      float64
		low, high float64
	}{
		{8 << 20, 4 << 20, 12 << 20}, {1 << 20, 512 << 10, 2 << 20}, {4 << 20, 2 << 20, 6 << 20}, {1000, leastRate, leastRate},
	} {
		var rate float64
		if now, rate = paced(&p, step.line, 10, now, 10*time.Second); rate < step.low || rate > step.high {
			t.Errorf("%.0f bytes a second over lines of %.0f", rate, step.line)
		}
	}
}

// TestSharedPaceOfRepairs: what followers ask for again counts as well, and one of many does
// not slow it down.
func TestSharedPaceOfRepairs(t *testing.T) {
	for _, tt := range []struct {
		followers int
		slower    bool
	}{{1, true}, {4, true}, {20, false}} {
		now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		var p sharedPace
		p.send(1<<20, now)
		p.repaired = 1 << 20 // by one
		p.adapt(tt.followers, now.Add(rateTime))
		if got := p.rate < firstRate; got != tt.slower {
			t.Errorf("with %d followers the rate is %.0f", tt.followers, p.rate)
		}
	}
}

func ranges(begin, end uint64) []schemas.Range {
	return []schemas.Range{{Offset: begin, Length: end - begin}}
}

// TestOnlyTheForemostAsks: what lies behind all that a follower has asked for is taken as
// missed, what has just been shared as on its way, and what it asks for again later
// as a repair.
func TestOnlyTheForemostAsks(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	st := &stream{size: 100}
	for range 2 {
		st.followers = append(st.followers, &follower{stream: st, chunk: 10, presumed: spans{}.add(0, 100)})
	}
	first, second := st.followers[0], st.followers[1]
	first.ask(1, ranges(0, 30))
	second.ask(1, ranges(0, 10))
	if by, at := st.wanted(0); by == nil || at != 0 {
		t.Fatalf("%v is wanted at %d", by, at)
	}
	if end, _ := st.shared(0, first); end != 10 && end != 30 {
		t.Errorf("shared until %d", end)
	}
	if end, _ := st.shared(10, first); end != 30 {
		t.Errorf("shared until %d of what one has asked for and the other will", end)
	}
	st.share(0, 30, now)
	if by, at := st.wanted(0); by != nil {
		t.Errorf("%d is still wanted", at)
	}
	if again, _ := second.ask(1, ranges(10, 30)); again != 0 || len(second.demand) > 0 {
		t.Errorf("%d bytes count as repaired, %v as asked for, that are on their way", again, second.demand)
	}
	st.settle(now.Add(crossing))
	if again, _ := second.ask(1, ranges(10, 30)); again != 20 || second.demand.size() != 20 {
		t.Errorf("%d bytes count as repaired, %v as asked for", again, second.demand)
	}
	if end, alone := st.shared(10, second); end != 10 || alone != 30 {
		t.Errorf("shared until %d, alone until %d: only one misses that, and both what is behind", end, alone)
	}
}
