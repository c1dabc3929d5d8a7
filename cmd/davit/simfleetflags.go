package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/fleetfile"
	"davit/internal/fleet"
	"davit/internal/rehearsal"
)

// addFlags adds what is about the fleet as a whole.
func (r *fleetRun) addFlags(cmd *cobra.Command, profiles *string) {
	c := &r.cfg
	f := cmd.Flags()
	r.api.addTo(cmd)
	f.StringVar(&c.Broker, "broker", c.Broker, "HOST:PORT of the MQTT broker, without TLS")
	f.IntVar(&r.devices, "devices", 100, "how many devices the fleet has")
	f.StringVar(&r.credentials, "credentials", "", "CSV file with the user names and passwords of devices; one that is not there is written, with devices that are made")
	f.StringVar(&r.prefix, "prefix", fmt.Sprintf("sim-%s-", letters(4)), "what the ids of the devices that are made begin with (default sim-, four random letters and -)")
	f.Lookup("prefix").DefValue = "" // help and manual say the same each time
	f.BoolVar(&r.cleanUp, "clean-up", false, "delete the devices in the end")
	f.BoolVar(&r.serve, "serve", false, "start a service for this run, on a temporary folder")
	f.StringVar(profiles, "profiles", "", "YAML file with the profiles of a mixed fleet, instead of the flags of one (docs/fleet.yaml)")
	f.Var(&parsed[uint64]{kind: "uint", text: strconv.FormatUint(c.Seed, 10), parse: readSeed, take: func(v uint64) { c.Seed = v }}, "seed", "what all chance is drawn from")
	f.Float64Var(&c.Ramp, "ramp", c.Ramp, "how many devices connect a second")
	f.IntVar(&c.Pending, "pending", c.Pending, "how many connections may be in the making at a time, storms aside; 0 is no limit")
	f.DurationVar(&c.KeepAlive, "keep-alive", c.KeepAlive, "keep alive of the connections")
	f.DurationVar(&c.Repeat, "repeat", c.Repeat, "after how long a status or a fetch is repeated that nobody answers; the wait doubles up to a minute")
	f.Float64Var(&c.TimeScale, "time-scale", c.TimeScale, "how much faster time passes for host MCUs")
	into(cmd, "storm", "cut|wait", "when all are connected, lose all connections at once, cut by the fleet or by whoever restarts the broker, and connect again", readStorm, func(v fleet.Storm) { c.Storm = v })
	f.BoolVar(&c.Update, "update", false, "wait until every device has brought an update to its end")
	into(cmd, "push", "SIZE", "make an image of so many bytes and a job that brings it to the fleet; implies --update", rehearsal.ParseSize, func(v float64) { r.push = int64(v) })
	into(cmd, "hold", "TIME", "stay connected for so long then, or forever: until interrupted", readHold, func(v time.Duration) { c.Hold = v })
	f.Float64Var(&c.Hellos, "hellos", 0, "how many hellos a second the fleet says while it holds")
	f.DurationVar(&c.Timeout, "timeout", c.Timeout, "how long connecting, a storm and updates may take, each")
	f.DurationVar(&c.Every, "every", 0, "how often progress is shown (1s on a terminal, 5s otherwise)")
	f.StringVar(&r.result, "result", "", "file that the result is written to as JSON, whatever the output is")
	completeWith(cmd, "storm", string(fleet.StormCut), string(fleet.StormWait))
}

// profileFlags are the flags of one profile.
func profileFlags() []string {
	return []string{"bandwidth", "latency", "loss", "chunk", "window", "reboot-every", "answer", "line", "boot", "fail", "fall-back", "fall-back-after", "never-read", "adaptive", "streams", "mqtt311"}
}

func changedProfileFlag(cmd *cobra.Command) string {
	all := profileFlags()
	if i := slices.IndexFunc(all, cmd.Flags().Changed); i >= 0 {
		return all[i]
	}
	return ""
}

