package gateway

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/logevent"
	"davit/internal/logonce"
	"davit/schemas"
)

// Every device's messages come out one at a time and in order, whatever the
// number of workers.
func TestLanesKeepEachDevicesOrder(t *testing.T) {
	const devices, each, workers = 50, 60, 16
	q := newLanes(64 << 20)
	var mu sync.Mutex
	next := map[string]byte{}
	busy := map[string]bool{}
	var handled int
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			q.work(func(device string, it item) {
				mu.Lock()
				defer mu.Unlock()
				if busy[device] {
					t.Errorf("two messages of %s at once", device)
				}
				busy[device] = true
				mu.Unlock()
				n := it.payload[0] // somebody else may run here
				mu.Lock()
				if n != next[device] {
					t.Errorf("%s: message %d where %d was due", device, n, next[device])
				}
				next[device]++
				busy[device] = false
				handled++
			})
		})
	}
	for n := range each {
		for d := range devices {
			if !q.put(fmt.Sprint("d", d), item{kind: schemas.KindStatus, payload: []byte{byte(n)}}, 1) {
				t.Fatalf("message %d of device %d was not taken", n, d)
			}
		}
	}
	q.close()
	wg.Wait()
	if handled != devices*each {
		t.Errorf("handled %d messages, put %d", handled, devices*each)
	}
	if q.bytes != 0 || len(q.devices) != 0 {
		t.Errorf("%d bytes and %d lanes are left over", q.bytes, len(q.devices))
	}
	if q.put("d0", item{}, 1) {
		t.Error("a closed queue took a message")
	}
}

// Messages of different devices are handled side by side, as many as there
// are workers: that is what group commit lives on.
func TestLanesHandleDevicesSideBySide(t *testing.T) {
	const workers = 300
	q := newLanes(64 << 20)
	var inside atomic.Int32
	all := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			q.work(func(string, item) {
				if inside.Add(1) == workers {
					close(all)
				}
				<-all // only when everybody is inside does anybody leave
			})
		})
	}
	for d := range workers {
		q.put(fmt.Sprint("d", d), item{}, 1)
	}
	q.close()
	wg.Wait()
}

func TestLanesAreBounded(t *testing.T) {
	q := newLanes(1000 * itemCost)
	for n := range laneDepth {
		if !q.put("flood", item{}, 1) {
			t.Fatalf("message %d was not taken; a lane holds %d", n+1, laneDepth)
		}
	}
	if q.put("flood", item{}, 1) {
		t.Errorf("one device may queue more than %d messages", laneDepth)
	}
	taken := laneDepth
	for d := 0; q.put(fmt.Sprint(d), item{}, 0.5); d++ {
		taken++
	}
	if taken != 500 {
		t.Errorf("half of the queue took %d messages, want 500", taken)
	}
	if !q.put("important", item{}, 1) {
		t.Error("above half of the queue, a message that may use all of it was not taken")
	}
}

func TestRefusalsAreLoggedOncePerDeviceAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		l := refusalLog{log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 3 {
			l.warn(logevent.MessageRefused, "a", "refused")
			l.error(logevent.MessageFailed, "b", "failed")
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines, want one for each device:\n%s", n, log.String())
		}
		time.Sleep(logonce.Every)
		l.error(logevent.MessageFailed, "a", "failed")
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("%d lines, want a third one after a minute:\n%s", n, log.String())
		}
	})
}
