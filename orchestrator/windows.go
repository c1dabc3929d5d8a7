package orchestrator

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	// The binary brings the zones: it runs in an empty container image and on
	// machines without the system's files, and an unknown zone would close a window.
	_ "time/tzdata"

	cron "github.com/netresearch/go-cron"
)

// How long a window stays open.
const (
	minWindow = time.Minute
	maxWindow = 168 * time.Hour
)

// timetable are maintenance windows that are ready to be asked. A nil one is
// always open.
type timetable struct{ windows []recurrence }

// recurrence is one window: when it opens, as sets of bits, and for how long.
//
// The expressions are read by go-cron and evaluated here, by the rules of RFC 5545
// section 3.3.5: a time of day that a clock set forward leaves out is read as if it
// had not been set yet, one that comes twice is the first of the two. Where every
// hour counts, the repeated one does too. go-cron's own evaluation depends on the
// moment at which it is asked, and loses openings in changes of half an hour.
type recurrence struct {
	minute, hour, dom, month, dow uint64
	nth                           []cron.DowConstraint
	lasts                         time.Duration
	zone                          *time.Location
}

const (
	everyHour    = 1<<24 - 1
	everyDay     = 1<<32 - 2
	everyWeekday = 1<<7 - 1
)

// compileWindows reads a schedule's windows. Without any the timetable is nil.
func compileWindows(ws []Window) (*timetable, error) {
	if len(ws) == 0 {
		return nil, nil
	}
	t := &timetable{}
	for i, w := range ws {
		field := element("rollout/schedule/windows", i)
		r, err := parseCron(w.Cron)
		if err != nil {
			return nil, invalidField(field+"/cron", "%w", err)
		}
		if r.lasts = time.Duration(w.Duration); r.lasts < minWindow || r.lasts > maxWindow {
			return nil, invalidField(field+"/duration", "%v; a window stays open for 1m to 168h", r.lasts)
		}
		if r.zone, err = zoneNamed(w.Zone); err != nil {
			return nil, invalidField(field+"/zone", "%w", err)
		}
		t.windows = append(t.windows, r)
	}
	return t, nil
}

// zoneNamed is an IANA zone; UTC if it has no name.
func zoneNamed(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("%q is another zone on each server; name one such as Europe/Berlin, or UTC", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not an IANA zone such as Europe/Berlin or UTC", name)
	}
	return zone, nil
}

// parseCron reads an expression of five fields, or a name such as @daily.
func parseCron(expr string) (recurrence, error) {
	none := recurrence{}
	switch {
	case strings.Contains(expr, "TZ="):
		return none, fmt.Errorf("%q names a zone; leave it out and set the window's zone", expr)
	case strings.HasPrefix(expr, "@every"):
		return none, fmt.Errorf("%q has no time of day to begin at; write it with five fields: */30 * * * * is every half hour", expr)
	}
	parsed, err := cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowNth | cron.DowLast).Parse(expr)
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return none, fmt.Errorf("%q does not say when to open in five fields (minute, hour, day of month, month, day of week, such as 0 1 * * mon-fri) or as @daily, @weekly and so on: %w", expr, err)
	}
	r := recurrence{minute: spec.Minute, hour: spec.Hour & everyHour, dom: spec.Dom & everyDay, month: spec.Month, dow: spec.Dow & everyWeekday, nth: spec.DowConstraints}
	r.minute &= 1<<60 - 1 // the library marks a star by another bit
	if r.dom != everyDay && r.dow != everyWeekday {
		return none, fmt.Errorf("%q sets both a day of month and a day of week, which some cron programs read as either and some as both; "+
			"write * for one of them: tue#2 is the second Tuesday of a month, fri#L the last Friday, and either of two days are two windows", expr)
	}
	if !r.everOpens() {
		return none, fmt.Errorf("%q never opens: no day of the next years is one of its days", expr)
	}
	return r, nil
}

