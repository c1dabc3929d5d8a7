package orchestrator

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestThroughputIsThatOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoings()
		tell := func() Throughput {
			var a Activity
			d.tell(&a)
			return a.Throughput
		}
		if got := tell(); got != (Throughput{}) {
			t.Errorf("nothing was done: %+v", got)
		}
		for range 30 { // two chunks of 1000 bytes and one report, each half second
			d.sent(2, 2000, time.Now())
			d.reported()
			time.Sleep(500 * time.Millisecond)
		}
		if got, want := tell(), (Throughput{4, 4000, 2}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(5 * time.Second)
		if got := tell(); got.Chunks <= 0 || got.Chunks >= 4 {
			t.Errorf("five seconds later: %+v", got)
		}
		time.Sleep(time.Hour)
		if got := tell(); got != (Throughput{}) {
			t.Errorf("an hour later: %+v", got)
		}
		(*doings)(nil).sent(1, 1, time.Now()) // a streamer without a service
	})
}

func TestAttention(t *testing.T) {
	for _, c := range []struct {
		name string
		p    progressRecord
		why  string
	}{
		{"by a rule", progressRecord{State: JobPaused, Reason: "too many failures"}, AttentionStopped},
		{"by a person", progressRecord{State: JobPaused}, ""},
		{"approval", progressRecord{State: JobRunning, Waits: waitsApproval, Wave: 1}, AttentionApproval},
		{"a soak time", progressRecord{State: JobRunning, Waits: waitsSoak}, ""},
		{"canceled by a rule", progressRecord{State: JobCanceled, Reason: "too many failures"}, ""},
	} {
		got, ok := attention(&c.p)
		if ok != (c.why != "") || got.Why != c.why || ok && got.Reason == "" {
			t.Errorf("%s: %+v %v", c.name, got, ok)
		}
	}
}
