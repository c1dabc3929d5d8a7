package people

import (
	"slices"
	"time"
)

// Locking a user after wrong passwords.
const (
	// lockAfter wrong passwords in a row lock a user, and each further one again.
	lockAfter = 5
	// firstLock is doubled with each further wrong password, up to longestLock.
	firstLock   = time.Minute
	longestLock = time.Hour
	// maxHomes is how many networks of a user are remembered.
	maxHomes = 8
)

// lockFor is how long the given number of failures in a row locks.
func lockFor(failures int) time.Duration {
	if failures < lockAfter {
		return 0
	}
	return min(firstLock<<min(failures-lockAfter, 10), longestLock)
}

// lockedAt returns until when the given number of failures lock, the zero time if they do not. A lock that would last for
// longer than it was made for began before the clock was set back, and is over: the next wrong password makes the next one.
func lockedAt(failures int, until, now time.Time) time.Time {
	if !now.Before(until) || until.Sub(now) > lockFor(failures) {
		return time.Time{}
	}
	return until
}

// home is a network (see Network) from which a user has signed in. Wrong passwords
// from there are counted apart, and only they lock there: otherwise anybody who
// knows a name could keep its user out for ever, by a wrong password now and then.
type home struct {
	Network     string    `json:"network"`
	SignedInAt  time.Time `json:"signed_in_at"`
	Failures    int       `json:"failures,omitempty"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// lock returns what is counted for an address: the failures, and until when they
// lock.
func (u *userRecord) lock(address string) (failures *int, until *time.Time) {
	for i := range u.Homes {
		if h := &u.Homes[i]; h.Network == Network(address) {
			return &h.Failures, &h.LockedUntil
		}
	}
	return &u.Failures, &u.LockedUntil
}

// latestLock is the latest end of a lock, wherever it holds; the zero time if none does.
func (u *userRecord) latestLock(now time.Time) time.Time {
	latest := lockedAt(u.Failures, u.LockedUntil, now)
	for _, h := range u.Homes {
		if until := lockedAt(h.Failures, h.LockedUntil, now); until.After(latest) {
			latest = until
		}
	}
	return latest
}

// unlock ends all locks and forgets the failures. The homes stay.
func (u *userRecord) unlock() {
	u.Homes = slices.Clone(u.Homes)
	u.Failures, u.LockedUntil = 0, time.Time{}
	for i := range u.Homes {
		u.Homes[i].Failures, u.Homes[i].LockedUntil = 0, time.Time{}
	}
}

// cameHome notes that the user has signed in from an address with the right
// password. A lock against other networks stays until it is over.
func (u *userRecord) cameHome(address string, now time.Time) {
	at := Network(address)
	u.Homes = slices.DeleteFunc(slices.Clone(u.Homes), func(h home) bool { return h.Network == at })
	u.Homes = append(u.Homes, home{Network: at, SignedInAt: now})
	if len(u.Homes) > maxHomes {
		u.Homes = u.Homes[1:] // the one that was used the longest ago
	}
	if lockedAt(u.Failures, u.LockedUntil, now).IsZero() {
		u.Failures, u.LockedUntil = 0, time.Time{}
	}
}
