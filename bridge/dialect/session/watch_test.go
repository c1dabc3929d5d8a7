package session

import (
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
)

// at is a time so many seconds from the beginning.
func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// watched is a leg to version "new" whose MCU has 100 s to boot and 50 s to report.
func watched(u dialect.Update) Leg {
	u.Version, u.BootTimeout, u.VersionTimeout = "new", 100*time.Second, 50*time.Second
	return NewLeg(u, usual)
}

// What proves an update that the MCU was told to boot, and what is due when
// otherwise.
func TestWatchOfABoot(t *testing.T) {
	forced := dialect.Update{Force: true}
	hears := func(version string, seconds int) func(l *Leg) bool {
		return func(l *Leg) bool { return l.Heard(version, at(seconds)) }
	}
	restarts := func(seconds int) func(l *Leg) bool {
		return func(l *Leg) bool { l.Restarted(at(seconds)); l.ProbeAt = time.Time{}; return false }
	}
	obeys := func(l *Leg) bool { l.Obeyed = true; return false }
	for _, c := range []struct {
		name   string
		u      dialect.Update
		before string // reported before the boot
		steps  []func(l *Leg) bool
		proven bool
		due    Due
		at     time.Time // when it is due
	}{
		{"nothing", dialect.Update{}, "old", nil, false, DueLate, at(100)},
		{"the image's version", dialect.Update{}, "old", []func(l *Leg) bool{hears("new", 1)}, true, 0, time.Time{}},
		{"the old one before a restart says nothing", dialect.Update{}, "old", []func(l *Leg) bool{hears("old", 1)}, false, DueLate, at(100)},
		{"the old one after a restart", dialect.Update{}, "old", []func(l *Leg) bool{restarts(1), hears("old", 2), hears("old", 4)}, false, DueOld, at(2).Add(Grace)},
		{"a restart takes it back", dialect.Update{}, "old", []func(l *Leg) bool{restarts(1), hears("old", 2), restarts(3)}, false, DueLate, at(53)},
		{"restarts without end", dialect.Update{}, "old", []func(l *Leg) bool{restarts(99), restarts(140)}, false, DueLate, at(150)},
		{"the old one shortly before the end", dialect.Update{}, "old", []func(l *Leg) bool{restarts(1), hears("old", 50)}, false, DueOld, at(51)},
		{"the image's after the old one", dialect.Update{}, "old", []func(l *Leg) bool{restarts(1), hears("old", 2), hears("new", 3)}, true, 0, time.Time{}},
		{"forced, another version ran", forced, "old", []func(l *Leg) bool{hears("new", 1)}, true, 0, time.Time{}},
		{"forced, the same ran", forced, "new", []func(l *Leg) bool{hears("new", 1)}, false, DueLate, at(100)},
		{"forced, the same ran and the MCU restarted", forced, "new", []func(l *Leg) bool{restarts(1), hears("new", 2)}, false, DueSame, at(2).Add(Grace)},
		{"forced, the same ran and the MCU says that it obeyed", forced, "new", []func(l *Leg) bool{obeys, hears("new", 2)}, false, DueSame, at(2).Add(Grace)},
		{"forced, what ran is not known", forced, "", []func(l *Leg) bool{restarts(1), hears("new", 2)}, false, DueSame, at(2).Add(Grace)},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := watched(c.u)
			l.HostVersion = c.before
			l.Boot(at(0))
			proven := false
			for _, step := range c.steps {
				proven = step(&l)
			}
			if proven != c.proven {
				t.Fatalf("proven %v", proven)
			}
			if proven {
				return
			}
			if w := l.Wake(); !w.Equal(c.at) {
				t.Errorf("wakes at %v, want %v", w.Sub(start), c.at.Sub(start))
			}
			if d := l.Due(c.at.Add(-1)); d != DueNothing {
				t.Errorf("%v is due too early", d)
			}
			if d := l.Due(c.at); d != c.due {
				t.Errorf("%v is due, want %v", d, c.due)
			}
		})
	}
}

// What ran at the first boot counts, also over a restart of the bridge.
func TestWatchOfASecondBoot(t *testing.T) {
	for _, c := range []struct {
		name   string
		u      dialect.Update
		hosts  []string // reported at each time that the MCU is told to boot
		proven bool
	}{
		{"what ran first was another", dialect.Update{Force: true}, []string{"old", "new"}, true},
		{"what ran first was the same", dialect.Update{Force: true}, []string{"new", "old"}, false},
		{"an earlier session saw another", dialect.Update{Force: true, ResumeAt: schemas.StateBooting, Before: "old"}, []string{"new"}, true},
		{"an earlier session saw nothing", dialect.Update{Force: true, ResumeAt: schemas.StateBooting}, []string{"old"}, false},
		{"an earlier session got less far", dialect.Update{Force: true, ResumeAt: schemas.StateInstalling, Before: "new"}, []string{"old"}, true},
	} {
		l := watched(c.u)
		for _, host := range c.hosts {
			l.HostVersion = host
			l.Boot(at(0))
		}
		if l.Heard("new", at(1)) != c.proven {
			t.Errorf("%s: proven %v", c.name, !c.proven)
		}
	}
}

// An MCU that an earlier session told to boot: the image's version proves the
// update, another one has to settle.
func TestWatchOfACheck(t *testing.T) {
	l := watched(dialect.Update{})
	l.Check(at(0))
	if l.Heard("old", at(1)); l.Due(at(1).Add(Settle-1)) != DueNothing || l.Due(at(1).Add(Settle)) != DueOld {
		t.Error("another version does not settle")
	}
	l.Restarted(at(2))
	if d := l.Due(at(149)); d != DueNothing {
		t.Errorf("after a restart %v is due", d)
	}
	if d := l.Due(at(150)); d != DueLate {
		t.Errorf("in the end %v is due", d)
	}
	if !l.Heard("new", at(3)) {
		t.Error("the image's version proves nothing")
	}
}

// Outside the two a report proves nothing, and the probe comes before all else.
func TestWatchOfNothing(t *testing.T) {
	l := watched(dialect.Update{})
	l.Boot(at(0))
	l.Enter(10*time.Second, at(0))
	if l.Heard("new", at(1)) || l.HostVersion != "new" {
		t.Errorf("%+v", l)
	}
	l.ProbeAt = at(5)
	if w := l.Wake(); !w.Equal(at(5)) || l.Due(at(11)) != DueProbe {
		t.Errorf("wakes at %v", w)
	}
	l.ProbeAt = time.Time{}
	if l.Due(at(9)) != DueNothing || l.Due(at(10)) != DueLate {
		t.Error("the deadline is not kept")
	}
}

func TestNoProof(t *testing.T) {
	for _, c := range []struct {
		name string
		leg  Leg
		lost bool
		says string
	}{
		{"silent", Leg{Wanted: "new"}, false, "silent since it was told to boot"},
		{"silent after its restart", Leg{Wanted: "new", Watch: Watch{Back: true}, HostVersion: "old", Good: 1}, false, "silent about its version"},
		{"runs on", Leg{Wanted: "new", HostVersion: "old", Good: 1}, false, `did not restart and still runs "old"`},
		{"ran on, and is lost", Leg{Wanted: "new", HostVersion: "old", Good: 1}, true, "silent since it was told to boot"},
	} {
		if r := c.leg.NoProof(c.lost); !strings.Contains(r.Detail, c.says) || r.Cause == schemas.CauseNone {
			t.Errorf("%s: %+v", c.name, r)
		}
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
