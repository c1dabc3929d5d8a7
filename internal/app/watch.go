package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// watchWait is how long one request for changes may wait for some.
const watchWait = 20 * time.Second

// WatchFuncs receive what WatchJob sees; an error of theirs ends the watch.
type WatchFuncs struct {
	// Execution gets an execution when it has changed, as it stands then.
	Execution func(orchestrator.Execution) error
	// Job gets the job when its state, its waves' or what it waits for has changed, the
	// first time included.
	Job func(orchestrator.Job) error
}

// WatchJob follows a job from its beginning until it is completed or canceled
// and returns it as it ended. Changes that come faster than one request are
// seen as one.
func WatchJob(ctx context.Context, c *client.Client, name string, f WatchFuncs) (orchestrator.Job, error) {
	var rev uint64
	var told string
	for {
		changes, err := c.Changes(ctx, name, rev, watchWait)
		if err != nil {
			return orchestrator.Job{}, err
		}
		for _, e := range changes.Executions {
			if err := f.Execution(e); err != nil {
				return changes.Job, err
			}
		}
		// A page may be full: what is left comes with the next call, before the job's end is told.
		more := len(changes.Executions) >= orchestrator.MaxPageLimit
		if now := standing(changes.Job); !more && now != told {
			told = now
			if err := f.Job(changes.Job); err != nil {
				return changes.Job, err
			}
		}
		if !more && Ended(changes.Job) {
			return changes.Job, nil
		}
		rev = changes.Rev
	}
}

// standing is what of a job is told when it changes.
func standing(j orchestrator.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %q %q", j.State, j.Wave, j.Waiting, j.Reason)
	for _, w := range j.Waves {
		fmt.Fprintf(&b, " %s", w.State)
	}
	return b.String()
}

// Ended says whether a job is completed or canceled.
func Ended(j orchestrator.Job) bool {
	return j.State == orchestrator.JobCompleted || j.State == orchestrator.JobCanceled
}

// AllSucceeded says whether a job has executions and every one succeeded.
func AllSucceeded(j orchestrator.Job) bool {
	total := 0
	for _, n := range j.Counts {
		total += n
	}
	return total > 0 && j.Counts[schemas.StateSucceeded] == total
}
