package rehearsal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/schemas"
)

// The short forms in which people describe a fleet, as messages show them.
const (
	FaultForm    = "CAUSE=PERCENT%[@LABEL=VALUE]"
	FallBackForm = "PERCENT%[@LABEL=VALUE]"
	LabelForm    = "NAME=VALUE:PERCENT%,VALUE:PERCENT%"
	GroupForm    = "NAME=PERCENT%"
)

// ParsePart reads a part of something: 80% or 0.8.
func ParsePart(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q is no part of something; write 0%% to 100%%, or 0 to 1", s)
	}
	return v, nil
}

// ParseFault reads with which cause attempts fail, how many of them, and of which
// devices: checksum=2%, boot=100%@rev=B.
func ParseFault(s string) (Fault, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok {
		return Fault{}, fmt.Errorf("%q is no fault; write %s", s, FaultForm)
	}
	if !slices.Contains(Causes(), schemas.Cause(name)) {
		return Fault{}, fmt.Errorf("%q: devices do not fail with cause %q here; the causes are %s", s, name, causeNames())
	}
	f, err := ParseFallBack(rest)
	f.Cause = schemas.Cause(name)
	return f, err
}

// ParseFallBack reads how many devices fall back, and which: 30%, 100%@rev=B.
func ParseFallBack(s string) (f Fault, err error) {
	chance, where, restricted := strings.Cut(s, "@")
	if f.Chance, err = ParsePart(chance); err != nil || !restricted {
		return f, err
	}
	if f.Label, f.Value, _ = strings.Cut(where, "="); f.Label == "" || f.Value == "" {
		return f, fmt.Errorf("%q does not say which devices; write @LABEL=VALUE behind the percentage", s)
	}
	return f, nil
}

func causeNames() string {
	var names []string
	for _, c := range Causes() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// ParseLabel reads the values of a label: rev=A:70%,B:30%.
func ParseLabel(s string) (Label, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return Label{}, fmt.Errorf("%q is no label; write %s", s, LabelForm)
	}
	l := Label{Name: name}
	for _, one := range strings.Split(rest, ",") {
		i := strings.LastIndexByte(one, ':')
		if i < 1 {
			return l, fmt.Errorf("%q does not say how many devices have %q; write %s", s, one, LabelForm)
		}
		part, err := ParsePart(one[i+1:])
		if err != nil {
			return l, err
		}
		l.Values = append(l.Values, Share{one[:i], part})
	}
	if l.parts() > wholeFleet {
		return l, fmt.Errorf("%q: these are more than 100 %% of the devices", s)
	}
	return l, nil
}

// ParseGroup reads how many devices belong to a group: lab=2%.
func ParseGroup(s string) (Group, error) {
	name, part, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return Group{}, fmt.Errorf("%q is no group; write %s", s, GroupForm)
	}
	p, err := ParsePart(part)
	return Group{name, p}, err
}

type unit struct {
	name  string
	bytes float64
}

// units are what sizes are written in.
func units() []unit {
	return []unit{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
}

// ParseSize reads a number of bytes: 512KiB, 1.5MB, 2048.
func ParseSize(s string) (float64, error) {
	for _, u := range units() {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if v, err := strconv.ParseFloat(number, 64); err == nil && v*u.bytes >= 1 && v*u.bytes <= 1<<40 {
			return v * u.bytes, nil
		}
		break
	}
	return 0, fmt.Errorf("%q is no size; write a number of bytes such as 512KiB, 2MB or 65536", s)
}

// ParseRate reads a number of bytes per second: 50KiB/s.
func ParseRate(s string) (float64, error) {
	v, err := ParseSize(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return 0, fmt.Errorf("%q is no speed; write bytes per second such as 50KiB/s", s)
	}
	return v, nil
}

// ParseSpan reads a time, in days as well: 7d, 1d12h, 90s.
func ParseSpan(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	rest, days := s, 0
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil || n < 0 || n > 3650 {
			return 0, noSpan(s)
		}
		days, rest = n, after
	}
	if rest == "" && days > 0 {
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		return 0, noSpan(s)
	}
	return time.Duration(days)*day + d, nil
}

func noSpan(s string) error {
	return fmt.Errorf("%q is no time; write it with a unit, such as 90s, 20m, 12h or 7d", s)
}
