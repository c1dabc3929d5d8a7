package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"davit/bridge"
	"davit/bridge/dialect"
	"davit/internal/app"
	"davit/schemas"
)

// watchEvery is how often --watch looks.
const watchEvery = time.Second

func (p *program) bridgeStatus() *cobra.Command {
	var data string
	var watch bool
	cmd := p.command("status --data DIR [--watch]", "Show what the bridge that runs on a data folder is doing", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return usagef("bridge status: name the bridge's data folder with --data")
			}
			if watch {
				return p.watchBridge(cmd.Context(), data)
			}
			s, err := app.BridgeStatus(cmd.Context(), data)
			if err != nil {
				return err
			}
			return p.showBridge(p.out, s)
		})
	cmd.Long = `Show what the bridge that runs on a data folder of this machine is doing: the bridge
as a whole, then a line for each port. No service is asked, and no update is held up.

A version with a question mark is one that the host MCU has not reported since it was last
seen to start. PACE is that of the last seconds, with its share of what the line carries.
Exit code 1 says that no bridge runs there.

With --watch the same is shown anew every second until interrupted; on a terminal that is
too narrow for the table, with a few lines for each port. With --json it is one object,
whose fields docs/cli.md lists; the bridge's user and root may ask.`
	cmd.Flags().StringVar(&data, "data", "", "data folder of the bridge (required)")
	cmd.Flags().BoolVar(&watch, "watch", false, "look every second until interrupted")
	return cmd
}

// watchBridge shows the status every second.
func (p *program) watchBridge(ctx context.Context, data string) error {
	look := func(ctx context.Context) (bridge.Status, error) { return app.BridgeStatus(ctx, data) }
	return watching(ctx, p, look, p.refresh)
}

