package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

// errEnough ends the following of events when --limit of them are printed.
var errEnough = errors.New("enough")

func (p *program) eventsCommand() *cobra.Command {
	var filter orchestrator.FeedFilter
	var since uint64
	var limit int
	cmd := p.apiCommand("events", "Follow what changes: one line for each record that did, as it stands now", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		n := 0
		err := c.Events(cmd.Context(), client.Follow{
			FeedFilter: filter, Since: given(cmd, "since", &since),
			Event: func(e client.Event) error {
				if err := p.show(e, func(w io.Writer) { eventLine(w, e) }); err != nil {
					return err
				}
				if n++; n == limit {
					return errEnough
				}
				return nil
			},
			Lost: func(err error) { fmt.Fprintf(p.err, "davit: the connection is lost (%v); trying again\n", err) },
		})
		if errors.Is(err, errEnough) || errors.Is(err, context.Canceled) {
			return nil // an interrupt is how following ends
		}
		return err
	})
	cmd.Long = `Follow what changes, until interrupted: one line for each record that did, as it
stands now. A record that changed several times in between is told of once. A lost
connection is made again and goes on where it ended, without a gap.

Every event carries its revision; --since goes on after one, and --since 0 begins
with everything that there is. With --json each line is an event with the record.`
	f := cmd.Flags()
	f.Uint64Var(&since, "since", 0, "begin after this revision, 0 for everything (default: the present)")
	f.StringArrayVar(&filter.Kinds, "kind", nil, "only this kind of record: "+strings.Join(orchestrator.FeedKinds(), ", ")+"; repeatable")
	f.StringVar(&filter.Job, "job", "", "only this job and its executions")
	f.StringVar(&filter.Device, "device", "", "only this device and its executions")
	f.IntVar(&limit, "limit", 0, "end after this many events (default: never)")
	completeWith(cmd, "kind", orchestrator.FeedKinds()...)
	return cmd
}

// eventLine prints an event for people: what changed and, of what has one, its
// state.
func eventLine(w io.Writer, e client.Event) {
	fmt.Fprintf(w, "%-8d %-12s %s", e.Rev, strings.ReplaceAll(e.Kind, "_", "-"), cell(e.ID))
	if e.Deleted {
		fmt.Fprintln(w, "  removed")
		return
	}
	fmt.Fprintln(w, cellOf(eventText(e)))
}

// cellOf sets text off from what stands before it.
func cellOf(text string) string {
	if text == "" {
		return ""
	}
	return "  " + cell(text)
}

// eventText says in a few words where a record stands; nothing for records
// that say no more than that they changed.
func eventText(e client.Event) string {
	switch e.Kind {
	case orchestrator.KindExecution:
		if x, ok := recordOf[orchestrator.Execution](e); ok {
			return strings.TrimSpace(fmt.Sprintf("%s of job %s: %s %d/%d %s", x.Device, x.Job, x.State, x.BytesDone, x.BytesTotal, x.Cause))
		}
	case orchestrator.KindJob:
		if j, ok := recordOf[orchestrator.Job](e); ok {
			return fmt.Sprintf("%s: %s", j.State, counts(j.Counts))
		}
	case orchestrator.KindDevice:
		if d, ok := recordOf[orchestrator.Device](e); ok {
			return strings.TrimSpace(map[bool]string{true: "online", false: "offline"}[d.Online] + " " + pairs(d.Versions))
		}
	case orchestrator.KindImage:
		if i, ok := recordOf[orchestrator.Image](e); ok {
			return i.ImageType + " " + i.Version
		}
	}
	return ""
}

func recordOf[T any](e client.Event) (T, bool) {
	var v T
	err := json.Unmarshal(e.Record, &v)
	return v, err == nil
}
