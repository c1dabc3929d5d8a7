package rehearsal

import (
	"fmt"
	"math"
	"testing"

	"davit/schemas"
)

func TestShortForms(t *testing.T) {
	text := func(v any, err error) string {
		if err != nil {
			return "refused"
		}
		return fmt.Sprint(v)
	}
	fault := func(s string) string { f, err := ParseFault(s); return text(f, err) }
	back := func(s string) string { f, err := ParseFallBack(s); return text(f, err) }
	label := func(s string) string { l, err := ParseLabel(s); return text(l, err) }
	group := func(s string) string { g, err := ParseGroup(s); return text(g, err) }
	size := func(s string) string { v, err := ParseSize(s); return text(v, err) }
	rate := func(s string) string { v, err := ParseRate(s); return text(v, err) }
	part := func(s string) string { v, err := ParsePart(s); return text(v, err) }
	span := func(s string) string { v, err := ParseSpan(s); return text(v, err) }
	for _, test := range []struct {
		parse    func(string) string
		in, want string
	}{
		{part, "80%", "0.8"}, {part, "0.25", "0.25"}, {part, "100%", "1"}, {part, "0", "0"},
		{part, "101%", "refused"}, {part, "-1%", "refused"}, {part, "NaN", "refused"}, {part, "", "refused"}, {part, "2", "refused"},
		{fault, "checksum=2%", "{checksum 0.02  }"}, {fault, "boot=100%@rev=B", "{boot 1 rev B}"}, {fault, "boot=1%@zone=Europe/Berlin", "{boot 0.01 zone Europe/Berlin}"},
		{fault, "boot", "refused"}, {fault, "meteor=1%", "refused"}, {fault, "boot=x", "refused"}, {fault, "boot=1%@rev", "refused"}, {fault, "boot=1%@=B", "refused"},
		{back, "30%", "{ 0.3  }"}, {back, "30%@rev=B", "{ 0.3 rev B}"}, {back, "x%", "refused"},
		{label, "rev=A:70%,B:30%", "{rev [{A 0.7} {B 0.3}]}"}, {label, "zone=Europe/Berlin:50%", "{zone [{Europe/Berlin 0.5}]}"},
		{label, "rev", "refused"}, {label, "rev=A", "refused"}, {label, "rev=A:70%,B:40%", "refused"}, {label, "=A:1%", "refused"}, {label, "rev=:1%", "refused"},
		{group, "lab=2%", "{lab 0.02}"}, {group, "lab", "refused"}, {group, "=2%", "refused"}, {group, "lab=x", "refused"},
		{size, "512KiB", "524288"}, {size, "2MB", "2e+06"}, {size, "65536", "65536"}, {size, "1.5kB", "1500"}, {size, "10B", "10"}, {size, "1MiB", "1.048576e+06"},
		{size, "0", "refused"}, {size, "x", "refused"}, {size, "-1KiB", "refused"}, {size, "NaN", "refused"}, {size, "Inf", "refused"},
		{rate, "50KiB/s", "51200"}, {rate, "1000", "1000"}, {rate, "50KiB/m", "refused"},
		{span, "7d", "168h0m0s"}, {span, "1d12h", "36h0m0s"}, {span, "90s", "1m30s"}, {span, "0s", "0s"},
		{span, "", "refused"}, {span, "x", "refused"}, {span, "-1h", "refused"}, {span, "d", "refused"}, {span, "-1d", "refused"}, {span, "99999d", "refused"}, {span, "5", "refused"},
	} {
		if got := test.parse(test.in); got != test.want {
			t.Errorf("%q is %s, want %s", test.in, got, test.want)
		}
	}
}

// TestChances: what devices get is what the parts say, and each attempt fails with the
// first cause that it meets.
func TestChances(t *testing.T) {
	l := Label{"rev", []Share{{"A", 0.5}, {"B", 0.25}}}
	for u, want := range map[float64]string{0: "A", 0.49: "A", 0.5: "B", 0.74: "B", 0.75: "", 0.99: ""} {
		if got := l.value(u); got != want {
			t.Errorf("%g is %q, want %q", u, got, want)
		}
	}
	const n = 2000
	w := &world{cfg: config(n), byID: map[string]*device{}, stage: map[schemas.Cause]int{}}
	for i, c := range Causes() {
		w.stage[c] = i
	}
	w.cfg.Fleet.Faults = []Fault{{Cause: schemas.CauseBoot, Chance: 0.5}, {Cause: schemas.CauseNetwork, Chance: 0.2}}
	w.makeDevices(nil)
	got := map[schemas.Cause]int{}
	for _, d := range w.devices {
		d.job.Version = newVersion
		got[w.draw(d).cause]++
	}
	for cause, want := range map[schemas.Cause]float64{schemas.CauseNetwork: 0.2, schemas.CauseBoot: 0.4, schemas.CauseNone: 0.4} {
		if part := float64(got[cause]) / n; math.Abs(part-want) > 0.04 {
			t.Errorf("cause %q: %g of the attempts, want %g", cause, part, want)
		}
	}
}
