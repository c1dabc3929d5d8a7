package schemas

import (
	"strconv"
	"time"
)

const (
	// RetryAfterProperty is the user property of a CONNACK of MQTT 5 by which a broker that
	// refuses a connection for the moment advises when to come back: after so many
	// milliseconds, in decimal digits.
	RetryAfterProperty = "retry_after_ms"
	// MaxRetryAfter is the longest time for which that advice is heeded, and the longest
	// that the service gives.
	MaxRetryAfter = time.Minute
)

// FormatRetryAfter is the property's value for a wait, in whole milliseconds.
func FormatRetryAfter(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// ParseRetryAfter reads the property's value. 0 is no advice, as is all that is no number
// of milliseconds; what is longer than MaxRetryAfter counts as that, so that no server silences
// a module for a day.
func ParseRetryAfter(value string) time.Duration {
	ms, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(ms, uint64(MaxRetryAfter.Milliseconds()))) * time.Millisecond
}
