package orchestrator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/schemas"
)

// Sentences tells a rollout in plain words, one sentence for each of its rules, in
// the order in which they matter to somebody who reads the plan: what is done,
// waves, pace, schedule, stop rules, retries, time limits. A nil rollout is told
// too. It says nothing about where a job stands.
func (r *Rollout) Sentences() []string {
	if r == nil {
		return []string{"All devices are offered the image at once."}
	}
	var out []string
	for _, tell := range []func(*Rollout) []string{
		tellWaves, tellAction, tellPace, tellSchedule, tellStop, tellRetry, tellTimeouts, tellRest,
	} {
		out = append(out, tell(r)...)
	}
	return out
}

func tellWaves(r *Rollout) []string {
	if len(r.Waves) == 0 {
		return []string{"All devices form one wave."}
	}
	var out []string
	others := "the devices"
	if slices.ContainsFunc(r.Waves, func(w Wave) bool { return w.Group != "" || len(w.Devices) > 0 }) {
		others = "the devices that no wave names"
	}
	for i, w := range r.Waves {
		out = append(out, w.sentence(i+1, others, i == len(r.Waves)-1))
	}
	if last := r.Waves[len(r.Waves)-1]; last.Percent != 100 {
		out = append(out, "Devices that none of these waves takes form a last one.")
	}
	return out
}

// sentence tells one wave.
func (w Wave) sentence(number int, others string, last bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Wave %d", number)
	if w.Name != "" && w.Name != fmt.Sprintf("wave %d", number) {
		fmt.Fprintf(&b, " (%s)", w.Name)
	}
	b.WriteString(": ")
	switch {
	case len(w.Devices) > 0:
		b.WriteString(tellDevices(w.Devices))
	case w.Group != "":
		fmt.Fprintf(&b, "those of group %s", w.Group)
	case w.Count == 1:
		fmt.Fprintf(&b, "1 of %s", others)
	case w.Count > 0:
		fmt.Fprintf(&b, "%d of %s", w.Count, others)
	case w.Percent == 100 && number == 1:
		b.WriteString("all devices")
	case w.Percent == 100:
		b.WriteString("all other devices")
	default:
		fmt.Fprintf(&b, "up to %s of %s", tellPercent(w.Percent), others)
	}
	if w.Approve {
		b.WriteString(", once somebody has approved it")
	}
	if !last || w.Percent != 100 { // otherwise there is no next
		b.WriteString("; the next wave begins when " + w.goal())
	}
	return b.String() + "."
}

// goal is what has to be so before the next wave begins.
func (w Wave) goal() string {
	base := "them"
	if w.Of == OfOnline {
		base = "those that were online"
	}
	goal := "all of " + base + " have succeeded"
	if w.Success > 0 && w.Success < 100 {
		goal = tellPercent(w.Success) + " of " + base + " have succeeded"
	}
	if w.Soak > 0 {
		goal += " and that has held for " + tellDuration(w.Soak)
	}
	return goal
}

func tellDevices(ids []string) string {
	const spelledOut = 5
	if len(ids) == 1 {
		return "the device " + ids[0]
	}
	if len(ids) > spelledOut {
		return fmt.Sprintf("%d named devices", len(ids))
	}
	return "the devices " + tellList(ids, "and")
}

func tellAction(r *Rollout) []string {
	var out []string
	switch r.Action {
	case ActionSoft:
		s := "Devices may put the update off"
		if r.DeferLimit > 0 {
			s += " for " + tellDuration(r.DeferLimit) + " after the first offer"
		}
		out = append(out, s+".")
	case ActionConfirm:
		if r.ConfirmBy == ByProduct {
			out = append(out, "The product has to agree before a device installs the image.")
		} else {
			out = append(out, "A person has to agree for each device before it is offered the image.")
		}
	case ActionDownload:
		out = append(out, "Devices download the image and install it on command.")
	}
	if len(r.Via) > 0 {
		out = append(out, "Devices that cannot be updated directly are led over "+tellList(r.Via, "and")+" first, as the images' min versions allow.")
	}
	return out
}

