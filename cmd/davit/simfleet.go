package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/fleet"
	"davit/internal/fleet/supply"
)

func (p *program) simCommand() *cobra.Command {
	return p.parent("sim", "Simulate what davit serves", p.simFleet())
}

// fleetRun is what the flags of sim fleet say, and what the command needs for it.
type fleetRun struct {
	p           *program
	cfg         fleet.Config
	api         clientFlags
	devices     int
	credentials string // file, empty for none
	prefix      string
	cleanUp     bool
	serve       bool
	push        int // bytes of the image that is made, 0 for none
	result      string

	client *client.Client // nil without a need for one
}

func (p *program) simFleet() *cobra.Command {
	r := &fleetRun{p: p, cfg: fleet.DefaultConfig()}
	profile := fleet.DefaultProfile()
	var profiles string
	cmd := p.command("fleet --devices N [--update | --push SIZE] [--storm cut|wait] [--hold TIME]", "Simulate many modules with real MQTT connections", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			if err := r.complete(cmd, profile, profiles); err != nil {
				return err
			}
			return r.run(cmd.Context())
		})
	cmd.Long = `Simulate many modules with real MQTT connections (3.1.1 and 5): they connect, say hello,
fetch what they are offered and check it byte by byte, and report as the contract says. Their
host MCUs are only a matter of time.

The devices are made at the service, for which an API token is needed, or with
--credentials FILE their user names and passwords are read from a file that is there
already. --serve starts a service of its own for the run. With that, one command shows
everything:

  davit sim fleet --serve --devices 1000 --push 256KiB

What is done: all devices connect, --ramp a second; --storm; --update or --push; --hold.
Without any of these the fleet stays connected until it is interrupted. The exit code is 0
if all devices connected, each update ended as the profile says, and no wrong byte came.

` + "`ulimit -n`" + ` has to allow a file for each device.`
	r.addFlags(cmd, &profiles)
	addProfileFlags(cmd, &profile)
	return cmd
}

// complete puts together what several flags say.
func (r *fleetRun) complete(cmd *cobra.Command, profile fleet.Profile, profiles string) error {
	changed := cmd.Flags().Changed
	if r.devices < 1 || r.devices > fleet.MaxDevices {
		return usagef("sim fleet: --devices is %d, allowed are 1 to %d", r.devices, fleet.MaxDevices)
	}
	if profiles != "" {
		if flag := changedProfileFlag(cmd); flag != "" {
			return usagef("sim fleet: --%s is about one profile; with --profiles write it into the file", flag)
		}
		var err error
		if r.cfg.Profiles, err = readProfiles(profiles); err != nil {
			return err
		}
	} else {
		r.cfg.Profiles = []fleet.Profile{profile}
	}
	if r.serve && (changed("broker") || changed("server") || changed("data") || changed("token-file") || r.credentials != "") {
		return usagef("sim fleet: --serve starts a service of its own; leave --broker, --server, --data, --token-file and --credentials out")
	}
	if r.push > 0 {
		r.cfg.Update = true
	}
	if !r.cfg.Update && r.cfg.Storm == fleet.NoStorm && !changed("hold") {
		r.cfg.Hold = fleet.Forever
	}
	if r.cfg.Hellos > 0 && r.cfg.Hold == 0 {
		return usagef("sim fleet: --hellos are said while the fleet holds; add --hold TIME")
	}
	if err := r.cfg.Validate(); err != nil {
		return fleetMistake(err)
	}
	r.cfg.View, r.cfg.Terminal = r.p.err, app.IsTerminal(r.p.err)
	return nil
}

func (r *fleetRun) say(format string, args ...any) { fmt.Fprintf(r.p.err, format+"\n", args...) }

// run brings up what the fleet needs, runs it, and cleans up.
func (r *fleetRun) run(ctx context.Context) (err error) {
	if r.serve {
		stop, err := r.startServe(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err := r.probe(ctx); err != nil {
		return err
	}
	if err := r.supply(ctx); err != nil {
		return err
	}
	if r.client != nil {
		defer r.client.Close()
	}
	if r.cleanUp {
		defer func() { err = errors.Join(err, r.remove(ctx)) }()
	}
	if r.push > 0 {
		r.cfg.Ready = func() error {
			job, err := supply.Push(ctx, r.client, supply.Prefix(r.cfg.Devices), r.push, r.cfg.Seed)
			if err == nil {
				r.say("job %s is started", job)
			}
			return err
		}
	}
	r.cfg.Connected = func() { r.say("all %d devices have connected", len(r.cfg.Devices)) }
	result, err := fleet.Run(ctx, r.cfg)
	if err != nil {
		return withAdvice(err)
	}
	return r.tell(result)
}

// probe finds out whether anything is there at the broker's address, before a fleet tries
// for minutes.
func (r *fleetRun) probe(ctx context.Context) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", r.cfg.Broker)
	if err != nil {
		return fmt.Errorf("no broker answers at %s: %w; start a service with: davit serve --data DIR, name another broker with --broker HOST:PORT, or let --serve start a service for this run", r.cfg.Broker, err)
	}
	return conn.Close()
}

// supply finds the devices in a file, or makes them at the service.
func (r *fleetRun) supply(ctx context.Context) error {
	if r.credentials != "" {
		switch logins, err := readCredentials(r.credentials); {
		case errors.Is(err, fs.ErrNotExist): // made below
		case err != nil:
			return err
		case len(logins) < r.devices:
			return fmt.Errorf("%s has %d devices, and --devices is %d; take fewer, or another file", r.credentials, len(logins), r.devices)
		default:
			r.cfg.Devices = logins[:r.devices]
			if r.push == 0 && !r.cleanUp {
				return nil // the API is not needed
			}
			r.client, err = r.api.open()
			return err
		}
	}
	var err error
	if r.client, err = r.api.open(); err != nil {
		return fmt.Errorf("the devices are made at the service: %w; or let --serve start a service for this run", err)
	}
	return withAdvice(r.make(ctx))
}

func (r *fleetRun) make(ctx context.Context) error {
	var file *newFile
	if r.credentials != "" {
		var err error
		if file, err = createFile(r.credentials); err != nil {
			return err
		}
		defer file.abandon()
	}
	if err := supply.Types(ctx, r.client); err != nil {
		return err
	}
	r.say("making %d devices", r.devices)
	logins, err := supply.Devices(ctx, r.client, r.prefix, r.devices, func(made int) {
		if made < r.devices {
			r.say("%d are made", made)
		}
	})
	if err != nil {
		return err
	}
	r.cfg.Devices = logins
	if file == nil {
		return nil
	}
	var b strings.Builder
	if err := supply.WriteLogins(&b, logins); err != nil {
		return err
	}
	_, err = file.fill(strings.NewReader(b.String()))
	return err
}

func readCredentials(path string) ([]fleet.Login, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	logins, err := supply.ReadLogins(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return logins, nil
}

func (r *fleetRun) remove(ctx context.Context) error {
	r.say("removing %d devices", len(r.cfg.Devices))
	return supply.Remove(context.WithoutCancel(ctx), r.client, r.cfg.Devices, func(n int) { r.say("%d are removed", n) })
}

// tell prints the result and writes it to its file.
func (r *fleetRun) tell(result *fleet.Result) error {
	if r.result != "" {
		b, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(r.result, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if err := r.p.show(result, result.Print); err != nil {
		return err
	}
	if !result.Succeeded {
		return errReported
	}
	return nil
}
