package orchestrator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors are what `printf 'SEED\0DEVICE' | sha256sum` begins with: a change
// of the order would put the devices of every running job into other waves.
func TestRankNeverChanges(t *testing.T) {
	for _, c := range []struct {
		seed, device string
		rank         uint64
	}{
		{"", "", 0x6e340b9cffb37a98},
		{"spring", "d000", 0x76849895fd2d459c},
		{strings.Repeat("s", 64), strings.Repeat("d", 64), 0x8f3b47ceb9a4f95b},
		{strings.Repeat("s", 200), strings.Repeat("d", 200), 0x2837196d1b74e668},
	} {
		if got := rankOf(c.seed, c.device); got != c.rank {
			t.Errorf("rank of %q, %q is %#x, want %#x", c.seed, c.device, got, c.rank)
		}
	}
	if rankOf("a", "bc") == rankOf("ab", "c") {
		t.Error("seed and device run into one another")
	}
}

func targetsNamed(n int) []target {
	list := make([]target, n)
	for i := range list {
		list[i] = target{fmt.Sprintf("d%05d", i), "pump"}
	}
	return list
}

// sizes counts the members of each wave.
func sizes(ms []member, waves int) []int {
	n := make([]int, waves)
	for _, m := range ms {
		n[m.wave-1]++
	}
	return n
}

func TestPlaceCutsWaves(t *testing.T) {
	canary := Wave{Devices: []string{"d00003", "d00001"}}
	named := map[string]int{"d00003": 1, "d00001": 1}
	percents := func(list ...float64) (ws []Wave) {
		for _, p := range list {
			ws = append(ws, Wave{Percent: p})
		}
		return ws
	}
	for _, c := range []struct {
		name       string
		devices    int
		continuous bool
		waves      []Wave
		named      map[string]int
		want       string // the sizes, or the error
	}{
		{"by percent", 200, false, percents(5, 25, 100), nil, "[10 40 150]"},
		{"up to a whole device", 10, false, percents(1, 11, 100), nil, "[1 1 8]"},
		{"7 % of 100 is 7", 100, false, percents(7, 14, 28, 55, 56, 100), nil, "[7 7 14 27 1 44]"},
		{"the rest", 10, false, percents(50), nil, "[5 5]"},
		{"waves that a small fleet leaves empty", 2, false, percents(1, 2, 50, 100), nil, "[1 0 0 1]"},
		{"by count", 100, false, []Wave{{Count: 1}, {Count: 50}}, nil, "[1 50 49]"},
		{"all by count", 51, false, []Wave{{Count: 1}, {Count: 50}}, nil, "[1 50 0]"},
		{"per cent after a count", 100, false, []Wave{{Count: 5}, {Percent: 10}}, nil, "[5 5 90]"},
		{"named devices are no part of the percentage", 102, false, append([]Wave{canary}, percents(5, 100)...), named, "[2 5 95]"},
		{"named last", 102, false, append(percents(5, 100), Wave{Group: "g"}), map[string]int{"d00000": 3}, "[6 95 1]"},
		{"all named", 2, false, []Wave{{Group: "g"}}, map[string]int{"d00000": 1, "d00001": 1}, "[2 0]"},
		{"too many asked for", 301, false, []Wave{{Devices: []string{"d00000"}}, {Percent: 0.1}, {Count: 500}}, map[string]int{"d00000": 1},
			"rollout/waves/2/count wave 3 asks for 500 devices, and only 299 are left"},
		{"a percentage that is taken", 1000, false, []Wave{{Count: 500}, {Percent: 10}},
			nil, "rollout/waves/1/percent wave 2 goes up to 10 % of the devices that no wave names, which is 100 of 1000, and the waves before take 500 already"},
		{"more will come", 300, true, []Wave{{Count: 500}, {Percent: 10}, {Count: 5}}, nil, "[300 0 0 0]"},
	} {
		r := &Rollout{Waves: c.waves, Continuous: c.continuous}
		r.complete()
		ms, _, err := r.place("seed", targetsNamed(c.devices), c.named)
		got := fmt.Sprint(sizes(ms, len(r.Waves)))
		if f := (*FieldError)(nil); errors.As(err, &f) {
			got = f.Field + " " + strings.TrimPrefix(f.Error(), "invalid: "+f.Field+": ")
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
		}
	}
	if _, _, err := (&Rollout{Waves: percents(5)}).place("seed", targetsNamed(100), nil); err == nil {
		t.Error("devices that are in no wave went unnoticed")
	}
}

