package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"davit/bridge/portname"
	"davit/bridge/recording"
	"davit/bridge/sniff"
	"davit/orchestrator"
)

// sniffed is a packet as --json prints it.
type sniffed struct {
	Seconds float64 `json:"seconds"`
	From    string  `json:"from"`
	Text    string  `json:"text"`
	Bad     bool    `json:"bad,omitempty"`
}

// sniffFlags are the flags of sniff.
type sniffFlags struct {
	from, toMCU, fromMCU string
	dialect, parity      string
	baud                 int
	record               string
	follow, once         bool
}

// Flags that mean something for ports only.
func portFlags() []string { return []string{"from", "dialect", "baud", "parity", "record", "once"} }

func (p *program) sniffCommand() *cobra.Command {
	var f sniffFlags
	cmd := p.command("sniff FILE [--follow] | PORT [--from mcu|module] | --from-mcu PORT --to-mcu PORT",
		"Show in words what passes on a serial line: recorded, or as it happens", func(cmd *cobra.Command, args []string) error { return f.arguments(cmd, args) },
		func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && !isPort(args[0]) {
				return p.sniffFile(cmd, args[0], f)
			}
			return p.sniffPorts(cmd, args, f)
		})
	cmd.Long = `Show in words what passes on a serial line: a line for each packet with the seconds
since the start, the side, and what it says. An exclamation mark stands before what is
bad: wrong checksums, bytes that mean nothing.

A FILE is what davit bridge --record recorded; --follow goes on as it grows, until it is
interrupted.

A PORT is a serial port at which the line is listened to, by its path or by a name that
davit bridge ports lists. One adapter hears one direction: wire its RX to the line's wire
from the MCU (--from mcu, the default) or to the one from the module, and leave its TX
unconnected. With two adapters, --from-mcu and --to-mcu name one for each. Nothing is
written, and there is no flow control. A port that is unplugged is waited for. An
interrupt ends it.`
	fl := cmd.Flags()
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on as the recording grows")
	fl.StringVar(&f.from, "from", "mcu", "the side that is heard at PORT: mcu or module")
	fl.StringVar(&f.fromMCU, "from-mcu", "", "port at which the MCU is heard")
	fl.StringVar(&f.toMCU, "to-mcu", "", "port at which the module is heard")
	fl.StringVar(&f.dialect, "dialect", orchestrator.DialectAyla, "what is spoken at the ports: "+strings.Join(orchestrator.Dialects(), ", "))
	fl.IntVar(&f.baud, "baud", 0, "speed of the line in bit/s (default: the dialect's)")
	fl.StringVar(&f.parity, "parity", "", "odd, even or none (default: the dialect's)")
	fl.StringVar(&f.record, "record", "", "keep what is heard in this new file, as a recording")
	fl.BoolVar(&f.once, "once", false, "end with exit code 1 when a port is missing or unplugged")
	completeWith(cmd, "dialect", orchestrator.Dialects()...)
	completeWith(cmd, "from", "mcu", "module")
	return cmd
}

// arguments is the argument rule: a file or a port, or two ports as flags.
func (f *sniffFlags) arguments(cmd *cobra.Command, args []string) error {
	named := f.toMCU != "" || f.fromMCU != ""
	switch {
	case named && len(args) > 0:
		return usagef("%s takes no argument beside --from-mcu and --to-mcu; it was given %q", cmd.CommandPath(), args)
	case !named && len(args) != 1:
		return usagef("%s takes one argument, a recording or a serial port; it was given %d", cmd.CommandPath(), len(args))
	case named && f.toMCU == f.fromMCU:
		return usagef("sniff: --from-mcu and --to-mcu are the same port; an adapter hears one direction")
	case named && cmd.Flags().Changed("from"):
		return usagef("sniff: --from means nothing beside --from-mcu and --to-mcu")
	}
	return nil
}

// isPort says whether an argument names a serial port and not a file.
func isPort(arg string) bool {
	if name, err := portname.Parse(arg); err != nil || !name.IsPath() {
		return true // an error is told with the port's
	}
	info, err := os.Stat(arg)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(arg, "/dev/")
	}
	return info.Mode()&fs.ModeCharDevice != 0
}

// sniffFile shows a recording.
func (p *program) sniffFile(cmd *cobra.Command, path string, f sniffFlags) error {
	for _, flag := range portFlags() {
		if cmd.Flags().Changed(flag) {
			return usagef("sniff: --%s means nothing for a recording, which says itself what it is of", flag)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sniff: %w", err)
	}
	defer file.Close()
	src := io.Reader(file)
	if f.follow {
		src = &follower{ctx: cmd.Context(), file: file}
	}
	r, err := recording.NewReader(bufio.NewReader(src))
	if err == nil {
		p.heading(r.Header())
		err = p.sniffRecording(r)
		if errors.Is(err, recording.ErrCutOff) { // as a bridge that was killed leaves it
			fmt.Fprintf(p.err, "%s: %v\n", path, err)
			return nil
		}
	}
	if err == nil || errors.Is(err, context.Canceled) {
		return nil // an interrupt is how following ends
	}
	return fmt.Errorf("sniff: %s: %w", path, err)
}

func (p *program) sniffRecording(r *recording.Reader) error {
	var failed error
	err := sniff.Recording(r, func(s sniff.Packet) {
		if failed == nil {
			failed = p.printPacket(s)
		}
	})
	return errors.Join(failed, err)
}

// printPacket prints a packet at once: standard output has no buffer.
func (p *program) printPacket(s sniff.Packet) error {
	if p.json {
		return p.printJSON(sniffed{s.At.Seconds(), s.From.String(), s.Text, s.Bad})
	}
	_, err := fmt.Fprintln(p.out, s)
	return err
}

// heading says on standard error what a recording is of.
func (p *program) heading(h recording.Header) {
	fmt.Fprintf(p.err, "%s, %s, %d bit/s, parity %s, since %s\n", h.Device, h.Dialect, h.Baud, h.Parity, h.Start.Format("2006-01-02 15:04:05.000 MST"))
}
