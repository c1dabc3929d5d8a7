package rolloutspec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/internal/app/yamlfile"
	"davit/orchestrator"
	"davit/schemas"
)

// The short forms, as messages show them.
const (
	WaveForm   = "5%, 200, group=NAME or device=ID,ID"
	StopForm   = "[CAUSE,...=]COUNT|PERCENT%[/MIN_SAMPLE][:pause|abort|recall][@wave]"
	RampForm   = "START:FACTOR:AFTER"
	WindowForm = "CRON+DURATION[@ZONE]"
)

// ParseWave reads which devices a wave has: 5% (up to that part of the devices that
// no wave names), 200 (so many more of them), group=NAME or device=ID,ID.
func ParseWave(s string) (w orchestrator.Wave, err error) {
	if group, ok := strings.CutPrefix(s, "group="); ok && group != "" {
		return orchestrator.Wave{Group: group}, nil
	}
	if list, ok := strings.CutPrefix(s, "device="); ok && list != "" {
		w.Devices = strings.Split(list, ",")
		if slices.Contains(w.Devices, "") {
			return orchestrator.Wave{}, fmt.Errorf("%q names a device without an id; write device=ID,ID", s)
		}
		return w, nil
	}
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		if w.Percent, err = parsePercent(percent); err == nil && w.Percent == 0 {
			err = errors.New("no devices are in a wave of 0%; leave it out")
		}
		return w, err
	}
	if w.Count, err = strconv.Atoi(s); err != nil || w.Count < 1 {
		return orchestrator.Wave{}, fmt.Errorf("%q is no wave; write %s", s, WaveForm)
	}
	return w, nil
}

// ParsePercent reads a number from 0 to 100, with or without % behind it.
func ParsePercent(s string) (float64, error) { return parsePercent(strings.TrimSuffix(s, "%")) }

func parsePercent(s string) (float64, error) {
	p, err := strconv.ParseFloat(s, 64)
	if err != nil || !(p >= 0 && p <= 100) {
		return 0, fmt.Errorf("%q is no percentage; write a number from 0 to 100", s)
	}
	return p, nil
}

// ParseStop reads a stop rule: which causes count (all if none is named), how many
// failures are enough or how many per cent, from which number of devices on that
// came to an end, what happens then, and whether each wave counts by itself:
// 5, 2%/50:abort, checksum,flash=1%/100:recall@wave.
func ParseStop(s string) (orchestrator.StopRule, error) {
	var r orchestrator.StopRule
	wrong := func(format string, args ...any) (orchestrator.StopRule, error) {
		return orchestrator.StopRule{}, fmt.Errorf("%q: %s; the form is %s", s, fmt.Sprintf(format, args...), StopForm)
	}
	if strings.ContainsAny(s, "<>") {
		return wrong("> and < are not taken, as a rule acts as soon as so many have failed (and a shell reads them for itself)")
	}
	rest, over, scoped := strings.Cut(s, "@")
	if scoped && over != string(orchestrator.OverWave) && over != string(orchestrator.OverJob) {
		return wrong("what counts by itself is wave or job, not %q", over)
	}
	r.Over = orchestrator.RuleScope(over)
	rest, action, acts := strings.Cut(rest, ":")
	if acts && !slices.Contains(StopActions(), action) {
		return wrong("there is no action %q", action)
	}
	r.Action = orchestrator.StopAction(action)
	if causes, limit, ok := strings.Cut(rest, "="); ok {
		rest = limit
		for c := range strings.SplitSeq(causes, ",") {
			if !slices.Contains(schemas.Causes(), schemas.Cause(c)) {
				return wrong("there is no cause %q: %s", c, yamlfile.Suggestion(c, causeNames()))
			}
			r.Causes = append(r.Causes, schemas.Cause(c))
		}
	}
	limit, sample, sampled := strings.Cut(rest, "/")
	percent, relative := strings.CutSuffix(limit, "%")
	var err error
	switch {
	case relative:
		if r.Percent, err = parsePercent(percent); err != nil || r.Percent == 0 {
			return wrong("%q is no percentage above 0", percent)
		}
	case sampled:
		return wrong("a smallest sample goes with a percentage only")
	default:
		if r.Count, err = strconv.Atoi(limit); err != nil || r.Count < 1 {
			return wrong("%q is no number of devices", limit)
		}
	}
	if sampled {
		if r.MinSample, err = strconv.Atoi(sample); err != nil || r.MinSample < 1 {
			return wrong("%q is no number of devices", sample)
		}
	}
	return r, nil
}

