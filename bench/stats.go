package main

import (
	"math/bits"
	"slices"
	"time"
)

// spread is what several runs gave.
type spread struct{ min, median, max float64 }

// spreadOf sums up at least one value. The median of an even number of values is the
// mean of the middle two.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

// spreadBy sums up what f says of each item.
func spreadBy[T any](items []T, f func(T) float64) spread {
	values := make([]float64, len(items))
	for i, it := range items {
		values[i] = f(it)
	}
	return spreadOf(values)
}

// ratios sums up a[i]/b[i]: things that were measured one after the other in run i.
func ratios[T any](a, b []T, f func(T) float64) spread {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = f(a[i]) / f(b[i])
	}
	return spreadOf(values)
}

// histogram counts durations in buckets that are at most a sixteenth wide, relative to
// what is in them. The zero value is empty. One goroutine uses it at a time.
type histogram struct {
	counts [histogramOctaves * histogramSteps]uint32
	n      uint64
}

const (
	// histogramUnit is the finest difference that is told.
	histogramUnit    = time.Microsecond
	histogramSteps   = 16
	histogramOctaves = 28 // up to some 70 minutes
)

// add counts n times d.
func (h *histogram) add(d time.Duration, n uint32) {
	h.counts[bucketOf(d)] += n
	h.n += uint64(n)
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0) / histogramUnit)
	if v < histogramSteps {
		return int(v)
	}
	octave := bits.Len64(v) - 5 // v>>octave is 16 to 31
	return min((octave+1)*histogramSteps+int(v>>octave)-histogramSteps, len(histogram{}.counts)-1)
}

// bucketTop is the longest duration of a bucket.
func bucketTop(i int) time.Duration {
	if i < histogramSteps {
		return time.Duration(i) * histogramUnit
	}
	octave, step := i/histogramSteps-1, i%histogramSteps
	return time.Duration((uint64(histogramSteps+step+1)<<octave)-1) * histogramUnit
}

// merge adds what o has counted.
func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
}

// quantile is a duration that the share q (0 to 1) of what was counted does not
// exceed; 0 if nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	want, sum := uint64(q*float64(h.n)+0.5), uint64(0)
	for i, n := range h.counts {
		if sum += uint64(n); sum >= max(want, 1) {
			return bucketTop(i)
		}
	}
	return 0
}