// everOpens looks at five years that begin after a leap day, so that only what
// waits for more than one leap day never opens.
func (w *recurrence) everOpens() bool {
	first := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for day := first; day.Before(first.AddDate(5, 0, 0)); day = w.dayAfter(day) {
		if w.opensOn(day) {
			return true
		}
	}
	return false
}

// opensOn expects a day as midnight UTC, as all that deals with days of a
// calendar here.
func (w *recurrence) opensOn(day time.Time) bool {
	if w.month>>day.Month()&1 == 0 || w.dom>>day.Day()&1 == 0 {
		return false
	}
	weekday := day.Weekday()
	if w.dow>>weekday&1 != 0 {
		return true
	}
	for _, c := range w.nth {
		last := c.N < 0 && day.AddDate(0, 0, 7).Month() != day.Month()
		if c.Weekday == int(weekday) && (last || c.N == (day.Day()-1)/7+1) {
			return true
		}
	}
	return false
}

// dayAfter is the next day that is in one of the months.
func (w *recurrence) dayAfter(day time.Time) time.Time {
	day = day.AddDate(0, 0, 1)
	for w.month>>day.Month()&1 == 0 {
		day = time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	}
	return day
}

// maxMerged is how many windows that overlap are followed to their end.
const maxMerged = 32

// at says whether a window is open, and the next moment at which that may change:
// the end of the windows that are open, or the next opening, zero if none comes in
// ten years. With a zone all windows are read by its clock. Of windows without
// end, a moment in between is named.
func (t *timetable) at(now time.Time, zone *time.Location) (open bool, edge time.Time) {
	if t == nil {
		return true, time.Time{}
	}
	end := t.openUntil(now, zone)
	if !end.After(now) {
		return false, t.next(now, zone)
	}
	for range maxMerged {
		later := t.openUntil(end, zone)
		if !later.After(end) {
			break
		}
		end = later
	}
	return true, end
}

// openUntil is the latest end of the windows that have opened by now; it may have passed.
func (t *timetable) openUntil(now time.Time, zone *time.Location) time.Time {
	var end time.Time
	for i := range t.windows {
		w := &t.windows[i]
		if opened := w.last(now, w.clock(zone)); !opened.IsZero() {
			end = later(end, opened.Add(w.lasts))
		}
	}
	return end
}

func (t *timetable) next(now time.Time, zone *time.Location) time.Time {
	var first time.Time
	for i := range t.windows {
		w := &t.windows[i]
		first = earlier(first, w.next(now, w.clock(zone)))
	}
	return first
}

func (w *recurrence) clock(zone *time.Location) *time.Location {
	if zone != nil {
		return zone
	}
	return w.zone
}