// StopActions are what a stop rule can do.
func StopActions() []string {
	return []string{string(orchestrator.StopPause), string(orchestrator.StopAbort), string(orchestrator.StopRecall)}
}

// ParseRamp reads START:FACTOR:AFTER, such as 10:2:50: ten devices a minute at
// first, twice as many after every 50 successes.
func ParseRamp(s string) (orchestrator.Ramp, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return orchestrator.Ramp{}, fmt.Errorf("%q is no ramp; write %s, such as 10:2:50", s, RampForm)
	}
	start, err1 := strconv.Atoi(parts[0])
	factor, err2 := strconv.ParseFloat(parts[1], 64)
	after, err3 := strconv.Atoi(parts[2])
	if errors.Join(err1, err2, err3) != nil || start < 1 || !(factor > 1 && factor < 1e6) || after < 1 {
		return orchestrator.Ramp{}, fmt.Errorf("%q is no ramp; write %s, such as 10:2:50, with whole numbers from 1 on and a factor over 1", s, RampForm)
	}
	return orchestrator.Ramp{Start: start, Factor: factor, After: after}, nil
}

// ParseWindow reads a maintenance window: when it opens (cron), how long it stays
// open, and in which zone the clock is read, UTC if none is named:
// 0 1 * * *+4h@Europe/Berlin.
func ParseWindow(s string) (w orchestrator.Window, err error) {
	const example = `such as "0 1 * * *+4h@Europe/Berlin"`
	rest := s
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		rest, w.Zone = s[:i], s[i+1:]
		if w.Zone == "" {
			return orchestrator.Window{}, fmt.Errorf("%q names no zone behind @; write %s, %s", s, WindowForm, example)
		}
	}
	i := strings.LastIndexByte(rest, '+')
	if i < 0 {
		return orchestrator.Window{}, fmt.Errorf("%q does not say how long the window stays open; write %s, %s", s, WindowForm, example)
	}
	w.Cron = strings.TrimSpace(rest[:i])
	if w.Duration, err = ParseDuration(strings.TrimSpace(rest[i+1:])); err != nil || w.Duration == 0 || w.Cron == "" {
		return orchestrator.Window{}, fmt.Errorf("%q is no window; write %s, %s", s, WindowForm, example)
	}
	return w, nil
}

// ParseDuration reads a time with a unit.
func ParseDuration(s string) (orchestrator.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time; %s", s, yamlfile.TimeForm)
	}
	return orchestrator.Duration(d), nil
}

// ParseInstant reads a point in time.
func ParseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is no point in time; %s", s, yamlfile.InstantForm)
	}
	return t, nil
}

// Phases are the parts of an update that a timeout can be set for.
func Phases() []string { return []string{"answer", "download", "load", "boot", "version", "total"} }

// phase is the field of one of them.
func phase(t *orchestrator.Timeouts, name string) *orchestrator.Duration {
	return map[string]*orchestrator.Duration{
		"answer": &t.Answer, "download": &t.Download, "load": &t.Load, "boot": &t.Boot, "version": &t.Version, "total": &t.Total,
	}[name]
}

// Timeout is how long a phase may take.
type Timeout struct {
	Phase string
	Limit orchestrator.Duration
}

// ParseTimeout reads PHASE=TIME, such as answer=10m.
func ParseTimeout(s string) (Timeout, error) {
	name, limit, ok := strings.Cut(s, "=")
	if !ok || !slices.Contains(Phases(), name) {
		return Timeout{}, fmt.Errorf("%q is no timeout; write PHASE=TIME, such as answer=10m, with one of the phases %s", s, strings.Join(Phases(), ", "))
	}
	d, err := ParseDuration(limit)
	return Timeout{name, d}, err
}

// Set sets the timeout in t.
func (o Timeout) Set(t *orchestrator.Timeouts) { *phase(t, o.Phase) = o.Limit }
