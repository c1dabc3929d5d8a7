// Package clock says which moments of the past a clock may be believed about. It
// owns how far ahead of it such a moment may lie, and nothing else: the time is
// an argument, and it imports nothing of this module.
//
// What was made, used or decided is in the past. If its time is still to come by
// the clock, the clock was set back since, or was ahead at that moment, and how
// long ago it was cannot be told. Whatever waits for an age would then wait for
// longer by as much as the clock was moved, so it has to decide otherwise.
package clock

import "time"

// Slack is how far ahead of the clock something may have happened that is believed
// all the same: NTP sets a clock back by less when it keeps it.
const Slack = 5 * time.Minute

// ToCome says whether a moment of the past is still to come by the clock, by more
// than Slack.
func ToCome(at, now time.Time) bool { return at.After(now.Add(Slack)) }
