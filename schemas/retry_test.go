package schemas

import (
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1": time.Millisecond, "1500": 1500 * time.Millisecond, "0060000": time.Minute, // what is heeded as it is
		"60001": time.Minute, "86400000": time.Minute, "18446744073709551615": time.Minute, // longer than is heeded
		"": 0, "0": 0, "-1": 0, "+5": 0, "1.5": 0, "1e3": 0, "0x10": 0, "1_000": 0, " 5": 0, "5s": 0, "soon": 0, "99999999999999999999": 0, "१": 0, // no advice
	} {
		if got := ParseRetryAfter(value); got != want {
			t.Errorf("%q is %v, want %v", value, got, want)
		}
	}
	for _, d := range []time.Duration{time.Millisecond, 437 * time.Millisecond, MaxRetryAfter} {
		if got := ParseRetryAfter(FormatRetryAfter(d)); got != d {
			t.Errorf("%v comes back as %v", d, got)
		}
	}
}
