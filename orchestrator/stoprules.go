package orchestrator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"davit/schemas"
)

// outcomes is what stop rules look at: how many devices came to an end, and how
// many of them last ended without success, by cause.
type outcomes struct {
	// Sample counts the devices of which at least one attempt has ended.
	Sample int `json:"sample,omitempty"`
	// Failing has no entry for causes with which no device fails.
	Failing map[schemas.Cause]int `json:"failing,omitempty"`
}

// ended counts the end of an attempt. first says that it is the device's first
// one to end; before is the cause of the one that ended before and after its own,
// CauseNone for a success and where there was none.
func (o *outcomes) ended(first bool, before, after schemas.Cause) {
	if first {
		o.Sample++
	}
	o.failing(before, -1)
	o.failing(after, 1)
}

// failing adds to the devices that fail with a cause.
func (o *outcomes) failing(c schemas.Cause, n int) {
	if c == schemas.CauseNone {
		return
	}
	if o.Failing == nil {
		o.Failing = map[schemas.Cause]int{}
	}
	if o.Failing[c] += n; o.Failing[c] <= 0 {
		delete(o.Failing, c)
	}
}

// broken says whether devices have failed as the rule does not allow, and how, in
// a sentence. base is how it stood when a person let the job go on: what failed
// until then does not count any more.
func (r *StopRule) broken(now, base outcomes) (string, bool) {
	failed := 0
	for c, n := range now.Failing {
		if r.counts(c) {
			failed += max(0, n-base.Failing[c])
		}
	}
	if failed == 0 {
		return "", false
	}
	// A device that had succeeded before base and fails now is no new one in the sample.
	sample := max(now.Sample-base.Sample, failed)
	over := fmt.Sprintf("%d of %d %s failed", failed, sample, plural(sample, "device"))
	if r.Count > 0 && failed >= r.Count {
		return fmt.Sprintf("%s%s; the limit is %d", over, r.with(), r.Count), true
	}
	// The share is compared without dividing; what floating point adds to a
	// product must not let exactly the limit pass.
	limit := r.Percent * float64(sample) * (1 - 1e-12)
	if r.Percent > 0 && sample >= r.MinSample && 100*float64(failed) >= limit {
		return fmt.Sprintf("%s (%s %%)%s; the limit is %s %%", over, decimal(100*float64(failed)/float64(sample)), r.with(), decimal(r.Percent)), true
	}
	return "", false
}

func (r *StopRule) counts(c schemas.Cause) bool {
	return len(r.Causes) == 0 || slices.Contains(r.Causes, c)
}

// with names the causes that count, " with checksum or boot", if not all do.
func (r *StopRule) with() string {
	n := len(r.Causes)
	if n == 0 {
		return ""
	}
	names := make([]string, n)
	for i, c := range r.Causes {
		names[i] = string(c)
	}
	if n == 1 {
		return " with " + names[0]
	}
	return " with " + strings.Join(names[:n-1], ", ") + " or " + names[n-1]
}

// decimal is a number with at most two digits after the point.
func decimal(v float64) string {
	s := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