// dayOf is the day that a zone's calendar shows.
func dayOf(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// last is the last opening that is not after now, among those whose window may
// still be open; zero if there is none. A clock that is set at midnight can move
// an opening into a neighbouring day, which is why one more is looked at on
// either side.
func (w *recurrence) last(now time.Time, zone *time.Location) time.Time {
	var found time.Time
	until := dayOf(now.Add(-w.lasts), zone).AddDate(0, 0, -1)
	for day := dayOf(now, zone).AddDate(0, 0, 1); !day.Before(until); day = day.AddDate(0, 0, -1) {
		before := found
		if w.opensOn(day) {
			found = later(found, w.lastOn(day, now, zone))
		}
		if !before.IsZero() {
			break
		}
	}
	return found
}

// next is the first opening after now, zero if none comes in ten years, which is
// more than lies between any two leap days.
func (w *recurrence) next(now time.Time, zone *time.Location) time.Time {
	var found time.Time
	from := dayOf(now, zone).AddDate(0, 0, -2)
	for day := w.dayAfter(from); day.Before(from.AddDate(10, 0, 0)); day = w.dayAfter(day) {
		before := found
		if w.opensOn(day) {
			found = earlier(found, w.firstOn(day, now, zone))
		}
		if !before.IsZero() {
			break
		}
	}
	return found
}

// lastOn is the last opening of a day that is not after now. It goes back through
// what the clock shows as long as the offset may make something later of it.
func (w *recurrence) lastOn(day, now time.Time, zone *time.Location) (found time.Time) {
	o := offsetsOf(day, zone)
	for m, ok := w.lastMinute(now.Add(o.high).Sub(day)); ok; m, ok = w.lastMinute(time.Duration(m-1) * time.Minute) {
		shown := day.Add(time.Duration(m) * time.Minute)
		if !found.IsZero() && shown.Add(-o.low).Before(found) {
			break
		}
		for _, at := range w.moments(shown, o) {
			if !at.IsZero() && !at.After(now) {
				found = later(found, at)
			}
		}
	}
	return found
}

// firstOn is the first opening of a day after now.
func (w *recurrence) firstOn(day, now time.Time, zone *time.Location) (found time.Time) {
	o := offsetsOf(day, zone)
	for m, ok := w.firstMinute(now.Add(o.low).Sub(day)); ok; m, ok = w.firstMinute(time.Duration(m) * time.Minute) {
		shown := day.Add(time.Duration(m) * time.Minute)
		if !found.IsZero() && shown.Add(-o.high).After(found) {
			break
		}
		for _, at := range w.moments(shown, o) {
			if at.After(now) {
				found = earlier(found, at)
			}
		}
	}
	return found
}

// widestOffset is more than any zone is away from UTC.
const widestOffset = 15 * time.Hour

// offsets are how much a zone is ahead of UTC around a day: before and after the
// change that the day may have.
type offsets struct {
	before, after, low, high time.Duration
	zone                     *time.Location
}

func offsetsOf(day time.Time, zone *time.Location) offsets {
	before, after := offset(day.Add(-widestOffset), zone), offset(day.Add(24*time.Hour+widestOffset), zone)
	return offsets{before, after, min(before, after), max(before, after), zone}
}

func offset(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// moments are those at which a window opens that is to open when the clock shows
// a time: one, or two where every hour counts and the time comes twice; zero ones
// do not count.
func (w *recurrence) moments(shown time.Time, o offsets) (m [2]time.Time) {
	first, second := shown.Add(-o.before), shown.Add(-o.after)
	if o.before == o.after {
		return [2]time.Time{first}
	}
	isFirst, isSecond := offset(first, o.zone) == o.before, offset(second, o.zone) == o.after
	if isFirst || !isSecond { // if neither, the clock never shows it
		m[0] = first
	}
	if isSecond && (!isFirst || w.hour == everyHour) {
		m[1] = second
	}
	return m
}

// lastMinute is the last minute of a day's openings that is not later than so
// long after midnight.
func (w *recurrence) lastMinute(since time.Duration) (int, bool) {
	if since < 0 {
		return 0, false
	}
	hour, minute := 23, 59
	if since < 24*time.Hour {
		hour, minute = int(since/time.Hour), int(since%time.Hour/time.Minute)
	}
	if w.hour>>hour&1 != 0 {
		if m := w.minute & (2<<minute - 1); m != 0 {
			return hour*60 + bits.Len64(m) - 1, true
		}
	}
	h := w.hour & (1<<hour - 1)
	return (bits.Len64(h)-1)*60 + bits.Len64(w.minute) - 1, h != 0
}

// firstMinute is the first minute of a day's openings that is later than so long
// after midnight.
func (w *recurrence) firstMinute(since time.Duration) (int, bool) {
	if since >= 24*time.Hour {
		return 0, false
	}
	if since < 0 {
		return bits.TrailingZeros64(w.hour)*60 + bits.TrailingZeros64(w.minute), true
	}
	hour, minute := int(since/time.Hour), int(since%time.Hour/time.Minute)
	if w.hour>>hour&1 != 0 {
		if m := w.minute &^ (2<<minute - 1); m != 0 {
			return hour*60 + bits.TrailingZeros64(m), true
		}
	}
	h := w.hour &^ (2<<hour - 1)
	return bits.TrailingZeros64(h)*60 + bits.TrailingZeros64(w.minute), h != 0
}

// later and earlier are the later and the earlier of two times; a zero one does
// not count.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
