package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"davit/bridge/recording"
	"davit/bridge/sniff"
)

// sniffed is a packet as --json prints it.
type sniffed struct {
	Seconds float64 `json:"seconds"`
	From    string  `json:"from"`
	Text    string  `json:"text"`
	Bad     bool    `json:"bad,omitempty"`
}

func (p *program) sniffCommand() *cobra.Command {
	cmd := p.command("sniff FILE", "Show in words what a bridge recorded on a serial port", oneArg("a recording"),
		func(_ *cobra.Command, args []string) error { return p.sniff(args[0]) })
	cmd.Long = `Show in words what davit bridge --record recorded on a serial port: a line for each
packet with the seconds since the start, the side, and what it says. An exclamation
mark stands before what is bad: wrong checksums, bytes that mean nothing.`
	return cmd
}

func (p *program) sniff(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sniff: %w", err)
	}
	defer file.Close()
	r, err := recording.NewReader(bufio.NewReader(file))
	if err != nil {
		return fmt.Errorf("sniff: %s: %w", path, err)
	}
	p.heading(r.Header())
	var failed error
	err = sniff.Recording(r, func(s sniff.Packet) {
		if failed == nil {
			failed = p.printPacket(s)
		}
	})
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, recording.ErrCutOff): // as a bridge that was killed leaves it
		fmt.Fprintf(p.err, "%s: %v\n", path, err)
		return nil
	case err != nil:
		return fmt.Errorf("sniff: %s: %w", path, err)
	}
	return nil
}

func (p *program) printPacket(s sniff.Packet) error {
	if p.json {
		return p.printJSON(sniffed{s.At.Seconds(), s.From.String(), s.Text, s.Bad})
	}
	_, err := fmt.Fprintln(p.out, s)
	return err
}