// watching looks every second: in place on a terminal, else one behind the other. Who
// goes away while it is watched is waited for.
func watching[T any](ctx context.Context, p *program, look func(context.Context) (T, error), show func(screen bool, seen T) error) error {
	seen, err := look(ctx)
	if err != nil {
		return err
	}
	screen := app.IsTerminal(p.out) && !p.json
	if screen {
		fmt.Fprint(p.out, clearScreen)
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for lost := false; ; seen, err = look(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil // an interrupt is how watching ends
		case err != nil && !lost:
			fmt.Fprintf(p.err, "davit: %v\n", err)
		case err == nil:
			if err := show(screen, seen); err != nil {
				return err
			}
		}
		lost = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// What a terminal is told, all of which every one understands.
const (
	clearScreen = "\x1b[2J"
	toTheTop    = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// inPlace writes a screen over the one before.
func (p *program) inPlace(text string) error {
	_, err := io.WriteString(p.out, toTheTop+strings.ReplaceAll(text, "\n", clearLine+"\n")+clearBelow)
	return err
}

func (p *program) refresh(screen bool, s bridge.Status) error {
	if !screen {
		return p.showBridge(p.out, s)
	}
	var b strings.Builder
	if err := p.showBridge(&b, s); err != nil {
		return err
	}
	text := b.String()
	if columns, rows, ok := app.TerminalSize(p.out); ok {
		text = fitting(text, s, columns, rows)
	}
	return p.inPlace(text)
}

// fitting is a status as it has room on a terminal: as its table, or with a few
// lines for each port. Lines that wrap, or are more than there is room for, would move
// those before them, and the next look would not be written over them.
func fitting(text string, s bridge.Status, columns, rows int) string {
	wide := func(line string) bool { return utf8.RuneCountInString(line) > columns }
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if slices.ContainsFunc(lines, wide) {
		var b strings.Builder
		bridgeHead(&b, s)
		for _, t := range s.Ports {
			fmt.Fprintln(&b)
			bridgePort(&b, t, s.At)
		}
		lines = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	}
	for i, line := range lines {
		if wide(line) {
			lines[i] = string([]rune(line)[:columns])
		}
	}
	if room := max(rows-1, 1); len(lines) > room {
		more := fmt.Sprintf("%d more lines have no room here", len(lines)-room+1)
		lines = append(lines[:room-1], more[:min(len(more), columns)])
	}
	return strings.Join(lines, "\n") + "\n"
}

// showBridge prints a status: as an object, or for people.
func (p *program) showBridge(w io.Writer, s bridge.Status) error {
	on := &program{streams: streams{out: w, err: p.err}}
	if p.json {
		return on.printJSON(s)
	}
	bridgeHead(w, s)
	return table(on, s.Ports, portColumns(s.At)...)
}

// bridgeHead is what a status says of the bridge as a whole.
func bridgeHead(w io.Writer, s bridge.Status) {
	fields(w, "bridge", s.Software+", since "+when(s.Since)+" ("+span(s.At, s.Since)+")", "broker", brokerLine(s),
		"spool", fmt.Sprintf("%s of %s", size(uint64(s.Spool.Used)), size(uint64(s.Spool.Limit))), "draining", drainLine(s))
}

// bridgePort is what the table has of a port, one line for each column with something in it.
func bridgePort(w io.Writer, t bridge.PortStatus, at time.Time) {
	var pairs []string
	for _, c := range portColumns(at) {
		pairs = append(pairs, strings.ToLower(c.title), c.value(t))
	}
	fields(w, pairs...)
}

// portColumns are the table of the ports.
func portColumns(at time.Time) []column[bridge.PortStatus] {
	type T = bridge.PortStatus
	return []column[T]{
		{"DEVICE", func(t T) string { return t.Device }},
		{"PORT", func(t T) string { return t.Port }},
		{"TTY", func(t T) string { return t.TTY }},
		{"DIALECT", func(t T) string { return t.Dialect }},
		{"LINE", lineSettings},
		{"STATE", func(t T) string { return portLine(t, at) }},
		{"MCU RUNS", hostVersions},
		{"UNDER WAY", func(t T) string { return updateLine(t.Update, at) }},
		{"PACE", paceLine},
		{"LAST RESULT", func(t T) string { return resultLine(t.Last, at) }},
		{"FRAMES", frameCounts},
	}
}

// span is how long at is after since, for people.
func span(at, since time.Time) string {
	if since.IsZero() {
		return "0s" // it has not happened yet
	}
	return at.Sub(since).Round(time.Second).String()
}

func brokerLine(s bridge.Status) string {
	state := "not connected"
	if s.Broker.Connected {
		state = "connected"
	}
	return state + " for " + span(s.At, s.Broker.Since)
}

func drainLine(s bridge.Status) string {
	if s.Draining == nil {
		return ""
	}
	left := max(0, s.Draining.Until.Sub(s.At)) // a line may have something to write to its end yet
	return fmt.Sprintf("for %s, at most %s more", span(s.At, s.Draining.Since), left.Round(time.Second))
}

func lineSettings(t bridge.PortStatus) string {
	var parts []string
	if t.Baud != 0 {
		parts = append(parts, fmt.Sprint(t.Baud))
	}
	switch t.Parity {
	case "":
	case dialect.ParityNone:
		parts = append(parts, "no parity")
	default:
		parts = append(parts, string(t.Parity))
	}
	if t.RTSCTS != nil && *t.RTSCTS {
		parts = append(parts, "RTS/CTS")
	}
	return strings.Join(parts, " ")
}

func portLine(t bridge.PortStatus, at time.Time) string {
	text := fmt.Sprintf("%s for %s", t.State, span(at, t.Since))
	if t.Reason != "" {
		text += ": " + t.Reason
	}
	if t.Busy {
		text += "; busy"
	}
	return text
}

func hostVersions(t bridge.PortStatus) string {
	var parts []string
	for _, v := range t.Versions {
		text := v.Version
		if len(t.Versions) > 1 {
			text = v.Property + "=" + text
		}
		if !v.Confirmed {
			text += "?"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

func updateLine(u *bridge.UpdateStatus, at time.Time) string {
	if u == nil {
		return ""
	}
	text := fmt.Sprintf("%s to %s: %s", u.Execution, u.Version, u.State)
	if u.Size > 0 && (u.State == schemas.StateDownloading || u.State == schemas.StateInstalling) {
		text += fmt.Sprintf(" %s of %s, %d %%", size(u.Bytes), size(u.Size), u.Bytes*100/u.Size)
	}
	if u.Left {
		return text + ", left for the next start"
	}
	return text + ", " + span(at, u.Since)
}

func paceLine(t bridge.PortStatus) string {
	u := t.Update
	if u == nil || u.BytesPerSecond == 0 {
		return ""
	}
	text := fmt.Sprintf("%.0f B/s", u.BytesPerSecond)
	if u.LineShare > 0 {
		text += fmt.Sprintf(" (%.0f %%)", 100*u.LineShare)
	}
	return text
}

func resultLine(r *bridge.ResultStatus, at time.Time) string {
	if r == nil {
		return ""
	}
	text := r.Execution + " " + string(r.State)
	switch {
	case r.Cause != "":
		text += " (" + string(r.Cause) + ")"
	case r.HostVersion != "":
		text += " with " + r.HostVersion
	}
	if !r.At.IsZero() {
		text += ", " + span(at, r.At) + " ago"
	}
	if !r.Acknowledged {
		text += ", not acknowledged"
	}
	return text
}

func frameCounts(t bridge.PortStatus) string {
	c := t.Counts
	return fmt.Sprintf("%d sent, %d retried, %d bad, %d lost; %s", c.Sent, c.Retried, c.Bad, c.Lost, resets(c.MCUResets))
}

func resets(n uint64) string {
	if n == 1 {
		return "1 MCU reset"
	}
	return fmt.Sprintf("%d MCU resets", n)
}