// addProfileFlags adds what is about one profile.
func addProfileFlags(cmd *cobra.Command, p *fleet.Profile) {
	f := cmd.Flags()
	into(cmd, "mqtt311", "PERCENT", "how many devices speak MQTT 3.1.1; the others speak MQTT 5 (0%)", rehearsal.ParsePart, func(v float64) { p.V311 = v })
	into(cmd, "bandwidth", "RATE", "what a module reads in a second, such as 50KiB/s (no limit)", rehearsal.ParseRate, func(v float64) { p.Bandwidth = v })
	f.DurationVar(&p.Latency, "latency", 0, "round-trip time that is added")
	into(cmd, "loss", "PERCENT", "how many chunks get lost (0%)", rehearsal.ParsePart, func(v float64) { p.Loss = v })
	into(cmd, "chunk", "SIZE", "size of the chunks that are asked for (what the offer prefers)", rehearsal.ParseSize, func(v float64) { p.Chunk = int(v) })
	f.IntVar(&p.Window, "window", p.Window, "how many chunks may be on their way")
	f.BoolVar(&p.Adaptive, "adaptive", false, "window and chunk size follow the path, as those of the bridge do; --window means nothing then")
	f.BoolVar(&p.Streams, "streams", false, "modules follow the shared stream of an image, if the offer names one")
	into(cmd, "reboot-every", "TIME", "after how long a module reboots, on average (never)", rehearsal.ParseSpan, func(v time.Duration) { p.RebootEvery = v })
	f.DurationVar(&p.Answer, "answer", p.Answer, "how long host MCUs take to accept an offer, on average")
	f.IntVar(&p.Line, "line", p.Line, "speed in bit/s of the lines on which host MCUs are loaded")
	f.DurationVar(&p.Boot, "boot", p.Boot, "how long host MCUs take to boot, give or take a fifth")
	into(cmd, "fail", "CAUSE=PERCENT%", "how many devices fail with a cause; repeatable", readFault, func(v fleet.Fault) { p.Faults = append(p.Faults, v) })
	into(cmd, "fall-back", "PERCENT", "how many devices return to the version before (0%)", rehearsal.ParsePart, func(v float64) { p.FallBack = v })
	f.DurationVar(&p.FallBackAfter, "fall-back-after", p.FallBackAfter, "how long after their success")
	into(cmd, "never-read", "PERCENT", "how many devices ask for chunks and never read them (0%)", rehearsal.ParsePart, func(v float64) { p.NeverRead = v })
}

func readFault(s string) (fleet.Fault, error) {
	v, err := rehearsal.ParseFault(s)
	if err == nil && v.Label != "" {
		return fleet.Fault{}, fmt.Errorf("%q: simulated devices have no labels; write CAUSE=PERCENT%%", s)
	}
	return fleet.Fault{Cause: v.Cause, Part: v.Chance}, err
}

// fleetMistake names the flag that a mistake is about. Profiles of a file were looked at when it was read.
func fleetMistake(err error) error {
	var one *fleet.Mistake
	if errors.As(err, &one) {
		return usagef("sim fleet: --%w", one)
	}
	return usagef("sim fleet: %w", err)
}

func readSeed(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("it is a whole number from 0 to %d", uint64(math.MaxUint64))
	}
	return n, nil
}

func readStorm(s string) (fleet.Storm, error) {
	switch v := fleet.Storm(s); v {
	case fleet.StormCut, fleet.StormWait:
		return v, nil
	}
	return fleet.NoStorm, fmt.Errorf("%q is no storm; it is %s or %s", s, fleet.StormCut, fleet.StormWait)
}

func readHold(s string) (time.Duration, error) {
	if s == "forever" {
		return fleet.Forever, nil
	}
	return rehearsal.ParseSpan(s)
}

// readProfiles reads a file of profiles; what is wrong with it is a mistake on the command line.
func readProfiles(path string) ([]fleet.Profile, error) {
	profiles, err := fleetfile.Load(path)
	if err != nil {
		return nil, cannotError{err}
	}
	return profiles, nil
}

// letters are n random ones.
func letters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rand.IntN(26))
	}
	return string(b)
}
