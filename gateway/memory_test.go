package gateway_test

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// samplePeak watches the memory of the process that Go has from the system and
// has not given back. The function that it returns ends the watching and says by
// how much the memory has grown at most.
func samplePeak(t testing.TB) func() uint64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	before := processMemory()
	peak := before
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, processMemory())
			case <-done:
				return
			}
		}
	})
	end := sync.OnceFunc(func() { close(done); watching.Wait() })
	t.Cleanup(end)
	return func() uint64 {
		end()
		return peak - before
	}
}

func processMemory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
