package orchestrator

import (
	"testing"
	"time"
)

// loadOf is a wave of n devices that take a minute each, every tenth of them in a
// group and every fifth in another one.
func loadOf(n int) waveLoad {
	l := waveLoad{groups: make([]waveLoad, 2)}
	for i := range n {
		var groups uint16
		if i%10 == 0 {
			groups |= 1
		}
		if i%5 == 0 {
			groups |= 2
		}
		l.add(time.Minute, 1, groups)
	}
	return l
}

// paceOf is the pace of two groups.
func paceOf(a, b GroupPace) *Rollout { return &Rollout{Pace: &Pace{Groups: []GroupPace{a, b}}} }

func TestEstimate(t *testing.T) {
	const m, h = time.Minute, time.Hour
	nightly := &Schedule{Windows: []Window{window("0 1 * * *", h, "")}} // it is noon
	for _, c := range []struct {
		name  string
		r     *Rollout
		loads []int
		soak  time.Duration // of all but the last
		want  []time.Duration
		limit int // of the service
	}{
		{"without a rollout", nil, []int{1000}, 0, []time.Duration{m}, 0},
		{"without devices", nil, []int{0}, 0, []time.Duration{0}, 0},
		{"waves with a soak time", &Rollout{}, []int{1, 10}, h, []time.Duration{m + h, m}, 0},
		{"an empty wave soaks too", &Rollout{}, []int{0, 10}, h, []time.Duration{h, m}, 0},
		{"10 at a time", &Rollout{Pace: &Pace{MaxInProgress: 10}}, []int{100}, 0, []time.Duration{10 * m}, 0},
		{"10 at a time of 3", &Rollout{Pace: &Pace{MaxInProgress: 10}}, []int{3}, 0, []time.Duration{m}, 0},
		{"20 a minute", &Rollout{Pace: &Pace{PerMinute: 20}}, []int{100}, 0, []time.Duration{5*m + m}, 0},
		{"the slower of both", &Rollout{Pace: &Pace{PerMinute: 20, MaxInProgress: 10}}, []int{100}, 0, []time.Duration{10 * m}, 0},
		{"a ramp", &Rollout{Pace: &Pace{PerMinute: 40, Ramp: &Ramp{Start: 10, After: 10}}}, []int{60}, 0, []time.Duration{m + 30*time.Second + m + m}, 0},
		{"a ramp that goes on in the next wave", &Rollout{Pace: &Pace{PerMinute: 40, Ramp: &Ramp{Start: 10, After: 10}}}, []int{10, 10}, 0,
			[]time.Duration{m + m, 30*time.Second + m}, 0},
		{"a group of 10, 2 at a time", paceOf(GroupPace{MaxInProgress: 2}, GroupPace{}), []int{100}, 0, []time.Duration{5 * m}, 0},
		{"the slower of two groups", paceOf(GroupPace{MaxInProgress: 2}, GroupPace{PerMinute: 2}), []int{100}, 0, []time.Duration{10*m + m}, 0},
		{"the service's limit", nil, []int{100}, 0, []time.Duration{20 * m}, 5},
		{"the service's limit above the job's", &Rollout{Pace: &Pace{MaxInProgress: 2}}, []int{100}, 0, []time.Duration{50 * m}, 5},
		{"a start", &Rollout{Schedule: &Schedule{Start: noon.Add(h)}}, []int{1}, 0, []time.Duration{m}, 0},
		{"the next window", &Rollout{Schedule: nightly}, []int{1}, 0, []time.Duration{13*h + m}, 0},
		{"windows one after another", &Rollout{Schedule: nightly, Pace: &Pace{PerMinute: 1}}, []int{90}, 0, []time.Duration{37*h + 30*m + m}, 0},
		{"a soak time over a window", &Rollout{Schedule: nightly}, []int{1, 1}, 2 * h, []time.Duration{15*h + m, 22*h - m + m}, 0},
		{"what is in progress at the end of a window finishes", &Rollout{Schedule: nightly, Pace: &Pace{PerMinute: 1}}, []int{59}, 0, []time.Duration{13*h + 59*m + m}, 0},
	} {
		e, err := newEstimate(c.r, c.limit, noon)
		if err != nil {
			t.Fatal(err)
		}
		sum := time.Duration(0)
		for i, n := range c.loads {
			soak := c.soak
			if i == len(c.loads)-1 {
				soak = 0
			}
			got := e.wave(loadOf(n), soak)
			if sum += got; got.Round(time.Second) != c.want[i] {
				t.Errorf("%s: wave %d takes %v, want %v", c.name, i+1, got, c.want[i])
			}
		}
		if e.at.Sub(e.from) != sum || e.endless {
			t.Errorf("%s: %v in all, the waves are %v; endless %v", c.name, e.at.Sub(e.from), sum, e.endless)
		}
	}
	e, err := newEstimate(&Rollout{Schedule: &Schedule{Windows: []Window{window("0 0 29 2 *", m, "")}}, Pace: &Pace{PerMinute: 1}}, 0, noon)
	if err != nil {
		t.Fatal(err)
	}
	if e.wave(loadOf(1_000_000), 0); !e.endless {
		t.Errorf("a million devices, one in a leap year's minute, are done at %v", e.at)
	}
}

func TestEstimateOfChains(t *testing.T) {
	e, err := newEstimate(&Rollout{Pace: &Pace{PerMinute: 10}}, 0, noon)
	if err != nil {
		t.Fatal(err)
	}
	var l waveLoad
	for range 10 {
		l.add(3*time.Minute, 2, 0) // each is offered two images
	}
	if got := e.wave(l, 0); got != 2*time.Minute+3*time.Minute {
		t.Errorf("takes %v", got)
	}
}