func TestCompleteWaves(t *testing.T) {
	for _, c := range []struct{ before, after string }{
		{"", ""},
		{"5 25 100", "wave 1:5 wave 2:25 wave 3:100"},
		{"5 25", "wave 1:5 wave 2:25 rest:100"},
		{"5 100 +g", "wave 1:5 wave 2:100 wave 3:+"},
		{"+g", "wave 1:+ rest:100"},
		{"+g 10", "wave 1:+ wave 2:10 rest:100"},
		{"#10", "wave 1:# rest:100"},
	} {
		r := &Rollout{}
		for _, f := range strings.Fields(c.before) {
			w := Wave{}
			switch f[0] {
			case '+':
				w.Group = f[1:]
			case '#':
				w.Count = 10
			default:
				fmt.Sscan(f, &w.Percent)
			}
			r.Waves = append(r.Waves, w)
		}
		for range 2 { // the second time there is nothing left to do
			r.complete()
			var got []string
			for _, w := range r.Waves {
				mark := fmt.Sprint(w.Percent)
				if w.Group != "" {
					mark = "+"
				} else if w.Count > 0 {
					mark = "#"
				}
				got = append(got, w.Name+":"+mark)
			}
			if s := strings.Join(got, " "); s != c.after {
				t.Errorf("%q becomes %q, want %q", c.before, s, c.after)
			}
		}
	}
	r := &Rollout{Waves: []Wave{{Name: "canary", Count: 1}, {Percent: 100}}}
	if r.complete(); r.Waves[0].Name != "canary" || r.Waves[1].Name != "wave 2" {
		t.Errorf("%+v", r.Waves)
	}
	spare := make([]Wave, 1, 2)
	spare[0] = Wave{Group: "g"}
	(&Rollout{Waves: spare}).complete()
	if spare[:2][1].Name != "" {
		t.Error("complete wrote behind the caller's waves")
	}
}