func tellPace(r *Rollout) []string {
	p := r.Pace
	if p == nil {
		return nil
	}
	var out []string
	if p.MaxInProgress > 0 {
		out = append(out, fmt.Sprintf("At most %s in progress at a time.", tellCount(p.MaxInProgress, "device is", "devices are")))
	}
	switch {
	case p.Ramp != nil:
		s := fmt.Sprintf("It begins with %s a minute, %s times as many after every %s", tellCount(p.Ramp.Start, "device", "devices"),
			tellNumber(cmp.Or(p.Ramp.Factor, 2)), tellCount(p.Ramp.After, "more success", "more successes"))
		if p.PerMinute > 0 {
			s += fmt.Sprintf(", up to %d a minute", p.PerMinute)
		}
		out = append(out, s+".")
	case p.PerMinute > 0:
		out = append(out, fmt.Sprintf("At most %s newly offered the image in a minute.", tellCount(p.PerMinute, "device is", "devices are")))
	}
	for _, g := range p.Groups {
		var limits []string
		if g.MaxInProgress > 0 {
			limits = append(limits, fmt.Sprintf("%d in progress at a time", g.MaxInProgress))
		}
		if g.PerMinute > 0 {
			limits = append(limits, fmt.Sprintf("%d a minute", g.PerMinute))
		}
		if len(limits) > 0 {
			out = append(out, fmt.Sprintf("Of group %s at most %s.", g.Group, strings.Join(limits, " and ")))
		}
	}
	return out
}

func tellSchedule(r *Rollout) []string {
	s := r.Schedule
	if s == nil {
		return nil
	}
	var out []string
	if !s.Start.IsZero() {
		out = append(out, "Nothing is offered before "+tellTime(s.Start)+".")
	}
	if !s.End.IsZero() {
		out = append(out, "It ends at "+tellTime(s.End)+": devices that have not accepted by then are canceled, the others finish.")
	}
	for _, w := range s.Windows {
		zone := cmp.Or(w.Zone, "UTC")
		if s.DeviceZone != "" {
			zone = fmt.Sprintf("the device's zone by its label %s, else %s", s.DeviceZone, zone)
		}
		out = append(out, fmt.Sprintf("A window opens at %q (%s) for %s.", w.Cron, zone, tellDuration(w.Duration)))
	}
	switch {
	case len(s.Windows) > 0 && s.Recall:
		out = append(out, "When the windows close, devices that have not begun to load their MCU are taken back and go on in the next window.")
	case len(s.Windows) > 0:
		out = append(out, "Devices that are in progress when the windows close finish.")
	}
	return out
}

func tellStop(r *Rollout) []string {
	var out []string
	for _, rule := range r.Stop {
		out = append(out, rule.sentence())
	}
	return out
}

// sentence tells a stop rule.
func (s StopRule) sentence() string {
	does := "The job is paused"
	switch s.Action {
	case StopAbort:
		does = "The job is canceled, and what is in progress finishes,"
	case StopRecall:
		does = "The job is canceled, and so is what is in progress,"
	}
	var limits []string
	if s.Count > 0 {
		limits = append(limits, tellCount(s.Count, "device", "devices"))
	}
	if s.Percent > 0 {
		sample := "the devices"
		if s.MinSample > 1 {
			sample = fmt.Sprintf("at least %d devices", s.MinSample)
		}
		limits = append(limits, tellPercent(s.Percent)+" of "+sample+" that came to an end")
	}
	failed := " have failed"
	if s.Count == 1 && s.Percent == 0 {
		failed = " has failed"
	}
	if len(s.Causes) > 0 {
		failed += " (" + tellList(tellCauses(s.Causes), "or") + ")"
	}
	if s.Over == OverWave {
		failed += " in one wave"
	}
	text := does + " when " + strings.Join(limits, " or ") + failed
	if s.RollBack != "" {
		text += "; the devices that have succeeded by then are brought to " + s.RollBack
	}
	return text + "."
}

