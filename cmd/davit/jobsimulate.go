package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/app/rolloutspec"
	"davit/internal/rehearsal"
	"davit/orchestrator"
)

// simulation is what the flags of job simulate say.
type simulation struct {
	config                        rehearsal.Config
	online                        float64
	onlineFor, offlineFor         time.Duration
	size                          float64
	width                         int
	ascii                         bool
	onlineSet, forSet, offlineSet bool
}

const defaultUntil = 30 * 24 * time.Hour

func (p *program) jobSimulate() *cobra.Command {
	sim := &simulation{config: rehearsal.Config{Fleet: rehearsal.DefaultFleet(), Until: defaultUntil}}
	var rollout *rolloutFlags
	cmd := p.command("simulate --rollout FILE", "Play a job against a modelled fleet in virtual time", noArgs, func(cmd *cobra.Command, _ []string) error {
		if err := sim.finish(cmd); err != nil {
			return err
		}
		var err error
		if sim.config.Rollout, err = rollout.read(); err != nil {
			return err
		}
		result, err := play(cmd.Context(), sim.config)
		if err != nil {
			return rollout.explainField(err)
		}
		return p.show(result, func(w io.Writer) { sim.print(w, p.columns(sim.width), result) })
	})
	cmd.Long = `Play a job against a modelled fleet in virtual time, and draw what became of it.
The rules are the service's own, and no server is needed. The flags of
davit job create say how the job reaches its devices, those below what the fleet
is like. Images in the rollout stand for the one that the fleet runs at first,
and devices that it names are devices of the fleet.

The same flags give the same result each time; --fleet-seed gives other chances.
The exit code is 0 whatever becomes of the job.`
	sim.addFlags(cmd)
	rollout = addRolloutFlags(cmd)
	return cmd
}

// play plays a job. Its many small records are garbage at once, which is collected
// less often meanwhile.
func play(ctx context.Context, c rehearsal.Config) (*rehearsal.Result, error) {
	const seldom = 400
	defer debug.SetGCPercent(debug.SetGCPercent(seldom))
	return rehearsal.Play(ctx, c)
}

// into adds a flag whose text is read by parse.
func into[T any](cmd *cobra.Command, name, kind, usage string, parse func(string) (T, error), take func(T)) {
	cmd.Flags().Var(&parsed[T]{kind: kind, parse: parse, take: take}, name, usage)
}

