package session

import (
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1000, 0)

// waiting takes all questions that wait.
func waiting(a *Asks) []string {
	var names []string
	for name, ok := a.Next(); ok; name, ok = a.Next() {
		names = append(names, name)
	}
	return names
}

func TestAsks(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(a *Asks)
		want []string // what waits to be asked
	}{
		{"nothing was asked for", func(a *Asks) {}, nil},
		{"all", func(a *Asks) { a.All(start) }, []string{"a", "b"}},
		{"all, and taken back", func(a *Asks) { a.All(start); a.None() }, nil},
		{"all, and one was asked", func(a *Asks) { a.All(start); a.Next() }, []string{"b"}},
		{"all, and one was reported", func(a *Asks) { a.All(start); a.Reported("a", "1") }, []string{"b"}},
		{"one", func(a *Asks) { a.Of("b").Want = true }, []string{"b"}},
		{"a new one", func(a *Asks) { a.Of("c").Want = true }, []string{"c"}},
		{"a report of a new one, and all", func(a *Asks) { a.Reported("c", "1"); a.All(start) }, []string{"a", "b", "c"}},
		{"what was reported is forgotten", func(a *Asks) { a.Reported("a", "1"); a.Forget() }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Asks
			a.Of("a")
			a.Of("b")
			c.do(&a)
			if got := waiting(&a); !slices.Equal(got, c.want) {
				t.Errorf("asks for %q, want %q", got, c.want)
			}
		})
	}
}

func TestAsksKeepWhatIsReported(t *testing.T) {
	var a Asks
	if a.Has("a") {
		t.Error("has what was never named")
	}
	a.Reported("a", "1")
	a.Of("b")
	if !a.Has("a") || !a.Has("b") || a.Of("a").Value != "1" || a.Of("b").Value != "" {
		t.Errorf("%+v", a)
	}
	a.Reported("a", "2")
	if v := a.Of("a").Value; v != "2" {
		t.Errorf("keeps %q", v)
	}
	a.Forget()
	if v := a.Of("a").Value; v != "" || !a.Has("a") {
		t.Errorf("keeps %q of before", v)
	}
}

// What is not known is asked for each minute, all of it every ten, and nothing
// during an update.
func TestAsksPoll(t *testing.T) {
	for _, c := range []struct {
		name     string
		after    time.Duration // since all was asked for
		updating bool
		want     []string
	}{
		{"too soon", pollVersion - 1, false, nil},
		{"what is not known", pollVersion, false, []string{"unknown"}},
		{"what is not known, later", refreshVersion - 1, false, []string{"unknown"}},
		{"all", refreshVersion, false, []string{"known", "unknown"}},
		{"during an update", refreshVersion, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Asks
			a.Of("known")
			a.Of("unknown")
			a.All(start)
			waiting(&a)
			a.Reported("known", "1")
			if at := a.PollAt(); !at.Equal(start.Add(pollVersion)) {
				t.Errorf("the first poll is %v after all was asked for", at.Sub(start))
			}
			now := start.Add(c.after)
			a.Poll(now, c.updating)
			if got := waiting(&a); !slices.Equal(got, c.want) {
				t.Errorf("asks for %q, want %q", got, c.want)
			}
			if at := a.PollAt(); !at.After(now) {
				t.Errorf("the next poll is not after this one: %v", at.Sub(now))
			}
		})
	}
}

// A poll that finds a question waiting leaves it.
func TestAsksPollTakesNothingBack(t *testing.T) {
	var a Asks
	a.All(start)
	a.Reported("known", "1")
	a.Of("known").Want = true
	a.Poll(start.Add(pollVersion), false)
	if got := waiting(&a); !slices.Equal(got, []string{"known"}) {
		t.Errorf("asks for %q", got)
	}
}