func tellRetry(r *Rollout) []string {
	p := r.Retry
	if p == nil {
		return []string{"What fails is not tried again by itself."}
	}
	const usually = 3
	out := []string{tellTries("An update", cmp.Or(p.Attempts, usually), p.Backoff)}
	for _, c := range slices.Sorted(maps.Keys(p.Causes)) {
		retry := p.Causes[c]
		backoff := retry.Backoff
		if backoff == nil {
			backoff = p.Backoff
		}
		out = append(out, tellTries("After a failure by "+tellCauses([]schemas.Cause{c})[0]+" it", cmp.Or(retry.Attempts, p.Attempts, usually), backoff))
	}
	if p.Budget > 0 {
		out = append(out, fmt.Sprintf("All devices together have %s.", tellCount(p.Budget, "retry", "retries")))
	}
	return out
}

func tellTries(what string, attempts int, b *Backoff) string {
	if attempts == 1 {
		return what + " is not tried again."
	}
	if b == nil {
		b = &Backoff{}
	}
	first, longest := cmp.Or(b.First, Duration(time.Minute)), cmp.Or(b.Max, Duration(time.Hour))
	return fmt.Sprintf("%s is tried %d times in all, the second time after %s, each wait %s times the one before, at most %s.",
		what, attempts, tellDuration(first), tellNumber(cmp.Or(b.Factor, 2)), tellDuration(longest))
}

func tellTimeouts(r *Rollout) []string {
	t := r.Timeouts
	if t == nil {
		return nil
	}
	var limits []string
	for _, l := range []struct {
		what string
		d    Duration
	}{{"to answer", t.Answer}, {"to download", t.Download}, {"to load the MCU", t.Load}, {"to boot", t.Boot}, {"to report the version", t.Version}, {"in all", t.Total}} {
		if l.d > 0 {
			limits = append(limits, tellDuration(l.d)+" "+l.what)
		}
	}
	var out []string
	if len(limits) > 0 {
		out = append(out, "A device has "+tellList(limits, "and")+".")
	}
	if t.LoadRate > 0 {
		out = append(out, fmt.Sprintf("Loading the MCU may take as long as %d bytes a second need, in addition.", t.LoadRate))
	}
	return out
}

func tellRest(r *Rollout) []string {
	var out []string
	if r.Continuous {
		out = append(out, "Devices that join the target later, or report another version again, get the job too.")
	}
	switch r.Stream {
	case StreamAlways:
		out = append(out, "Devices that fetch the image at the same time are sent it together, where they can.")
	case StreamNever:
		out = append(out, "Each device is sent the image for itself.")
	}
	switch {
	case r.Priority > 0:
		out = append(out, fmt.Sprintf("It goes before other jobs on a device (priority %d).", r.Priority))
	case r.Priority < 0:
		out = append(out, fmt.Sprintf("It goes after other jobs on a device (priority %d).", r.Priority))
	}
	return out
}

func tellCauses(causes []schemas.Cause) []string {
	out := make([]string, 0, len(causes))
	for _, c := range causes {
		out = append(out, strings.ReplaceAll(string(c), "_", " "))
	}
	return out
}

// tellList joins words: "a, b and c".
func tellList(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

func tellCount(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func tellNumber(f float64) string  { return strconv.FormatFloat(f, 'f', -1, 64) }
func tellPercent(f float64) string { return tellNumber(f) + " %" }
func tellTime(t time.Time) string  { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }

// tellDuration is a length of time in all of its units: "1 day 2 h", 90 seconds as "1 min 30 s".
func tellDuration(d Duration) string {
	left, parts := time.Duration(d), []string(nil)
	for _, u := range []struct {
		unit      time.Duration
		one, many string
	}{{24 * time.Hour, "day", "days"}, {time.Hour, "h", "h"}, {time.Minute, "min", "min"}, {time.Second, "s", "s"}, {time.Millisecond, "ms", "ms"}} {
		if n := left / u.unit; n > 0 {
			parts = append(parts, tellCount(int(n), u.one, u.many))
			left -= n * u.unit
		}
	}
	if len(parts) == 0 {
		return "no time"
	}
	return strings.Join(parts, " ")
}
