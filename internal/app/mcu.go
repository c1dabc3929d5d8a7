package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"davit/internal/sim"
)

// MCUOptions configure a simulated host MCU on a pseudo-terminal.
type MCUOptions struct {
	Version         string
	VersionProperty string
	Baud            int
	SlotSize        int
	// Fault is a failure case of FaultNames; empty for a healthy MCU.
	Fault string
	// Link is the path of a symbolic link to the terminal; empty for none.
	Link string
	Seed uint64
	Log  *slog.Logger
}

// FaultNames lists the failure cases of a simulated MCU for people.
func FaultNames() string { return strings.Join(sim.FaultNames(), ", ") }

// Validate checks what can be checked without touching anything.
func (o *MCUOptions) Validate() error {
	switch {
	case o.Version == "" || len(o.Version) > sim.MaxDemoVersion:
		return fmt.Errorf("mcu: --version %q: 1 to %d characters are allowed", o.Version, sim.MaxDemoVersion)
	case o.VersionProperty == "":
		return errors.New("mcu: --property is empty; the MCU reports its version under a name")
	case o.Baud < 1 || o.Baud > maxBaud:
		return fmt.Errorf("mcu: --baud is %d; allowed are 1 to %d", o.Baud, maxBaud)
	case o.SlotSize < sim.MinDemoImage:
		return fmt.Errorf("mcu: --slot is %d; the firmware that it runs at first takes %d bytes", o.SlotSize, sim.MinDemoImage)
	}
	if o.Fault != "" {
		if _, err := sim.FaultByName(o.Fault); err != nil {
			return fmt.Errorf("mcu: --fault: %w", err)
		}
	}
	return nil
}

// maxBaud is the fastest line that is simulated.
const maxBaud = 12_000_000

// RunMCU runs a simulated host MCU until ctx ends. ready is called with the
// terminal's path when a bridge can open it.
func RunMCU(ctx context.Context, o MCUOptions, ready func(path string)) error {
	cfg := sim.MCUConfig{Version: o.Version, VersionProperty: o.VersionProperty, SlotSize: o.SlotSize, Seed: o.Seed, OnEvent: logEvents(o.Log)}
	line := sim.LineConfig{Baud: o.Baud, Seed: o.Seed}
	if o.Fault != "" {
		fault, err := sim.FaultByName(o.Fault)
		if err != nil {
			return err
		}
		fault.Apply(&cfg, &line)
	}
	pty, err := sim.OpenPTYAt(line, o.Link)
	if err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	mcu := sim.NewMCU(cfg)
	g, runCtx := errgroup.WithContext(ctx)
	g.Go(func() error { return mcu.Run(runCtx, pty.MCU()) })
	ready(pty.Path())
	err = g.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, pty.Close())
}

// logEvents logs what happens in an MCU, pieces of the image at debug level.
func logEvents(log *slog.Logger) func(sim.Event) {
	return func(e sim.Event) {
		level := slog.LevelInfo
		if e.Kind == sim.EventLoad {
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "host MCU", "event", string(e.Kind), "version", e.Version, "done", e.Done, "size", e.Size, "code", e.Code.String())
	}
}
