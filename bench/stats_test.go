package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 3}, spread{1, 3, 5}},
		{[]float64{4, 1, 2, 3}, spread{1, 2.5, 4}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

// The ratio is that of each run, not of the medians.
func TestRatiosAreOfTheSameRun(t *testing.T) {
	a, b := []float64{10, 40, 30}, []float64{20, 10, 30}
	got := ratios(a, b, func(v float64) float64 { return v })
	if want := (spread{0.5, 1, 4}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// A bucket holds what it says, and is at most a sixteenth wide.
func TestHistogramBuckets(t *testing.T) {
	for d := time.Duration(0); d < 20*time.Minute; d += 1 + d/33 {
		i := bucketOf(d)
		if top := bucketTop(i); top < d.Truncate(histogramUnit) || top > d+d/16+histogramUnit {
			t.Fatalf("%s is in bucket %d, which ends at %s", d, i, top)
		}
		if i > 0 && bucketTop(i-1) >= d.Truncate(histogramUnit) {
			t.Fatalf("%s is in bucket %d, but that before it ends at %s", d, i, bucketTop(i-1))
		}
	}
	if last := len(histogram{}.counts) - 1; bucketOf(1<<62) != last {
		t.Errorf("what is too long is in bucket %d, want %d", bucketOf(1<<62), last)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var all, half histogram
	if got := all.quantile(0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var values []time.Duration
	for i := range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		values = append(values, d)
		if i%2 == 0 {
			all.add(d, 1)
		} else {
			half.add(d, 1)
		}
	}
	all.merge(&half)
	slices.Sort(values)
	for _, q := range []float64{0.01, 0.5, 0.99, 1} {
		want := values[min(int(q*10_000), 9_999)]
		if got := all.quantile(q); got < want*15/16-histogramUnit || got > want*17/16+2*histogramUnit {
			t.Errorf("quantile %g is %s, want about %s", q, got, want)
		}
	}
}
