package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
)

// bridgeReady is the line that bridge prints when its ports are served.
type bridgeReady struct {
	Ready   bool     `json:"ready"`
	Broker  string   `json:"broker"`
	Devices []string `json:"devices"`
	Metrics string   `json:"metrics,omitempty"`
}

const bridgeLong = `Run a bridge: one MQTT connection that plays the module for the host MCU on each
serial port. Downloads and the state of each update are kept in the data folder, so
that a restart goes on where it was.

A port is named by its path, as usb:VID:PID:SERIAL or as by-path:NAME; davit bridge ports
lists those of this machine. By the last two, an adapter that was unplugged is found again
whatever path it is back under.

What a port leaves out is as the dialect has it: 115200 bit/s, odd parity and RTS/CTS for
ayla, 9600 bit/s, no parity and no flow control for afero. The dialect is that of the
device's type unless the port names it, and the port is opened once it is known. The
attribute size, of afero only, is the device type's, too.

What the flags say can stand in a file (--config, in YAML) and in the environment by the
same names: --offer-interval, offer-interval, DAVIT_OFFER_INTERVAL; the ports are ports in the
file and DAVIT_PORTS. A flag wins over the environment, that over the file. SIGHUP has the bridge read the file again and take over its ports:
those that are the same go on, those on which an update is under way change when it has
ended. A file with a mistake is refused with its line, and the bridge goes on as it was.

When the bridge serves its ports, one line of JSON on standard output says so. A port
that is missing or unplugged is tried again; it does not hold up the others.

On SIGTERM or an interrupt no update is begun any more, images are no longer fetched, and
updates that host MCUs are in the middle of may go on for as long as --drain-timeout says.
A second signal stops these as well, between two frames, a third kills the program.
Whatever is left goes on after the next start. davit bridge status shows what the bridge
is doing.

With --record, what passes on the ports is recorded, a file for each opening, firmware
included; davit sniff shows it. A disk that is full or too slow costs the recording
and never the update. Nothing removes old recordings.`

func (p *program) bridgeCommand() *cobra.Command {
	var s bridgeSettings
	cmd := p.command("bridge [--config FILE] --broker URL --username U --password-file FILE --port DEVICE=PORT --data DIR",
		"Run a bridge: the module's part for host MCUs on serial ports", noSuchCommand,
		func(cmd *cobra.Command, _ []string) error {
			set, warnings, err := s.load(cmd, p.environ)
			if err != nil {
				return err
			}
			o, err := s.opts.WithFile()
			if err != nil {
				return err
			}
			if err := located(set, "bridge", s.opts.Config, o.Validate()); err != nil {
				return err
			}
			if s.opts.Log, err = app.NewLogger(p.err, o.Logs); err != nil {
				return fmt.Errorf("bridge: %w", err)
			}
			warnOfVariables(s.opts.Log, warnings)
			return p.bridge(cmd, s.opts)
		})
	cmd.Long = bridgeLong
	s.addTo(cmd)
	cmd.AddCommand(p.bridgeAdd(), p.bridgeList(), p.bridgeShow(), p.bridgeChange(), p.bridgeRotate(), p.bridgePorts(), p.bridgeStatus(), p.bridgeLogLevel(),
		p.removeCommand("a bridge's credentials; its devices stay", (*client.Client).DeleteBridge))
	return cmd
}

func (p *program) bridge(cmd *cobra.Command, opts app.BridgeOptions) error {
	reload := make(chan os.Signal, 1) // before anything else: a reload that comes early must not kill the process
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	go app.GiveBackMemory(cmd.Context())
	b, err := app.NewBridge(opts)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	defer stopOnSecondSignal(cmd.Context(), b.Stop)()
	err = p.runManaged(cmd.Context(), opts.Log, managed{
		program: b,
		started: func() {
			opts := b.Options()
			_ = p.printJSON(bridgeReady{true, opts.Broker, opts.Devices(), b.MetricsAddr()})
		},
		status:  func() string { return bridgeStatusLine(b) },
		hangups: reload,
		reload:  b.Reload,
	})
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// stopOnSecondSignal has the second interrupt or SIGTERM call stop, and the third
// kill the process. The first ends ctx, and may have done so before. What it returns
// ends that.
func stopOnSecondSignal(ctx context.Context, stop func()) func() {
	awaited := 2
	if ctx.Err() != nil {
		awaited = 1
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	go func() {
		defer signal.Stop(signals)
		for range awaited {
			select {
			case <-signals:
			case <-over:
				return
			}
		}
		stop()
	}()
	return func() { close(over) }
}

func (p *program) bridgeAdd() *cobra.Command {
	var devices []string
	var file string
	cmd := p.createCommand("add ID --device ID [--out FILE]", "Let a bridge act for devices; prints its password, once", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if len(devices) == 0 {
				return usagef("bridge add: name the devices that the bridge acts for with --device")
			}
			return p.keep(file, fmt.Sprintf("Bridge %s added for %s.", args[0], count(len(devices), "device")), func() (issued, error) {
				b, err := c.CreateBridge(cmd.Context(), args[0], devices)
				return bridgeCredentials{b}, err
			})
		})
	intoFile(cmd, &file, "; davit bridge takes it as --password-file")
	cmd.Flags().StringArrayVar(&devices, "device", nil, "device that the bridge acts for (required); repeatable")
	return cmd
}

func (p *program) bridgeList() *cobra.Command {
	type T = client.Bridge
	return listCommand(p, "list", "List the bridges and the devices that they act for", noArgs, plain((*client.Client).Bridges),
		column[T]{"ID", func(b T) string { return b.ID }},
		column[T]{"DEVICES", func(b T) string { return strings.Join(b.Devices, " ") }},
		column[T]{"PASSWORD", func(b T) string { return passwordOf(b.Login, time.Now()) }})
}

func (p *program) bridgeShow() *cobra.Command {
	return p.apiCommand("show ID", "Show a bridge and the devices that it acts for", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		b, err := c.Bridge(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.show(b, func(w io.Writer) {
			fields(w, "id", b.ID, "devices", strings.Join(b.Devices, " "), "password", passwordOf(b.Login, time.Now()))
		})
	})
}

func (p *program) bridgeChange() *cobra.Command {
	var devices, add, remove []string
	cmd := p.apiCommand("change ID [flags]", "Change which devices a bridge acts for; its password stays", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			patch := client.BridgePatch{AddDevices: words(add), RemoveDevices: words(remove)}
			if cmd.Flags().Changed("device") {
				list := words(devices)
				patch.Devices = &list
			} else if len(patch.AddDevices)+len(patch.RemoveDevices) == 0 {
				return usagef("bridge change: say what to change with --device, --add-device or --remove-device")
			}
			b, err := c.ChangeBridge(cmd.Context(), args[0], patch)
			if err != nil {
				return err
			}
			if len(b.Devices) == 0 {
				return p.done(b, "Bridge %s acts for no device now; it keeps its password.", b.ID)
			}
			return p.done(b, "Bridge %s acts for %s.", b.ID, strings.Join(b.Devices, " "))
		})
	f := cmd.Flags()
	f.StringArrayVar(&devices, "device", nil, "device that the bridge acts for, in place of those that it has; repeatable, '' for none")
	f.StringArrayVar(&add, "add-device", nil, "device to add; repeatable")
	f.StringArrayVar(&remove, "remove-device", nil, "device to take off the list; it stays registered; repeatable")
	cmd.MarkFlagsMutuallyExclusive("device", "add-device")
	cmd.MarkFlagsMutuallyExclusive("device", "remove-device")
	return cmd
}
