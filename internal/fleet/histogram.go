package fleet

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// steps is how many buckets a doubling of time is divided into.
const steps = 16

// histogram counts times from a microsecond to an hour in buckets that grow by a doubling
// every steps, so that a quantile is right within 1/steps. Any goroutine may add to it.
type histogram struct {
	buckets [33 * steps]atomic.Uint64
	count   atomic.Uint64
	longest atomic.Int64
}

// bucket is that of a time in microseconds.
func bucket(us uint64) int {
	if us < steps {
		return int(us)
	}
	exp := bits.Len64(us) - bits.Len64(steps-1) - 1 // us>>exp is from steps to 2*steps-1
	return min((exp+1)*steps+int(us>>exp)-steps, 33*steps-1)
}

// upper is the first time in microseconds that is beyond a bucket.
func upper(b int) uint64 {
	if b < steps {
		return uint64(b) + 1
	}
	exp := b/steps - 1
	return uint64(steps+b%steps+1) << exp
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucket(uint64(d/time.Microsecond))].Add(1)
	h.count.Add(1)
	for {
		old := h.longest.Load()
		if int64(d) <= old || h.longest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Latency is what a histogram says.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (h *histogram) latency() Latency {
	longest := time.Duration(h.longest.Load())
	return Latency{h.count.Load(), milliseconds(h.quantile(0.5)), milliseconds(h.quantile(0.99)), milliseconds(longest)}
}

// milliseconds with three digits behind the point.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// quantile is the time below which the part q of all times are, 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.count.Load())))
	if rank == 0 {
		return 0
	}
	var sum uint64
	for b := range h.buckets {
		if sum += h.buckets[b].Load(); sum >= rank {
			return min(time.Duration(upper(b))*time.Microsecond, time.Duration(h.longest.Load()))
		}
	}
	return time.Duration(h.longest.Load())
}
