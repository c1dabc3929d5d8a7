package session

import (
	"testing"
	"time"
)

// at is a time so many seconds from the beginning.
func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name      string
		saw       func(w *Watch)
		back      bool
		old, same time.Time // when each was seen, the zero time for never
	}{
		{"nothing", func(w *Watch) {}, false, time.Time{}, time.Time{}},
		{"the old version", func(w *Watch) { w.SawOld(at(1)) }, false, at(1), time.Time{}},
		{"it twice: the first counts", func(w *Watch) { w.SawOld(at(1)); w.SawOld(at(2)) }, false, at(1), time.Time{}},
		{"the same version", func(w *Watch) { w.SawSame(at(1)); w.SawSame(at(2)) }, false, time.Time{}, at(1)},
		{"both", func(w *Watch) { w.SawSame(at(1)); w.SawOld(at(2)) }, false, at(2), at(1)},
		{"a restart", func(w *Watch) { w.Restart(at(1)) }, true, time.Time{}, time.Time{}},
		{"both before a restart", func(w *Watch) { w.SawOld(at(1)); w.SawSame(at(1)); w.Restart(at(2)) }, true, time.Time{}, time.Time{}},
		{"the old version behind a restart", func(w *Watch) { w.SawOld(at(1)); w.Restart(at(2)); w.SawOld(at(3)) }, true, at(3), time.Time{}},
		{"cleared", func(w *Watch) { w.Restart(at(1)); w.SawOld(at(2)); w.SawSame(at(2)); w.Clear() }, false, time.Time{}, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w Watch
			c.saw(&w)
			if w.Back != c.back || w.Old() != !c.old.IsZero() || w.Same() != !c.same.IsZero() {
				t.Errorf("back %v, old %v, same %v", w.Back, w.Old(), w.Same())
			}
			checkAfter(t, "old", w.OldAfter, c.old)
			checkAfter(t, "same", w.SameAfter, c.same)
		})
	}
}

// checkAfter fails the test unless after is reckoned from a time, and from none if
// that is zero.
func checkAfter(t *testing.T, name string, after func(time.Duration) time.Time, from time.Time) {
	t.Helper()
	want := time.Time{}
	if !from.IsZero() {
		want = from.Add(Grace)
	}
	if got := after(Grace); !got.Equal(want) {
		t.Errorf("%s: %v after the beginning, want %v", name, got.Sub(start), want.Sub(start))
	}
}

// A restart leaves the last word where it is, and has the version asked for after
// a while.
func TestWatchRestart(t *testing.T) {
	w := Watch{LastWord: at(100)}
	w.Restart(at(7))
	if !w.LastWord.Equal(at(100)) || !w.ProbeAt.Equal(at(7).Add(ProbeEvery)) {
		t.Errorf("%+v", w)
	}
}

func TestEarliestAndPassed(t *testing.T) {
	never := time.Time{}
	for _, c := range []struct {
		of   []time.Time
		want time.Time
	}{
		{nil, at(5)},
		{[]time.Time{never}, at(5)},
		{[]time.Time{at(6)}, at(5)},
		{[]time.Time{at(4), never, at(3), at(9)}, at(3)},
	} {
		if got := Earliest(at(5), c.of...); !got.Equal(c.want) {
			t.Errorf("the earliest of 5 and %v is %v", c.of, got.Sub(start))
		}
	}
	for _, c := range []struct {
		at, now time.Time
		want    bool
	}{{never, at(5), false}, {at(4), at(5), true}, {at(5), at(5), true}, {at(6), at(5), false}} {
		if got := Passed(c.at, c.now); got != c.want {
			t.Errorf("%v has passed at %v: %v", c.at.Sub(start), c.now.Sub(start), got)
		}
	}
}
