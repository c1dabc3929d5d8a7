package session

import (
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
)

// Times of the watch for the version report.
const (
	// ProbeEvery is how often the version is asked for after the MCU was told
	// to boot: it may say nothing by itself when it is back.
	ProbeEvery = 5 * time.Second
	// Settle is how long the old version has to be reported after a restart
	// of the bridge before the image is offered again: an MCU that was told to
	// boot answers for a moment before it resets.
	Settle = 10 * time.Second
	// Grace is between a report of the old version after the boot and the
	// failure: more may follow, one ack timeout later if something was lost.
	Grace = AckCeiling + 2*time.Second
	// MaxReboots is how often the MCU leg begins anew because the MCU restarted
	// before it could be sure to have heard that it should boot the image.
	MaxReboots = 2
)

// Waiting says what a Watch waits for.
type Waiting byte

const (
	waitingForNothing Waiting = iota
	// Checking: an earlier session told the MCU to boot; what does it run?
	Checking
	// Booting: it was told to boot; does it run the image?
	Booting
)

// Due says what the time has come for in a leg.
type Due byte

const (
	// DueNothing: not yet.
	DueNothing Due = iota
	// DueProbe: the version is to be asked for, and ProbeAt set anew.
	DueProbe
	// DueOld: another version than the image's runs, for good.
	DueOld
	// DueSame: the image's version runs for good, and may have run before.
	DueSame
	// DueLate: the deadline has passed without either.
	DueLate
)

// Watch is the wait for the report of the booted version. A first report is not
// always the last word, so it keeps when each was heard.
type Watch struct {
	// Waits says for what, if for anything.
	Waits Waiting
	// Back says that the MCU has restarted since it was told to boot.
	Back bool
	// Obeyed says that the MCU has said that it did what it was told, in families
	// whose MCUs say that.
	Obeyed bool
	// ProbeAt is when the version is asked for again.
	ProbeAt time.Time

	lastWord time.Time // the watch ends, however often the MCU restarts
	oldAt    time.Time // another version was reported
	sameAt   time.Time // the version was reported that may have run before
}

// Same says whether the image's version was reported that may have run before.
func (w *Watch) Same() bool { return !w.sameAt.IsZero() }

// oldAfter is when a report of another version is taken for good.
func (w *Watch) oldAfter() time.Time {
	if w.Waits == Checking {
		return after(w.oldAt, Settle)
	}
	return after(w.oldAt, Grace)
}

// sameAfter is when a report of the version that may have run before is taken
// for good: an MCU that fell back may say so after it.
func (w *Watch) sameAfter() time.Time { return after(w.sameAt, Grace) }

func after(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

// note keeps the first time.
func note(at *time.Time, now time.Time) {
	if at.IsZero() {
		*at = now
	}
}

// Enter begins a phase in which no version report is waited for.
func (l *Leg) Enter(limit time.Duration, now time.Time) {
	l.Watch, l.Deadline = Watch{}, now.Add(limit)
}

// Check begins the wait for what an MCU runs that an earlier session told to
// boot.
func (l *Leg) Check(now time.Time) {
	l.Watch, l.Deadline = Watch{Waits: Checking}, now.Add(l.BootTimeout+l.VersionTimeout)
}

// Boot begins the wait for the version of an MCU that is about to be told to
// boot.
func (l *Leg) Boot(now time.Time) {
	l.Deadline = now.Add(l.BootTimeout)
	l.Watch = Watch{Waits: Booting, lastWord: l.Deadline.Add(l.VersionTimeout)}
	if !l.told {
		l.told, l.before = true, l.HostVersion
	}
}

// Restarted takes note that the MCU has restarted: what it reported before does
// not count. After a boot it has some time to report its version; an image that starts
// over and over and says none has no more than the boot's last word.
func (l *Leg) Restarted(now time.Time) {
	l.oldAt, l.sameAt = time.Time{}, time.Time{}
	if l.Waits == Booting {
		l.Back, l.ProbeAt = true, now.Add(ProbeEvery)
		l.Deadline = Earliest(l.lastWord, now.Add(l.VersionTimeout))
	}
}

// Heard takes what the MCU says that it runs, and says whether that proves the
// update.
func (l *Leg) Heard(version string, now time.Time) (proven bool) {
	l.HostVersion = version
	match := version == l.Wanted
	switch {
	case l.Waits == waitingForNothing:
		return false
	case match && l.tells():
		return true
	case l.Waits == Checking, !match && l.Back:
		note(&l.oldAt, now)
	case match && (l.Back || l.Obeyed):
		note(&l.sameAt, now)
	}
	// The same version as before the update proves nothing until the MCU has restarted or says that it has taken
	// the image, and another one nothing before that.
	return false
}

// tells says whether a report of the image's version is proof by itself. For a
// forced update it is only if another version ran before.
func (l *Leg) tells() bool { return !l.Force || l.before != "" && l.before != l.Wanted }

// Wake is when Due has something to say.
func (l *Leg) Wake() time.Time {
	return Earliest(l.Deadline, l.ProbeAt, l.oldAfter(), l.sameAfter())
}

// Due says what the time has come for; one thing after the other.
func (l *Leg) Due(now time.Time) Due {
	late := Passed(l.Deadline, now)
	switch {
	case Passed(l.ProbeAt, now):
		return DueProbe
	case Passed(l.oldAfter(), now):
		return DueOld
	case Passed(l.sameAfter(), now), late && l.Same():
		return DueSame
	case late && l.Waits == Booting && !l.oldAt.IsZero():
		return DueOld
	case late:
		return DueLate
	}
	return DueNothing
}

// RunsOn says whether an MCU that was told to boot, and is not lost, did not
// restart and runs what it ran before.
func (l *Leg) RunsOn(lost bool) bool {
	return !l.Back && l.HostVersion != "" && l.Good > 0 && !lost
}

// NoProof is the end of an update whose MCU was told to boot and did not report
// the image's version in time.
func (l *Leg) NoProof(lost bool) dialect.Result {
	switch {
	case l.Back:
		return Silent("about its version after it restarted")
	case l.RunsOn(lost):
		return Failed(schemas.CauseBoot, "The host MCU was told to boot version %q, did not restart and still runs %q.", l.Wanted, l.HostVersion)
	}
	return Silent("since it was told to boot")
}

// FellBack is the end of an update after which the MCU runs another version.
func (l *Leg) FellBack() dialect.Result {
	return Failed(schemas.CauseBoot, "The host MCU restarted and runs version %q, not %q: it refused the image or fell back.", l.HostVersion, l.Wanted)
}

// Earliest is the first of times that is set, and at if none is before it.
func Earliest(at time.Time, times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// Passed says whether at is set and not in the future.
func Passed(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