func waveGen(t *rapid.T, list []target) (*Rollout, map[string]int) {
	r := &Rollout{Continuous: rapid.Bool().Draw(t, "continuous")}
	named := map[string]int{}
	percent := 0.0
	for i := range rapid.IntRange(0, 6).Draw(t, "waves") {
		w := Wave{}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			w.Group = "g"
			for range rapid.IntRange(0, 5).Draw(t, "named") {
				id := rapid.SampledFrom(list).Draw(t, "device").id
				if named[id] == 0 {
					named[id] = i + 1
				}
			}
		case 1:
			w.Count = rapid.IntRange(1, 20).Draw(t, "count")
		default:
			percent = rapid.Float64Range(percent, 100).Draw(t, "percent")
			w.Percent = percent
		}
		if w.explicit() || w.Count > 0 || w.Percent > 0 {
			r.Waves = append(r.Waves, w)
		} else {
			r.Waves = append(r.Waves, Wave{Count: 1})
		}
	}
	r.complete()
	return r, named
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := targetsNamed(rapid.IntRange(1, 200).Draw(t, "devices"))
		r, named := waveGen(t, list)
		seed := rapid.StringN(0, 8, 64).Draw(t, "seed")
		ms, bounds, err := r.place(seed, list, named)
		if err != nil {
			if r.Continuous || !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if !slices.IsSortedFunc(ms, func(a, b member) int {
			return cmp.Or(cmp.Compare(a.wave, b.wave), cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
		}) {
			t.Fatal("not in the order of release")
		}
		seen := map[string]bool{}
		for _, m := range ms {
			seen[m.id] = true
			switch want := named[m.id]; {
			case m.rank != rankOf(seed, m.id):
				t.Fatalf("%s has rank %d", m.id, m.rank)
			case len(r.Waves) == 0 && m.wave != 0, len(r.Waves) > 0 && (m.wave < 1 || m.wave > len(r.Waves)):
				t.Fatalf("%s is in wave %d of %d", m.id, m.wave, len(r.Waves))
			case want > 0 && m.wave != want:
				t.Fatalf("%s is in wave %d, and %d names it", m.id, m.wave, want)
			case want == 0 && m.wave > 0 && r.Waves[m.wave-1].explicit():
				t.Fatalf("%s is in wave %d, which does not name it", m.id, m.wave)
			case want == 0 && m.wave != r.waveFor(m.rank, bounds):
				t.Fatalf("%s is in wave %d and would join %d", m.id, m.wave, r.waveFor(m.rank, bounds))
			}
		}
		if len(ms) != len(list) || len(seen) != len(list) {
			t.Fatalf("%d members, %d different ones, of %d devices", len(ms), len(seen), len(list))
		}
		if len(bounds) != len(r.Waves) {
			t.Fatalf("%d bounds for %d waves", len(bounds), len(r.Waves))
		}
		shuffled := slices.Clone(list)
		slices.Reverse(shuffled)
		if again, _, _ := r.place(seed, shuffled, named); !slices.Equal(again, ms) {
			t.Fatal("the waves depend on the order of the list")
		}
	})
}

// Devices that join later never change the wave of one that is there, and fall
// into the waves in the same parts.
func TestLaterDevicesJoinByRank(t *testing.T) {
	r := &Rollout{Continuous: true, Waves: []Wave{{Devices: []string{"d00000"}}, {Percent: 5}, {Percent: 25}, {Percent: 100}, {Group: "g"}}}
	r.complete()
	_, bounds, err := r.place("s", targetsNamed(10_000), map[string]int{"d00000": 1})
	if err != nil {
		t.Fatal(err)
	}
	if bounds[0] != 0 || bounds[4] != 0 || bounds[3] != math.MaxUint64 || bounds[1] >= bounds[2] {
		t.Fatalf("bounds %#x", bounds)
	}
	n := map[int]int{}
	for i := range 10_000 {
		n[r.waveFor(rankOf("s", fmt.Sprint("later-", i)), bounds)]++
	}
	if n[1] != 0 || n[5] != 0 || n[2] < 400 || n[2] > 600 || n[3] < 1800 || n[3] > 2200 {
		t.Errorf("10,000 later devices went to the waves %v", n)
	}
	for _, rank := range []uint64{0, math.MaxUint64} {
		if w := (&Rollout{}).waveFor(rank, nil); w != 0 {
			t.Errorf("wave %d of a job without waves", w)
		}
	}
	if w := r.waveFor(0, bounds); w != 2 {
		t.Errorf("rank 0 joins wave %d", w)
	}
	if w := r.waveFor(math.MaxUint64, bounds); w != 4 {
		t.Errorf("the highest rank joins wave %d", w)
	}
}

func TestRankIsTheFirstBytesOfTheHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, device := rapid.String().Draw(t, "seed"), rapid.String().Draw(t, "device")
		sum := sha256.Sum256([]byte(seed + "\x00" + device))
		if got := rankOf(seed, device); got != binary.BigEndian.Uint64(sum[:]) {
			t.Fatalf("%#x", got)
		}
	})
}

func BenchmarkPlace1M(b *testing.B) {
	list := targetsNamed(1_000_000)
	r := &Rollout{Waves: []Wave{{Percent: 5}, {Percent: 25}}}
	r.complete()
	b.ReportAllocs()
	for b.Loop() {
		if ms, _, err := r.place("seed", list, nil); err != nil || len(ms) != len(list) {
			b.Fatal(err)
		}
	}
}
