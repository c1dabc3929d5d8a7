package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

const (
	// statusColumns and statusRows are the screen that a status has room on.
	statusColumns, statusRows = 80, 24
	// statusJobs and statusFailures are how many of each it shows.
	statusJobs, statusFailures = 3, 4
	// endsSoon is how long before its end a certificate is pointed out.
	endsSoon = 30 * 24 * time.Hour
	// embeddedBroker is what a status calls the broker that is the service's own.
	embeddedBroker = "embedded"
)

func (p *program) statusCommand() *cobra.Command {
	var watch bool
	cmd := p.apiCommand("status [--watch]", "Show on one screen how the service stands; exit code 1 if it is not healthy", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if watch {
			return p.watchStatus(cmd.Context(), c)
		}
		s, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		if err := p.showStatus(s); err != nil {
			return err
		}
		if !s.Healthy {
			return errReported
		}
		return nil
	})
	cmd.Long = `Show on one screen of 80 columns and 24 lines how the service stands: whether it is ready and
why not, devices and how many of each type are connected, jobs and those that wait for a person, executions, the last failures (also
those from before the start) with their causes, what happens in a second, what waits, store and disk, certificates.

The exit code is 0 if the service is healthy: it is ready, its disk has room and its
certificate has not ended; otherwise 1. With --watch the same is shown anew every second
until interrupted. With --json it is one object; GET /v1/status describes it.`
	cmd.Flags().BoolVar(&watch, "watch", false, "look every second until interrupted")
	return cmd
}

// watchStatus shows the status every second.
func (p *program) watchStatus(ctx context.Context, c *client.Client) error {
	return watching(ctx, p, c.Status, func(screen bool, s client.ServiceStatus) error {
		if screen {
			return p.inPlace(statusScreen(s))
		}
		return p.showStatus(s)
	})
}

func (p *program) showStatus(s client.ServiceStatus) error {
	return p.show(s, func(w io.Writer) { _, _ = io.WriteString(w, statusScreen(s)) })
}

// statusScreen is a status on a screen of 80 columns and 24 lines.
func statusScreen(s client.ServiceStatus) string {
	var b strings.Builder
	f, q := s.Fleet, s.Queues
	pairs := []string{
		"service", fmt.Sprintf("davit %s, up %s, since %s", s.System.Version, span(s.At, s.System.Since), when(s.System.Since)),
		"ready", readyLine(s), "broker", s.System.Broker,
		"devices", fmt.Sprintf("%d of %d connected", f.Online, f.Devices), "by type", byType(s), "in quarantine", number(uint64(f.Quarantined)),
		"jobs", tally(f.Jobs), "executions", counts(f.Executions),
		"per second", fmt.Sprintf("%.1f chunks, %s, %.1f reports", s.Throughput.Chunks, size(uint64(s.Throughput.Bytes)), s.Throughput.Reports),
		"waiting", fmt.Sprintf("%d offers, %d repeats, %d reports", q.Offers, q.Repeats, q.Reports),
		"chunks", fmt.Sprintf("wait for %d devices, %d of them without credit", q.Chunks, q.Starved),
		"store", size(uint64(s.System.Store)), "disk", diskLine(s), "certificate", certificateLine(s),
	}
	fields(&b, pairs...)
	attentionOf(&b, s.Attention)
	failuresOf(&b, s)
	return fitted(b.String())
}

// byType are the devices by type, with how many of them are connected where the broker is
// the service's own.
func byType(s client.ServiceStatus) string {
	if s.System.Broker != embeddedBroker {
		return tally(s.Fleet.ByType)
	}
	var parts []string
	for _, t := range slices.Sorted(maps.Keys(s.Fleet.ByType)) {
		parts = append(parts, fmt.Sprintf("%d of %d %s", s.Fleet.Connected[t], s.Fleet.ByType[t], t))
	}
	for _, t := range slices.Sorted(maps.Keys(s.Fleet.Connected)) {
		if _, told := s.Fleet.ByType[t]; !told && s.Fleet.Connected[t] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", s.Fleet.Connected[t], t))
		}
	}
	return strings.Join(parts, ", ")
}

func readyLine(s client.ServiceStatus) string {
	if s.Ready {
		return "yes"
	}
	var why []string
	for _, c := range s.Checks {
		if !c.OK {
			text := fmt.Sprintf("%s for %s: %s", c.Name, span(s.At, c.Since), c.Reason)
			if c.Remedy != "" {
				text += " (" + c.Remedy + ")"
			}
			why = append(why, text)
		}
	}
	return "NO: " + strings.Join(why, "; ")
}

func diskLine(s client.ServiceStatus) string {
	if s.System.DiskFree < 0 {
		return ""
	}
	return fmt.Sprintf("%s free of %s", size(uint64(s.System.DiskFree)), size(uint64(s.System.DiskAll)))
}

func certificateLine(s client.ServiceStatus) string {
	var all []string
	for _, c := range s.System.Certificates {
		text := "ends " + when(c.Ends)
		switch left := c.Ends.Sub(s.At); {
		case left <= 0:
			text = "HAS ENDED " + when(c.Ends)
		case left < endsSoon:
			text += fmt.Sprintf(", in %d days", int(left/(24*time.Hour)))
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// attentionOf are the jobs that wait for a person.
func attentionOf(w io.Writer, jobs []orchestrator.Attention) {
	for i, a := range jobs {
		if i == statusJobs {
			fmt.Fprintf(w, "  and %s; davit job list shows them\n", count(len(jobs)-i, "more job"))
			return
		}
		fmt.Fprintf(w, "! job %s: %s: %s\n", a.Job, a.Why, cell(a.Reason))
	}
}

// failuresOf are the last executions that failed.
func failuresOf(w io.Writer, s client.ServiceStatus) {
	if len(s.Failures) == 0 {
		fmt.Fprintln(w, "no failures")
		return
	}
	fmt.Fprintln(w, "last failures:")
	for _, f := range s.Failures[:min(len(s.Failures), statusFailures)] {
		fmt.Fprintf(w, "  %s ago  %s  %s  %s (%s)  %s\n", span(s.At, f.At), f.Device, f.Job, f.State, f.Cause, cell(f.Detail))
	}
}

// fitted cuts a text to the screen: no line wraps, and none is below it.
func fitted(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		most := 1
		if strings.HasPrefix(line, "ready:") || strings.HasPrefix(line, "executions:") { // their ends matter as much
			most = 3
		}
		lines = append(lines, folded(line, most)...)
	}
	if len(lines) >= statusRows {
		lines = slices.Clip(lines[:statusRows-1])
	}
	return strings.Join(lines, "\n") + "\n"
}

// folded are the lines that one takes on the screen, not more than most: they go on below its value.
func folded(line string, most int) (lines []string) {
	value := strings.Index(line, ":") + 1
	for value < len(line) && line[value] == ' ' {
		value++
	}
	rest := []rune(line)
	for len(rest) > statusColumns && len(lines) < most-1 {
		end := statusColumns
		for end > statusColumns/2 && rest[end] != ' ' {
			end--
		}
		lines = append(lines, strings.TrimRight(string(rest[:end]), " "))
		rest = append([]rune(strings.Repeat(" ", value)), []rune(strings.TrimLeft(string(rest[end:]), " "))...)
	}
	if len(rest) > statusColumns {
		return append(lines, string(rest[:statusColumns-3])+"...")
	}
	return append(lines, string(rest))
}
