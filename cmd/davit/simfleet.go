package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/internal/fleet"
	"davit/internal/fleet/supply"
	"davit/internal/sim"
	"davit/schemas"
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
	push        int64 // bytes of the image that is made, 0 for none
	result      string

	client *client.Client // nil without a need for one
	image  *supply.Image  // of --push, when it is at the service
	job    string         // of --push, once it may have been made

	childErr io.Writer // standard error as it was given to this process
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
	if err := supply.CheckPrefix(r.prefix, r.devices); err != nil {
		return usagef("sim fleet: --prefix: %w", err)
	}
	if r.serve && (changed("broker") || changed("server") || changed("data") || changed("token-file") || r.credentials != "") {
		return usagef("sim fleet: --serve starts a service of its own; leave --broker, --server, --data, --token-file and --credentials out")
	}
	if r.serve && r.cfg.Storm == fleet.StormWait {
		return usagef("sim fleet: --storm wait waits for somebody who restarts the broker, and nobody can restart the service of --serve; take --storm cut, or start a service with davit serve and leave --serve out")
	}
	if changed("push") {
		if most := min(schemas.MaxImageSize, int64(math.MaxInt)); r.push < sim.MinDemoImage || r.push > most {
			return usagef("sim fleet: --push is %d bytes, allowed are %d to %d", r.push, sim.MinDemoImage, most)
		}
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
	return nil
}

func (r *fleetRun) say(format string, args ...any) { fmt.Fprintf(r.p.err, format+"\n", args...) }

// run brings up what the fleet needs, runs it, and cleans up. What can be found wrong before anything is made
// is looked for first.
func (r *fleetRun) run(ctx context.Context) (err error) {
	ctx, over := r.watch(ctx)
	defer over()
	if err := fleet.CheckFiles(r.devices); err != nil {
		return err
	}
	file, err := openResult(r.result)
	if err != nil {
		return err
	}
	defer file.close()
	if r.serve {
		stop, err := r.startServe(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	defer func() { err = errors.Join(err, r.leave(ctx)) }()
	if err := r.supply(ctx); err != nil {
		return err
	}
	result, err := r.play(ctx)
	if err != nil {
		return err
	}
	return r.tell(result, file)
}

// play runs the fleet.
func (r *fleetRun) play(ctx context.Context) (*fleet.Result, error) {
	if r.image != nil {
		r.cfg.Ready = func() (err error) {
			if r.job, err = r.image.Push(ctx, r.client); err == nil {
				r.say("job %s is started", r.job)
			}
			return err
		}
	}
	r.cfg.Connected = func() {
		r.say("all %d devices have connected", len(r.cfg.Devices))
		if r.cfg.Storm == fleet.StormWait {
			r.say("waiting until all have lost their connections: restart the broker at %s now", r.cfg.Broker)
		}
	}
	result, err := fleet.Run(ctx, r.cfg)
	return result, withAdvice(err)
}

// greet finds out whether anything is there at the broker's address, before a fleet tries for minutes. It
// connects as a device: a connection without a login would count as refused there.
func (r *fleetRun) greet(ctx context.Context, as fleet.Login) error {
	if r.serve {
		return nil // it has said that it is ready
	}
	err := fleet.Greet(ctx, &r.cfg, as)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("no broker answers at %s: %w; start a service with: davit serve --data DIR, name another broker with --broker HOST:PORT, or let --serve start a service for this run", r.cfg.Broker, err)
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
			if err := r.greet(ctx, logins[0]); err != nil {
				return err
			}
			if r.push == 0 && !r.cleanUp {
				return nil // the API is not needed
			}
			if r.client, err = r.api.open(); err != nil {
				return err
			}
			return r.upload(ctx, supply.Prefix(logins))
		}
	}
	var err error
	if r.client, err = r.api.open(); err != nil {
		return fmt.Errorf("the devices are made at the service: %w; or let --serve start a service for this run", err)
	}
	if err := r.upload(ctx, r.prefix); err != nil {
		return err
	}
	return r.make(ctx)
}

// orServe adds what to do when no service answers the first request.
func orServe(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w, or let --serve start a service for this run", withAdvice(err))
	}
	return err
}

// upload brings the image of --push to the service, which may find it too large, before devices are made.
func (r *fleetRun) upload(ctx context.Context, prefix string) (err error) {
	if r.push == 0 {
		return nil
	}
	if err := supply.Types(ctx, r.client); err != nil {
		return orServe(err)
	}
	r.image, err = supply.Upload(ctx, r.client, prefix, int(r.push), r.cfg.Seed)
	return err
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
		return orServe(err)
	}
	if err := r.makeFirst(ctx); err != nil {
		return err
	}
	r.say("making %d devices", r.devices)
	logins, err := supply.More(ctx, r.client, r.prefix, r.cfg.Devices, r.devices, func(made int) {
		if made < r.devices {
			r.say("%d are made", made)
		}
	})
	r.cfg.Devices = logins
	if file != nil {
		err = errors.Join(err, writeLogins(file, logins)) // those that were made before an error, too
	}
	if err != nil && !r.cleanUp {
		r.say("%d devices are made and stay, the ids of which begin with %s", len(logins), r.prefix)
	}
	return err
}

// makeFirst makes the first device and tries the broker with it.
func (r *fleetRun) makeFirst(ctx context.Context) (err error) {
	if r.cfg.Devices, err = supply.Devices(ctx, r.client, r.prefix, 1, nil); err != nil {
		return err
	}
	if err = r.greet(ctx, r.cfg.Devices[0]); err != nil {
		r.cleanUp = true // nobody could use it: its password is gone with this run
	}
	return err
}

func writeLogins(file *newFile, logins []fleet.Login) error {
	var b strings.Builder
	if err := supply.WriteLogins(&b, logins); err != nil {
		return err
	}
	_, err := file.fill(strings.NewReader(b.String()))
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
