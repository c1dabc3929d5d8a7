package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"davit/bridge/replay"
	"davit/bridge/sniff"
	"davit/internal/app"
	"davit/schemas/tlv"
)

// replayed is the result as --json prints it. Times are in seconds since the
// recording's start.
type replayed struct {
	Agrees          bool             `json:"agrees"`
	Dialect         string           `json:"dialect"`
	Device          string           `json:"device"`
	Frames          int              `json:"frames"`
	Total           int              `json:"total"`
	RecordedRetries int              `json:"recorded_retries"`
	Retries         int              `json:"retries"`
	Difference      *replayDiffers   `json:"difference,omitempty"`
	Incomplete      string           `json:"incomplete,omitempty"`
	Updates         []replayedUpdate `json:"updates,omitempty"`
}

type replayDiffers struct {
	Frame    int         `json:"frame"`
	Why      string      `json:"why"`
	Recorded *replaySaid `json:"recorded,omitempty"`
	Replayed *replaySaid `json:"replayed,omitempty"`
}

type replaySaid struct {
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`
}

// replayedUpdate is how an update ended.
type replayedUpdate struct {
	Seconds     float64 `json:"seconds"`
	State       string  `json:"state"`
	Cause       string  `json:"cause,omitempty"`
	Detail      string  `json:"detail,omitempty"`
	HostVersion string  `json:"host_version,omitempty"`
}

func (p *program) replayCommand() *cobra.Command {
	var o replay.Options
	var show bool
	cmd := p.command("replay FILE", "Run a recorded host MCU against this bridge and compare what it sends", oneArg("a recording"),
		func(_ *cobra.Command, args []string) error {
			if o.OfferInterval < 0 {
				return usagef("replay: --offer-interval is %s", o.OfferInterval)
			}
			if o.LoadSize < 0 || o.LoadSize > tlv.MaxLoad {
				return usagef("replay: --load-size is %d, allowed are 1 to %d", o.LoadSize, tlv.MaxLoad)
			}
			return p.replay(args[0], o, show)
		})
	cmd.Long = `Run the host MCU's side of a recording (davit bridge --record) against this program's
bridge, in no time and the same each time, and compare what the bridge sends with what
it sent then, frame by frame after decoding. The first difference is shown with its
place.

Exit code 0 means that all agrees, 1 that something differs or that the recording breaks
off, 2 that it cannot be replayed. Retries depend on timers and are counted; --strict
compares them, too. docs/cli.md says what agreement means.`
	f := cmd.Flags()
	f.BoolVar(&o.Strict, "strict", false, "compare retries, too")
	f.BoolVar(&show, "show", false, "print what passes on the line in the replay, as davit sniff does")
	f.StringArrayVar(&o.VersionProperties, "version-property", nil, "property by which the MCU reports its version (default: what the recorded bridge asked for); repeatable")
	f.DurationVar(&o.OfferInterval, "offer-interval", 0, "the bridge's --offer-interval (default: the dialect's)")
	f.IntVar(&o.LoadSize, "load-size", 0, "load-size of the recorded bridge's port (default: it had none)")
	return cmd
}

func (p *program) replay(path string, o replay.Options, show bool) error {
	file, err := os.Open(path)
	if err != nil {
		return cannotError{fmt.Errorf("replay: %w", err)}
	}
	defer file.Close()
	var failed error
	if show {
		o.Trace = func(s sniff.Packet) {
			if failed == nil {
				failed = p.printPacket(s)
			}
		}
	}
	r, err := app.Replay(bufio.NewReader(file), o)
	switch {
	case err != nil:
		return cannotError{fmt.Errorf("replay: %s: %w", path, err)}
	case failed != nil:
		return failed
	}
	p.heading(r.Header)
	if err := p.show(replayResult(r), func(w io.Writer) { printReplay(w, r) }); err != nil {
		return err
	}
	if !r.Agrees() {
		return errReported
	}
	return nil
}

func printReplay(w io.Writer, r replay.Report) {
	for _, e := range r.Ends {
		fmt.Fprintf(w, "update %s at %.6f s", e.State, e.At.Seconds())
		if e.HostVersion != "" {
			fmt.Fprintf(w, "; the host MCU reports %q", e.HostVersion)
		}
		if e.Detail != "" {
			fmt.Fprintf(w, "; %s", e.Detail)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d of %d frames of the bridge agree; retries: %d recorded, %d replayed\n", r.Frames, r.Total, r.RecordedRetries, r.Retries)
	if d := r.Difference; d != nil {
		fmt.Fprintf(w, "difference at frame %d: %s\n", d.Frame, d.Why)
		printSaid(w, "recorded", d.Recorded)
		printSaid(w, "replayed", d.Replayed)
	}
	if r.Incomplete != "" {
		fmt.Fprintf(w, "not compared any further: %s\n", r.Incomplete)
	}
}

func printSaid(w io.Writer, when string, s *replay.Said) {
	if s == nil {
		fmt.Fprintf(w, "  %s: nothing\n", when)
		return
	}
	fmt.Fprintf(w, "  %s: %12.6f %s\n", when, s.At.Seconds(), s.Text)
}

func replayResult(r replay.Report) replayed {
	out := replayed{
		Agrees: r.Agrees(), Dialect: r.Header.Dialect, Device: r.Header.Device, Frames: r.Frames, Total: r.Total,
		RecordedRetries: r.RecordedRetries, Retries: r.Retries, Incomplete: r.Incomplete,
	}
	if d := r.Difference; d != nil {
		out.Difference = &replayDiffers{d.Frame, d.Why, said(d.Recorded), said(d.Replayed)}
	}
	for _, e := range r.Ends {
		out.Updates = append(out.Updates, replayedUpdate{e.At.Seconds(), string(e.State), string(e.Cause), e.Detail, e.HostVersion})
	}
	return out
}

func said(s *replay.Said) *replaySaid {
	if s == nil {
		return nil
	}
	return &replaySaid{s.At.Seconds(), s.Text}
}
