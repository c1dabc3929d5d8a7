package logonce

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestOncePerKeyAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limit
		if !l.Allow("a") || l.Allow("a") || !l.Allow("b") {
			t.Fatal("each key is allowed once")
		}
		time.Sleep(Every - 1)
		if l.Allow("a") {
			t.Error("allowed again within the minute")
		}
		time.Sleep(time.Nanosecond)
		if !l.Allow("a") || l.Allow("a") {
			t.Error("after a minute each key is allowed once more")
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limit
		for i := range 3 * most {
			if got := l.Allow(strconv.Itoa(i)); got != (i < most) {
				t.Fatalf("key %d: allowed %v", i, got)
			}
		}
		if len(l.last) != most {
			t.Errorf("%d keys are remembered, want %d", len(l.last), most)
		}
		time.Sleep(Every)
		if !l.Allow("new") || len(l.last) != 1 {
			t.Errorf("after a minute of silence %d keys are remembered", len(l.last))
		}
	})
}