func (s *simulation) addFlags(cmd *cobra.Command) {
	fleet := &s.config.Fleet
	f := cmd.Flags()
	f.IntVar(&fleet.Devices, "devices", fleet.Devices, "how many devices the fleet has")
	f.Uint64Var(&fleet.Seed, "fleet-seed", fleet.Seed, "what all chance is drawn from")
	into(cmd, "online", "PERCENT", "for which part of the time devices are connected (90%)", rehearsal.ParsePart, func(v float64) { s.online, s.onlineSet = v, true })
	into(cmd, "online-for", "TIME", "for how long at a time, on average (12h)", rehearsal.ParseSpan, func(v time.Duration) { s.onlineFor, s.forSet = v, true })
	into(cmd, "offline-for", "TIME", "for how long at a time they are not, instead of one of the two before", rehearsal.ParseSpan, func(v time.Duration) { s.offlineFor, s.offlineSet = v, true })
	into(cmd, "size", "BYTES", "the size of the image (512KiB)", rehearsal.ParseSize, func(v float64) { s.size = v })
	into(cmd, "answer", "TIME", "how long host MCUs take to accept an offer, on average (5s)", rehearsal.ParseSpan, func(v time.Duration) { fleet.Answer = v })
	into(cmd, "bandwidth", "RATE", "what a device downloads in a second, from device to device half as much to half as much again (50KiB/s)", rehearsal.ParseRate, func(v float64) { fleet.Bandwidth = v })
	f.IntVar(&fleet.Line, "line", fleet.Line, "the speed of the serial line in bit/s")
	into(cmd, "boot", "TIME", "how long host MCUs take to boot, give or take a fifth (20s)", rehearsal.ParseSpan, func(v time.Duration) { fleet.Boot = v })
	into(cmd, "fail", rehearsal.FaultForm, "how many of the attempts that come so far fail with a cause, of all devices or those with a label; repeatable", rehearsal.ParseFault,
		func(v rehearsal.Fault) { fleet.Faults = append(fleet.Faults, v) })
	into(cmd, "fall-back", rehearsal.FallBackForm, "how many devices run the new version and return to the one before; repeatable", rehearsal.ParseFallBack,
		func(v rehearsal.Fault) { fleet.FallBacks = append(fleet.FallBacks, v) })
	into(cmd, "fall-back-after", "TIME", "after how long, on average (10m)", rehearsal.ParseSpan, func(v time.Duration) { fleet.FallAfter = v })
	into(cmd, "label", rehearsal.LabelForm, "a label of the devices and how many have which value; repeatable", rehearsal.ParseLabel,
		func(v rehearsal.Label) { fleet.Labels = append(fleet.Labels, v) })
	into(cmd, "group", rehearsal.GroupForm, "how many devices belong to a group that the rollout names; repeatable", rehearsal.ParseGroup,
		func(v rehearsal.Group) { fleet.Groups = append(fleet.Groups, v) })
	into(cmd, "begin", "TIME", "when the job starts, such as 2027-03-01T22:00:00+01:00 (--start-at, or "+rehearsal.DefaultStart().Format(time.RFC3339)+")", rolloutspec.ParseInstant, func(v time.Time) { s.config.Start = v })
	into(cmd, "until", "TIME", "after how long the play ends at the latest (30d)", rehearsal.ParseSpan, func(v time.Duration) { s.config.Until = v })
	into(cmd, "people", "TIME", "how long people take to approve a wave, to agree to updates or to have downloads installed (0s)", rehearsal.ParseSpan, func(v time.Duration) { s.config.People = v })
	f.IntVar(&s.width, "width", 0, "how many columns the curve is wide (the terminal's, or 80)")
	f.BoolVar(&s.ascii, "ascii", false, "draw with ASCII characters only")
}

// finish puts together what several flags say.
func (s *simulation) finish(cmd *cobra.Command) error {
	f := &s.config.Fleet
	if s.size > 0 {
		f.Size = uint64(s.size)
	}
	if s.onlineSet {
		f.Online = s.online
	}
	if s.forSet {
		f.OnlineFor = s.onlineFor
	}
	switch {
	case s.onlineSet && s.forSet && s.offlineSet:
		return usagef("job simulate: --online, --online-for and --offline-for say the same twice; leave one of them out")
	case s.offlineSet && s.forSet && s.onlineFor > 0:
		f.Online = float64(s.onlineFor) / float64(s.onlineFor+s.offlineFor)
	case s.offlineSet && f.Online == 1 && s.offlineFor > 0:
		return usagef("job simulate: devices that are always connected (--online 100%%) are never offline for %v", s.offlineFor)
	case s.offlineSet && f.Online < 1:
		f.OnlineFor = time.Duration(float64(s.offlineFor) * f.Online / (1 - f.Online))
	}
	if s.width < 0 || cmd.Flags().Changed("width") && s.width < 20 {
		return usagef("job simulate: --width is %d, at least 20 columns are needed", s.width)
	}
	return nil
}

// explainField says of what is wrong with a rollout which flag, or which line of the
// file, it comes from.
func (f *rolloutFlags) explainField(err error) error {
	var field *orchestrator.FieldError
	if !errors.As(err, &field) {
		return err
	}
	pointer, ok := strings.CutPrefix(field.Field, "rollout/")
	if origin := f.origin(pointer); ok && origin != "" {
		return fmt.Errorf("%s: %w", origin, err)
	}
	return err
}

// columns is how wide the output may be.
func (p *program) columns(asked int) int {
	const usual = 80
	if asked > 0 {
		return asked
	}
	if n, _, ok := app.TerminalSize(p.out); ok {
		return n
	}
	return usual
}
