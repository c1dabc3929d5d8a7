package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/logevent"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

// MCUOptions configure a simulated host MCU on a pseudo-terminal.
type MCUOptions struct {
	// Dialect is what it speaks.
	Dialect string
	// Version and VersionProperty are what it reports in the ayla dialect.
	Version         string
	VersionProperty string
	// Type, VersionID and AttributeSize stand for image type and version and for
	// the attribute that carries an image in the afero dialect, Protocol is the
	// version of that.
	Type          int
	VersionID     uint64
	AttributeSize int
	Protocol      int
	Baud          int // of the line, in bit/s
	SlotSize      int
	// Fault is a failure case of FaultNames; empty for a healthy MCU.
	Fault string
	// Link is the path of a symbolic link to the terminal; empty for none.
	Link string
	Seed uint64
	Log  *slog.Logger
}

// FaultNames lists the failure cases of a simulated MCU for people.
func FaultNames() string { return strings.Join(sim.FaultNames(), ", ") }

// UsualBaud is the speed in bit/s to which a bridge sets a port of a dialect unless
// told otherwise, 0 for an unknown dialect.
func UsualBaud(dialect string) int { return UsualLine(dialect).Baud }

// UsualLine is how a bridge sets a port of a dialect unless told otherwise, the zero
// value for an unknown dialect.
func UsualLine(name string) (line dialect.LineSettings) {
	if d, ok := dialects()[name]; ok {
		line = d.Line()
	}
	return line
}

// Validate checks what can be checked without touching anything.
func (o *MCUOptions) Validate() error {
	var err error
	switch o.Dialect {
	case ayla.Name:
		err = o.validateAyla()
	case afero.Name:
		err = o.validateAfero()
	default:
		return fmt.Errorf("mcu: --dialect is %q; allowed are %s and %s", o.Dialect, ayla.Name, afero.Name)
	}
	if err != nil {
		return err
	}
	switch {
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

func (o *MCUOptions) validateAyla() error {
	switch {
	case o.Version == "" || len(o.Version) > sim.MaxDemoVersion:
		return fmt.Errorf("mcu: --version %q: 1 to %d characters are allowed", o.Version, sim.MaxDemoVersion)
	case o.VersionProperty == "":
		return errors.New("mcu: --property is empty; the MCU reports its version under a name")
	}
	return nil
}

func (o *MCUOptions) validateAfero() error {
	switch {
	case o.Type < afpro.MinType || o.Type > afpro.MaxType:
		return fmt.Errorf("mcu: --type is %d; firmware of a host MCU has a number from %d to %d", o.Type, afpro.MinType, afpro.MaxType)
	case o.VersionID < 1 || o.VersionID > schemas.MaxVersionID:
		return fmt.Errorf("mcu: --version-id is %d; allowed are 1 to %d", o.VersionID, uint64(schemas.MaxVersionID))
	case o.AttributeSize < schemas.MinAttributeSize || o.AttributeSize > schemas.MaxAttributeSize:
		return fmt.Errorf("mcu: --attribute-size is %d; allowed are %d to %d bytes", o.AttributeSize, schemas.MinAttributeSize, schemas.MaxAttributeSize)
	case o.Protocol != 1 && o.Protocol != 2:
		return fmt.Errorf("mcu: --protocol is %d; afLib has the versions 1 and 2", o.Protocol)
	}
	return nil
}

// maxBaud is the fastest line that is simulated.
const maxBaud = 12_000_000

// host makes the MCU and its line.
func (o *MCUOptions) host() (sim.Host, sim.LineConfig, error) {
	cfg := sim.MCUConfig{Version: o.Version, VersionProperty: o.VersionProperty, SlotSize: o.SlotSize, Seed: o.Seed, OnEvent: logEvents(o.Log)}
	line := sim.LineConfig{Baud: o.Baud, Seed: o.Seed}
	if o.Fault != "" {
		fault, err := sim.FaultByName(o.Fault)
		if err != nil {
			return nil, line, err
		}
		fault.Apply(&cfg, &line)
	}
	if o.Dialect != afero.Name {
		return sim.NewMCU(cfg), line, nil
	}
	line.BitsPerByte = 10 // start, eight data bits, stop
	return sim.NewAferoMCU(sim.AferoConfig{
		MCUConfig: cfg, Type: uint16(o.Type), VersionID: o.VersionID, AttributeSize: o.AttributeSize, Protocol: o.Protocol,
	}), line, nil
}

// RunMCU runs a simulated host MCU until ctx ends. ready is called with the
// terminal's path when a bridge can open it.
func RunMCU(ctx context.Context, o MCUOptions, ready func(path string)) error {
	mcu, line, err := o.host()
	if err != nil {
		return err
	}
	pty, err := sim.OpenPTYAt(line, o.Link)
	if err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
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
		log.Log(context.Background(), level, "host MCU", "event", logevent.SimulatedMCU, "what", string(e.Kind), "version", e.Version, "done", e.Done, "size", e.Size, "code", e.Code.String())
	}
}
