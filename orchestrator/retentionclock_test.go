package orchestrator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/orchestrator"
)

// leaping is a service that keeps little, a clock that nobody keeps, and what there is to lose: a job that has ended, an
// archived image and an audit log.
func leaping(t *testing.T) (e *env, now *time.Time, kept *bool, held func(where string, want bool)) {
	now, kept = new(time.Time), new(bool)
	*now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	reg := prometheus.NewPedanticRegistry()
	metrics := orchestrator.NewMetrics(reg)
	e = newEnv(t, func(o *orchestrator.Options) {
		o.Metrics = metrics
		o.Now = func() time.Time { return *now }
		o.ClockKept = func() bool { return *kept }
		o.Retention = orchestrator.Retention{Audit: 100 * day, Jobs: 50 * day, ArchivedImages: 20 * day}
	})
	ids := e.fleet(2)
	e.job("ended", e.image("2", content(10, 1)).ID, ids...)
	e.done("ended", "2", ids)
	spare, yes := e.image("3", content(10, 2)), true
	_, err := e.UpdateImage(ctx, spare.ID, orchestrator.ImagePatch{Archived: &yes})
	e.ok(err)
	e.ok(e.Expire(ctx)) // as it is an hour later: the clock is believed
	entries := len(e.entries())
	held = func(where string, want bool) {
		t.Helper()
		e.ok(e.Expire(ctx))
		if (e.RetentionHeld() != "") != want {
			t.Errorf("%s: held %q, want %t", where, e.RetentionHeld(), want)
		}
		told := map[bool]int{true: 1}[want]
		if err := testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP davit_retention_held 1 while nothing is deleted for its age because the clock has leapt ahead, 0 otherwise.
# TYPE davit_retention_held gauge
davit_retention_held %d
`, told)), orchestrator.MetricRetentionHeld); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		_, err := e.Image(ctx, spare.ID)
		lost := len(e.jobNames()) == 0 || err != nil || len(e.entries()) < entries
		if want && lost {
			t.Errorf("%s: jobs %v, image %v, %d audit entries of %d", where, e.jobNames(), err, len(e.entries()), entries)
		}
		e.checkClean()
	}
	return e, now, kept, held
}

// A clock that is years ahead deletes nothing, in the process that was there before and in one that starts with it;
// when it is right again everything goes on.
func TestALeapOfTheClockDeletesNothing(t *testing.T) {
	e, now, _, held := leaping(t)
	right := *now
	*now = right.AddDate(10, 0, 0)
	held("ten years ahead", true)
	if why := e.RetentionHeld(); !strings.Contains(why, "2036-01-01") || !strings.Contains(why, "--clock-confirmed") {
		t.Errorf("it says %q", why)
	}
	e.image("4", content(10, 4)) // what happens with the wrong clock proves nothing
	held("ten years ahead, with an entry of that time", true)
	e.restart()
	held("ten years ahead, after a restart", true)
	*now = right.Add(time.Hour)
	held("right again", false)
	*now = right.AddDate(-10, 0, 0)
	held("ten years behind", false)
	*now = right.Add(25 * time.Hour)
	held("a day later", false)
	if len(e.jobNames()) != 1 {
		t.Errorf("jobs %v", e.jobNames())
	}
}

// A long absence is told from a leap by whoever keeps the clock, or by an operator.
func TestRetentionAfterALongAbsence(t *testing.T) {
	for name, believe := range map[string]func(e *env, now time.Time, kept *bool){
		"by NTP":          func(_ *env, _ time.Time, kept *bool) { *kept = true },
		"by the operator": func(e *env, now time.Time, _ *bool) { e.opts.ClockConfirmed = now.Truncate(day); e.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			e, now, kept, held := leaping(t)
			*now = now.Add(60 * day)
			held("after 60 days", true)
			believe(e, *now, kept)
			held("believed", false)
			if jobs := e.jobNames(); len(jobs) != 0 {
				t.Errorf("jobs %v", jobs)
			}
			*kept = false
			*now = now.AddDate(5, 0, 0)
			e.ok(e.Expire(ctx))
			if e.RetentionHeld() == "" {
				t.Error("a leap after it is believed")
			}
		})
	}
}

// Who confirms a day that has not come yet confirms nothing before.
func TestConfirmedDayInTheFuture(t *testing.T) {
	e, now, _, held := leaping(t)
	e.opts.ClockConfirmed = now.AddDate(20, 0, 0)
	e.restart()
	*now = now.AddDate(10, 0, 0)
	held("before the day", true)
}
