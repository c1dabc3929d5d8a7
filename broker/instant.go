package broker

import (
	"fmt"
	"time"
)

// instant is a moment in eight bytes, the nanoseconds since 1970, where a time.Time takes
// twenty-four: the service holds one and more of them for each device. Zero is no moment.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixNano())
}

// time is the moment in UTC, the zero time for none.
func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// MarshalText is the time as in RFC 3339.
func (i instant) MarshalText() ([]byte, error) { return i.time().MarshalText() }

// UnmarshalText takes a time as in RFC 3339 of which there are nanoseconds since 1970.
func (i *instant) UnmarshalText(text []byte) error {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil {
		return err
	}
	if got := instantOf(t); got.time().Equal(t) {
		*i = got
		return nil
	}
	return fmt.Errorf("%s is too far from now; times are from 1678 to 2261", text)
}
