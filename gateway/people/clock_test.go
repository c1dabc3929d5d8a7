package people_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"davit/gateway/people"
)

const day = 24 * time.Hour

// set sets the clock, with a restart as often as not: what is in the store and what is in memory have to agree.
func (r *rig) set(d time.Duration, restart bool) {
	r.clock.pass(d)
	if restart {
		r.reopen(boundless())
	}
}

// TestSessionsAndTheClock: no session lasts for longer because the clock was ahead or was set back, and none that was
// refused comes back.
func TestSessionsAndTheClock(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, c := range []struct {
			name        string
			before, set time.Duration // how long it is unused, and by how much the clock is set then
			good        bool
		}{
			{"set back by a minute", 0, -time.Minute, true},
			{"set back by days", time.Hour, -3 * day, false},
			{"set back by years", time.Hour, -3650 * day, false},
			{"ahead by an hour", 0, time.Hour, true},
			{"ahead by a year", 0, 365 * day, false},
		} {
			t.Run(fmt.Sprintf("%s, restart %t", c.name, restart), func(t *testing.T) {
				r := newRig(t)
				r.user("ann", people.RoleAdmin)
				s := r.signIn("ann")
				r.clock.pass(c.before)
				r.set(c.set, restart)
				_, err := r.Session(t.Context(), s.Token)
				if c.good {
					r.wants(err, nil)
					return
				}
				r.wants(err, people.ErrNoSession)
				r.clock.pass(-c.set) // the clock is right again
				_, err = r.Session(t.Context(), s.Token)
				r.wants(err, people.ErrNoSession)
				r.signIn("ann")
			})
		}
	}
}

// TestSessionsOfAClockThatWasAhead: they make way for those of now, which they would outlive.
func TestSessionsOfAClockThatWasAhead(t *testing.T) {
	r := newRig(t)
	r.reopen(boundless())
	r.user("ann", people.RoleAdmin)
	r.clock.pass(365 * day)
	for range 50 {
		r.signIn("ann")
	}
	r.clock.pass(-365 * day)
	var now []people.Session
	for range 50 {
		now = append(now, r.signIn("ann"))
	}
	for i, s := range now {
		if _, err := r.Session(t.Context(), s.Token); err != nil {
			t.Fatalf("session %d of 50: %v", i, err)
		}
	}
}

// TestTokensAndTheClock: a token is good between its making and its end, by the clock.
func TestTokensAndTheClock(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	made, err := r.CreateToken(t.Context(), "ann", people.NewToken{Name: "robot"})
	r.wants(err, nil)
	for _, c := range []struct {
		set  time.Duration
		good bool
	}{{-time.Minute, true}, {-time.Hour, false}, {-3650 * day, false}, {0, true}, {people.TokenDefault - 1, true}, {people.TokenDefault, false}} {
		r.set(c.set, true)
		_, err := r.Bearer(t.Context(), made.Secret)
		if (err == nil) != c.good || err != nil && !errors.Is(err, people.ErrNoSession) {
			t.Errorf("the clock is set by %v: %v", c.set, err)
		}
		r.clock.pass(-c.set)
	}
}

// TestLocksAndTheClock: a lock never lasts for longer than it was made for, and a name that nobody has looks the same.
func TestLocksAndTheClock(t *testing.T) {
	for _, name := range []string{"bob", "nobody"} {
		for _, back := range []time.Duration{2 * time.Hour, 30 * day} {
			t.Run(fmt.Sprintf("%s, set back by %v", name, back), func(t *testing.T) {
				r := newRig(t)
				r.reopen(boundless())
				r.user("bob", people.RoleViewer)
				try := func(password string) error {
					_, err := r.SignIn(t.Context(), name, password, here)
					return err
				}
				for range 4 {
					r.wants(try(wrong), people.ErrSignIn)
				}
				if got := r.until(try(wrong)); got != time.Minute {
					t.Fatalf("locked for %v", got)
				}
				r.clock.pass(-back)
				if u, err := r.User(t.Context(), "bob"); err != nil || !u.LockedUntil.IsZero() {
					t.Errorf("it shows as locked: %+v, %v", u, err)
				}
				if got := r.until(try(wrong)); got != 2*time.Minute {
					t.Errorf("the next wrong password locks for %v", got)
				}
				r.clock.pass(time.Minute)
				if got := r.until(try(password)); got != time.Minute {
					t.Errorf("the new lock has %v left", got)
				}
			})
		}
	}
}

// TestLimitsAndTheClock: tries are had back at the same pace after the clock was set back, and addresses are forgotten.
func TestLimitsAndTheClock(t *testing.T) {
	r := newRig(t)
	r.reopen(people.Limits{PerAddress: 1, Burst: 2, Overall: 1e9, OverallBurst: 1e6})
	limited := func(address string) bool {
		_, err := r.FirstAdmin(t.Context(), wrong, people.NewUser{}, address)
		return errors.Is(err, people.ErrTooManyTries)
	}
	for i := range 10_001 { // one more than are remembered, so that it was tidied
		limited(fmt.Sprintf("10.%d.%d.1:1", i>>8, i&255))
	}
	_, _ = limited(here), limited(here)
	r.clock.pass(-30 * day)
	limited(here)
	for range 100 {
		r.clock.pass(2 * time.Minute)
		if limited("10.0.0.1:1") {
			t.Fatal("limited after two minutes")
		}
	}
	for i := range 3 {
		if limited(fmt.Sprintf("11.0.%d.1:1", i)) {
			t.Errorf("new address %d shares its limit with others", i)
		}
	}
}
