package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/bridge/portname"
	"davit/bridge/recording"
	"davit/bridge/serialport"
	"davit/bridge/sniff/live"
	"davit/internal/app"
	"davit/orchestrator"
)

// followEvery is how often a recording is looked at that has ended for now.
const followEvery = 200 * time.Millisecond

// follower reads a file that grows, until its context ends.
type follower struct {
	ctx  context.Context
	file *os.File
	at   int64
}

// Read implements io.Reader. At the end of the file it waits for more.
func (f *follower) Read(b []byte) (int, error) {
	for {
		n, err := f.file.Read(b)
		f.at += int64(n)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if info, err := f.file.Stat(); err != nil {
			return 0, err
		} else if info.Mode().IsRegular() && info.Size() < f.at {
			return 0, fmt.Errorf("the file has become shorter than the %d bytes that were read", f.at)
		}
		select {
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// line is how the ports are set. An error is one of usage.
func (f *sniffFlags) line() (serialport.Settings, error) {
	usual := app.UsualLine(f.dialect)
	if usual.Baud == 0 {
		return serialport.Settings{}, usagef("sniff: --dialect is %q; allowed are %s", f.dialect, strings.Join(orchestrator.Dialects(), ", "))
	}
	s := serialport.Settings{Baud: usual.Baud, Parity: serialport.Parity(usual.Parity)}
	if f.baud != 0 {
		s.Baud = f.baud
	}
	if f.parity != "" {
		s.Parity = serialport.Parity(f.parity)
	}
	if err := s.Validate(); err != nil {
		return s, usagef("sniff: %w", err)
	}
	return s, nil
}

// taps are the ports to listen at. An error is one of usage.
func (f *sniffFlags) taps(args []string) ([]live.Tap, error) {
	var taps []live.Tap
	for _, t := range []live.Tap{{Port: f.fromMCU, From: recording.FromMCU}, {Port: f.toMCU, From: recording.FromModule}} {
		if t.Port != "" {
			taps = append(taps, t)
		}
	}
	if len(args) > 0 {
		switch f.from {
		case "mcu":
			taps = append(taps, live.Tap{Port: args[0], From: recording.FromMCU})
		case "module":
			taps = append(taps, live.Tap{Port: args[0], From: recording.FromModule})
		default:
			return nil, usagef("sniff: --from is %q; it is mcu or module", f.from)
		}
	}
	for _, t := range taps {
		if _, err := portname.Parse(t.Port); err != nil {
			return nil, usagef("sniff: port %q: %w", t.Port, err)
		}
	}
	return taps, nil
}

// sniffPorts listens until it is interrupted.
func (p *program) sniffPorts(cmd *cobra.Command, args []string, f sniffFlags) (err error) {
	if f.follow {
		return usagef("sniff: --follow is for recordings; a port is listened to until it is interrupted anyway")
	}
	taps, err := f.taps(args)
	if err != nil {
		return err
	}
	line, err := f.line()
	if err != nil {
		return err
	}
	h := recording.Header{Dialect: f.dialect, Device: "sniff", Baud: line.Baud, Parity: string(line.Parity), Start: time.Now()}
	cfg := live.Config{
		Taps: taps, Dialect: f.dialect, Line: line, Once: f.once, Packet: p.printPacket, Start: h.Start,
		Notice: func(text string) { fmt.Fprintf(p.err, "davit: %s\n", text) },
	}
	if f.record != "" {
		file, err := os.OpenFile(f.record, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // the firmware may be in it
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("sniff: --record: %s is there already; name a new file", f.record)
		}
		if err != nil {
			return fmt.Errorf("sniff: --record: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		h.Start = h.Start.UTC().Round(0) // the wall clock alone
		if cfg.Record, err = recording.NewWriter(file, h); err != nil {
			return fmt.Errorf("sniff: --record: %w", err)
		}
	}
	p.heading(h)
	if err := live.Run(cmd.Context(), cfg); err != nil {
		return fmt.Errorf("sniff: %w", err)
	}
	return nil
}
