package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// aging is a service whose clock the test moves, and that keeps nothing for long.
func aging(t *testing.T, change ...func(*orchestrator.Options)) (*env, func(time.Duration)) {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnv(t, append(change, func(o *orchestrator.Options) {
		o.Now = func() time.Time { return now }
		o.ClockKept = func() bool { return true }
		o.Retention = orchestrator.Retention{Audit: 100 * 24 * time.Hour, Jobs: 50 * 24 * time.Hour, ArchivedImages: 20 * 24 * time.Hour}
	})...)
	return e, func(d time.Duration) { now = now.Add(d) }
}

// counting is a store that cancels something after so many updates.
type counting struct {
	orchestrator.Store
	left   int
	cancel func()
}

func (c *counting) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.Store.Update(ctx, fn)
	if c.cancel != nil {
		if c.left--; c.left == 0 {
			c.cancel()
		}
	}
	return err
}

const day = 24 * time.Hour

// done brings all executions of a job to success.
func (e *env) done(job, version string, devices []string) {
	e.t.Helper()
	for _, d := range devices {
		x := e.execution(job, d)
		e.ok(e.Status(ctx, d, schemas.Status{V: schemas.Version, Execution: x.ID, Attempt: x.Attempt, Seq: 1, State: schemas.StateSucceeded, HostVersion: version}))
	}
}

func (e *env) jobNames() (names []string) {
	e.t.Helper()
	jobs, _, err := e.Jobs(ctx, orchestrator.JobFilter{}, orchestrator.Page{})
	e.ok(err)
	for _, j := range jobs {
		names = append(names, j.Name)
	}
	slices.Sort(names)
	return names
}

// What is old goes, in the right order, and what is needed stays; after each part, as if
// a crash had come there, everything agrees.
func TestRetention(t *testing.T) {
	counted := &counting{}
	e, pass := aging(t, func(o *orchestrator.Options) {
		counted.Store = o.Store
		o.Store = counted
	})
	ids := e.fleet(300) // more than one part
	old := e.image("2", content(1000, 1))
	e.job("old", old.ID, ids...)
	e.done("old", "2", ids)
	pass(10 * day)
	e.job("open", e.image("3", content(1000, 2)).ID, ids[:2]...)
	pass(39 * day)
	e.ok(e.Expire(ctx))
	if got := e.jobNames(); !slices.Equal(got, []string{"old", "open"}) {
		t.Fatalf("after 49 days: %v", got)
	}
	pass(2 * day)
	for cut := 1; ; cut++ { // one part after the other
		ctx, cancel := context.WithCancel(t.Context())
		counted.left, counted.cancel = 2, cancel // the audit log, and one part
		if cut == 1 {
			counted.left++ // the clock is noted
		}
		err := e.Expire(ctx)
		cancel()
		counted.cancel = nil
		e.checkClean()
		if slices.Equal(e.jobNames(), []string{"open"}) {
			break
		}
		if !errors.Is(err, context.Canceled) || cut > 20 {
			t.Fatal(err)
		}
		if cut == 1 {
			_, err := e.RetryJob(context.Background(), "old", orchestrator.RetryRequest{})
			e.wants(err, orchestrator.ErrConflict, "is being deleted")
		}
	}
	if got := e.jobNames(); !slices.Equal(got, []string{"open"}) {
		t.Errorf("after 51 days: %v", got)
	}
	list, _, err := e.DeviceExecutions(ctx, ids[5], orchestrator.Page{})
	if err != nil || len(list) != 0 {
		t.Errorf("executions that are left: %v %v", list, err)
	}
	if got := e.audited(orchestrator.KindJob, "old"); len(got) == 0 || !strings.HasPrefix(got[0], "expire") {
		t.Errorf("audit: %v", got)
	}

	// The image that only the job named goes when it has been archived for long.
	yes := true
	_, err = e.UpdateImage(ctx, old.ID, orchestrator.ImagePatch{Archived: &yes})
	e.ok(err)
	pass(19 * day)
	e.ok(e.Expire(ctx))
	if _, err := e.Image(ctx, old.ID); err != nil {
		t.Errorf("after 19 days: %v", err)
	}
	pass(2 * day)
	e.ok(e.Expire(ctx))
	_, err = e.Image(ctx, old.ID)
	e.wants(err, orchestrator.ErrNotFound)
	e.checkClean()

	// The name is free again, and the new job is its own.
	e.job("old", e.image("4", content(10, 3)).ID, ids[3])
	if j := must[orchestrator.Job](t)(e.Job(ctx, "old")); j.Targets != 1 {
		t.Errorf("%+v", j)
	}
	e.checkClean()

	// The audit log loses its oldest entries, and goes on with its numbers.
	before := e.entries()
	pass(35 * day) // 107 days after the first, 97 after the job "open"
	e.ok(e.Expire(ctx))
	after := e.entries()
	if len(after) >= len(before) || len(after) < 2 || after[0].Seq != before[0].Seq || after[len(after)-1].Seq == 1 {
		t.Errorf("%d entries, then %d from %d on", len(before), len(after), after[len(after)-1].Seq)
	}
	e.checkClean()
	e.restart()
	e.image("5", content(10, 4))
	if again := e.entries(); again[0].Seq != after[0].Seq+1 {
		t.Errorf("the next entry is %d", again[0].Seq)
	}
	e.checkClean()
}

func (e *env) entries() []orchestrator.AuditEntry {
	e.t.Helper()
	list, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1000})
	e.ok(err)
	return list
}

// Images that are in use, or not archived, stay, and so does everything without a limit.
func TestRetentionKeeps(t *testing.T) {
	e, pass := aging(t)
	ids := e.fleet(1)
	used, plain := e.image("2", content(10, 1)), e.image("3", content(10, 2))
	e.job("j", used.ID, ids...)
	e.done("j", "2", ids)
	yes := true
	_, err := e.UpdateImage(ctx, used.ID, orchestrator.ImagePatch{Archived: &yes})
	e.ok(err)
	pass(49 * day)
	e.ok(e.Expire(ctx))
	for _, id := range []string{used.ID, plain.ID} {
		if _, err := e.Image(ctx, id); err != nil {
			t.Error(err)
		}
	}
	e.opts.Retention = orchestrator.Retention{}
	e.restart()
	pass(10_000 * day)
	e.ok(e.Expire(ctx))
	if got := e.jobNames(); fmt.Sprint(got) != "[j]" {
		t.Error(got)
	}
	if log := e.entries(); log[len(log)-1].Seq != 1 {
		t.Errorf("the log begins with %d", log[len(log)-1].Seq)
	}
	e.checkClean()
}
