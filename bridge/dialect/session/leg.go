package session

import (
	"fmt"
	"io"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
)

// GoStale is how old the MCU's go may be when the image is ready: after that it
// is offered the image once more.
const GoStale = 30 * time.Second

// AlreadyWait is how long to wait for the version of an MCU that is said to run the
// image already.
const AlreadyWait = 10 * time.Second

// First is what a leg begins with.
type First byte

const (
	// FirstOffer: the image is offered.
	FirstOffer First = iota
	// FirstAsk: the MCU reported the image's version before this update, and is
	// asked for it once more. One that says nothing by itself may have been
	// exchanged since.
	FirstAsk
	// FirstCheck: an earlier session told the MCU to boot. What does it run?
	FirstCheck
)

// MaxRestarts is how often an MCU leg begins anew within one update.
const MaxRestarts = 8

// Limits are what a protocol family assumes where an update says nothing.
type Limits struct {
	// Answer, Verdict, Boot and Version stand for the times of dialect.Update.
	Answer, Verdict, Boot, Version time.Duration
	// VersionProperty is the family's usual one.
	VersionProperty string
}

// Leg is an update under way, as far as every dialect has it: what is to be
// done, how far that is, and what the MCU said of itself meanwhile.
type Leg struct {
	dialect.Update
	Watch
	// Deadline of the phase that the update is in.
	Deadline time.Time
	// GoAt is when the MCU accepted the offer, the zero time if it has to again.
	GoAt time.Time
	// Good and Bad count what came from the MCU since the offer, and what came
	// damaged.
	Good, Bad int
	// Wanted is what the MCU reports when it runs the image, HostVersion what it
	// reported last in this update.
	Wanted, HostVersion string

	restarts int
	arrival  <-chan struct{} // closed when more of the image may be there; nil if none is awaited
	told     bool            // the MCU has been told to boot in this update
	before   string          // version at the time it was first told to, "" if unknown
}

// NewLeg takes up an update. If an earlier session told the MCU to boot, the leg
// goes on from there.
func NewLeg(u dialect.Update, l Limits) Leg {
	orDefault(&u.AnswerTimeout, l.Answer)
	orDefault(&u.VerdictTimeout, l.Verdict)
	orDefault(&u.BootTimeout, l.Boot)
	orDefault(&u.VersionTimeout, l.Version)
	if u.VersionProperty == "" {
		u.VersionProperty = l.VersionProperty
	}
	leg := Leg{Update: u, Wanted: u.Version}
	if u.ResumeAt == schemas.StateBooting {
		leg.told, leg.before = true, u.Before
	}
	return leg
}

// Begin says what the leg begins with, starts its clock and asks for a, the property
// that proves it, as far as that needs it.
func (l *Leg) Begin(a *Ask, now time.Time) First {
	switch {
	case l.ResumeAt == schemas.StateBooting:
		l.Check(now)
		return FirstCheck
	case a.Value == l.Wanted && !l.Force:
		l.Enter(min(l.VersionTimeout, AlreadyWait), now)
		a.Want = true
		return FirstAsk
	}
	a.Want = a.Want || a.Value == "" || l.Force
	return FirstOffer
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// End reports r, with what the MCU said that it runs, as the end of the update.
func (l *Leg) End(r dialect.Result) {
	r.HostVersion = l.HostVersion
	l.Reporter.Ended(r)
}

// HasImage says whether the image is there.
func (l *Leg) HasImage() bool {
	select {
	case <-l.Ready:
		return true
	default:
		return false
	}
}

// GoStands says whether the MCU's go is fresh enough to begin on.
func (l *Leg) GoStands(now time.Time) bool {
	return !l.GoAt.IsZero() && now.Sub(l.GoAt) <= GoStale
}

// Again counts that the leg begins anew or goes back to its beginning, and says
// whether it may: not for ever.
func (l *Leg) Again() bool {
	l.restarts++
	return l.restarts <= MaxRestarts
}

// Restarts is how often the leg began anew.
func (l *Leg) Restarts() int { return l.restarts }

// TooOften is the end of a leg that Again stopped; why is half a sentence about
// the last time.
func (l *Leg) TooOften(why string) dialect.Result {
	return Failed(schemas.CauseSerial, "The update was begun %d times and did not get through; the last time %s.", l.restarts, why)
}

// Awaits says whether the bytes that are to be loaded next are arriving yet; the load goes
// on when Arrival is closed.
func (l *Leg) Awaits(offset, length uint64) bool {
	l.arrival = nil
	if l.Arrives != nil {
		l.arrival = l.Arrives(offset, length)
	}
	return l.arrival != nil
}

// Arrival wakes a load that awaits bytes of the image. Call it after what is to be
// sent has been looked for, and Arrived before that.
func (l *Leg) Arrival() <-chan struct{} { return l.arrival }

// Arrived forgets an Arrival that has come.
func (l *Leg) Arrived() {
	select {
	case <-l.arrival:
		l.arrival = nil
	default:
	}
}

// Load reads the image at offset into b. An error is the end of the update.
func (l *Leg) Load(b []byte, offset uint64) (dialect.Result, error) {
	if _, err := l.Image.ReadAt(b, int64(offset)); err != nil && err != io.EOF {
		return Failed(schemas.CauseStorage, "The image cannot be read at byte %d: %v.", offset, err), err
	}
	return dialect.Result{}, nil
}

// Record tells how far the update is. An error is the end of the update: what
// cannot be recorded must not be done.
func (l *Leg) Record(state schemas.State, bytes uint64) (dialect.Result, error) {
	if err := l.Reporter.State(state, bytes); err != nil {
		return Failed(schemas.CauseStorage, "The bridge could not record that the update is %s: %v.", state, err), err
	}
	return dialect.Result{}, nil
}

// Succeeded is the end of an update that the MCU's version proves.
func Succeeded() dialect.Result { return dialect.Result{State: schemas.StateSucceeded} }

// Failed is the end of an update for a cause, without a code of the MCU's own.
func Failed(cause schemas.Cause, format string, args ...any) dialect.Result {
	return dialect.Result{State: schemas.StateFailed, Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

// Rejected is the end of an update that the MCU did not take.
func Rejected(cause schemas.Cause, format string, args ...any) dialect.Result {
	return dialect.Result{State: schemas.StateRejected, Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

// Silent is the end of an update whose MCU said nothing; since is the rest of
// the sentence.
func Silent(since string) dialect.Result {
	return dialect.Result{State: schemas.StateTimedOut, Cause: schemas.CauseTimeout, Detail: "The host MCU was silent " + since + "."}
}

// Unanswered is the end of an update whose offer was never answered; a line on
// which nothing was understood is another cause than an MCU that does not answer.
func (l *Leg) Unanswered(line string) dialect.Result {
	if l.Good == 0 {
		return Failed(schemas.CauseSerial, "The host MCU acknowledged nothing for %v (%d frames came in damaged); check its power and the line's %s.",
			l.AnswerTimeout, l.Bad, line)
	}
	return dialect.Result{
		State: schemas.StateTimedOut, Cause: schemas.CauseTimeout,
		Detail: fmt.Sprintf("The host MCU did not answer the offer within %v.", l.AnswerTimeout),
	}
}
