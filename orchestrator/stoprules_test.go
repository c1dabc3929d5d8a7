package orchestrator

import (
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/schemas"
)

const (
	none     = schemas.CauseNone
	checksum = schemas.CauseChecksum
	boot     = schemas.CauseBoot
	network  = schemas.CauseNetwork
)

func TestStopRuleBroken(t *testing.T) {
	type causes = map[schemas.Cause]int
	for _, c := range []struct {
		rule      StopRule
		now, base outcomes
		want      string // empty: not broken
	}{
		{StopRule{Percent: 2, Causes: []schemas.Cause{checksum, boot}}, outcomes{120, causes{checksum: 2, boot: 1, network: 50}}, outcomes{},
			"3 of 120 devices failed (2.5 %) with checksum or boot; the limit is 2 %"},
		{StopRule{Percent: 2, Causes: []schemas.Cause{checksum, boot}}, outcomes{120, causes{checksum: 1, boot: 1, network: 50}}, outcomes{}, ""},
		{StopRule{Percent: 2}, outcomes{100, causes{network: 2}}, outcomes{}, "2 of 100 devices failed (2 %); the limit is 2 %"},
		{StopRule{Percent: 1.1}, outcomes{3000, causes{network: 33}}, outcomes{}, "33 of 3000 devices failed (1.1 %); the limit is 1.1 %"},
		{StopRule{Percent: 1.1}, outcomes{3001, causes{network: 33}}, outcomes{}, ""},
		{StopRule{Percent: 100}, outcomes{3, causes{network: 2, boot: 1}}, outcomes{}, "3 of 3 devices failed (100 %); the limit is 100 %"},
		{StopRule{Percent: 30}, outcomes{1, causes{boot: 1}}, outcomes{}, "1 of 1 device failed (100 %); the limit is 30 %"},
		{StopRule{Percent: 30, MinSample: 2}, outcomes{1, causes{boot: 1}}, outcomes{}, ""},
		{StopRule{Percent: 30, MinSample: 2}, outcomes{3, causes{boot: 1}}, outcomes{}, "1 of 3 devices failed (33.33 %); the limit is 30 %"},
		{StopRule{Count: 3, Causes: []schemas.Cause{network}}, outcomes{9, causes{network: 2, boot: 5}}, outcomes{}, ""},
		{StopRule{Count: 3, Causes: []schemas.Cause{network}}, outcomes{9, causes{network: 3}}, outcomes{}, "3 of 9 devices failed with network; the limit is 3"},
		{StopRule{Count: 3, Causes: []schemas.Cause{network, boot, checksum}}, outcomes{9, causes{network: 3}}, outcomes{},
			"3 of 9 devices failed with network, boot or checksum; the limit is 3"},
		{StopRule{Count: 3, Percent: 50}, outcomes{2, causes{network: 1}}, outcomes{}, "1 of 2 devices failed (50 %); the limit is 50 %"},
		{StopRule{Count: 1, Percent: 50}, outcomes{9, causes{network: 1}}, outcomes{}, "1 of 9 devices failed; the limit is 1"},
		{StopRule{Count: 3}, outcomes{9, causes{network: 5}}, outcomes{5, causes{network: 3}}, ""},
		{StopRule{Count: 3}, outcomes{9, causes{network: 5, boot: 1}}, outcomes{5, causes{network: 3}}, "3 of 4 devices failed; the limit is 3"},
		// Two that failed before were cured since; the new failure is no less one.
		{StopRule{Count: 1}, outcomes{9, causes{network: 1, boot: 1}}, outcomes{5, causes{network: 3}}, "1 of 4 devices failed; the limit is 1"},
		// A device that had succeeded before has fallen back: no new one in the sample.
		{StopRule{Percent: 50}, outcomes{5, causes{boot: 1}}, outcomes{5, nil}, "1 of 1 device failed (100 %); the limit is 50 %"},
		{StopRule{Count: 1}, outcomes{}, outcomes{}, ""},
	} {
		got, broken := c.rule.broken(c.now, c.base)
		if got != c.want || broken != (c.want != "") {
			t.Errorf("%+v over %+v but %+v: %q %v, want %q", c.rule, c.now, c.base, got, broken, c.want)
		}
	}
}

// What ended counts is what a recount of the devices' last ends gives.
func TestOutcomesEqualARecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := map[string]schemas.Cause{}
		var o outcomes
		for range rapid.IntRange(0, 60).Draw(t, "ends") {
			device := rapid.SampledFrom(strings.Fields("a b c d e f g")).Draw(t, "device")
			after := rapid.SampledFrom([]schemas.Cause{none, none, checksum, boot, network}).Draw(t, "cause")
			before, ended := last[device]
			o.ended(!ended, before, after)
			last[device] = after
			want := outcomes{Sample: len(last), Failing: map[schemas.Cause]int{}}
			for _, c := range last {
				if c != none {
					want.Failing[c]++
				}
			}
			if o.Sample != want.Sample || !maps.Equal(o.Failing, want.Failing) {
				t.Fatalf("%+v, a recount gives %+v", o, want)
			}
			// A rule that counts from now on has nothing to hold against anybody.
			if s, broken := (&StopRule{Count: 1, Percent: 0.01}).broken(o, o); broken {
				t.Fatal(s)
			}
		}
	})
}

func TestDecimal(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 2: "2", 2.5: "2.5", 100: "100", 33.3333: "33.33", 0.004: "0", 10.10: "10.1"} {
		if got := decimal(v); got != want {
			t.Errorf("%v reads %q, want %q", v, got, want)
		}
	}
}
