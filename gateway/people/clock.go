package people

import "time"

// clockSlack is how far ahead of the clock something may have happened that is believed: NTP sets a clock back by
// less when it keeps it.
const clockSlack = 5 * time.Minute

// toCome says whether the clock says that a past moment is still to come. Then it was set back since, or was ahead at that
// moment, and how long ago the moment is cannot be told.
func toCome(at, now time.Time) bool { return at.After(now.Add(clockSlack)) }
