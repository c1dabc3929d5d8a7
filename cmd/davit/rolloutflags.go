package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/rolloutspec"
	"davit/internal/client"
	"davit/orchestrator"
)

// rolloutFlags are the flags that say how a job reaches its devices: a file, and
// what is needed most as flags of their own, which win over the file.
type rolloutFlags struct {
	cmd      *cobra.Command
	fileName string
	file     rolloutspec.File
	settings []rolloutSetting
}

// rolloutSetting is a flag that was given, as it changes a rollout.
type rolloutSetting struct {
	flag string
	// pointer names what it sets, as a pattern of path.Match: waves/*/soak.
	pointer string
	apply   func(*orchestrator.Rollout) error
}

// parsed is a flag whose text is read by parse; take gets each value.
type parsed[T any] struct {
	kind, text string
	parse      func(string) (T, error)
	take       func(T)
}

func (v *parsed[T]) Type() string   { return v.kind }
func (v *parsed[T]) String() string { return v.text }

func (v *parsed[T]) Set(s string) error {
	value, err := v.parse(s)
	if err == nil {
		v.text = s
		v.take(value)
	}
	return err
}

// flagOf adds a flag for one value.
func flagOf[T any](f *rolloutFlags, name, kind, usage string, parse func(string) (T, error), pointer string, apply func(*orchestrator.Rollout, T)) {
	var value T
	f.cmd.Flags().Var(&parsed[T]{kind: kind, parse: parse, take: func(v T) { value = v }}, name, usage)
	f.settings = append(f.settings, rolloutSetting{name, pointer, func(r *orchestrator.Rollout) error {
		apply(r, value)
		return nil
	}})
}

// listOf adds a flag that may be repeated.
func listOf[T any](f *rolloutFlags, name, kind, usage string, parse func(string) (T, error), pointer string, apply func(*orchestrator.Rollout, []T)) {
	var values []T
	f.cmd.Flags().Var(&parsed[T]{kind: kind, parse: parse, take: func(v T) { values = append(values, v) }}, name, usage)
	f.settings = append(f.settings, rolloutSetting{name, pointer, func(r *orchestrator.Rollout) error {
		apply(r, values)
		return nil
	}})
}

// orNew is what *p points to, made if need be.
func orNew[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// Readers of simple values, which say what to write instead.

func readText(s string) (string, error) { return s, nil }

func readNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", s)
	}
	return n, nil
}

func readAmount(s string) (int, error) {
	n, err := readNumber(s)
	if err == nil && n < 0 {
		err = fmt.Errorf("%q is less than nothing; write a whole number, 0 for no limit", s)
	}
	return n, err
}

// oneOf reads one of some names.
func oneOf[T ~string](names []string) func(string) (T, error) {
	return func(s string) (T, error) {
		if !slices.Contains(names, s) {
			return "", fmt.Errorf("%q is none of %s", s, strings.Join(names, ", "))
		}
		return T(s), nil
	}
}

// The names that some flags take.

func actionNames() []string    { return []string{"install", "soft", "confirm", "download"} }
func basisNames() []string     { return []string{"all", "online"} }
func confirmerNames() []string { return []string{"person", "product"} }
func streamNames() []string    { return []string{"auto", "always", "never"} }

// addRolloutFlags adds them to a command.
func addRolloutFlags(cmd *cobra.Command) *rolloutFlags {
	f := &rolloutFlags{cmd: cmd}
	cmd.Flags().StringVar(&f.fileName, "rollout", "", "file that says how the job reaches its devices, YAML or JSON (docs/rollout.yaml is an example); the flags below win over it")
	f.waveFlags()
	f.stopFlags()
	f.paceFlags()
	f.scheduleFlags()
	f.retryFlags()
	f.actionFlags()
	return f
}

func (f *rolloutFlags) waveFlags() {
	listOf(f, "wave", "WAVE", "a wave: "+rolloutspec.WaveForm+"; repeatable, in the order of their release", rolloutspec.ParseWave, "waves",
		func(r *orchestrator.Rollout, v []orchestrator.Wave) { r.Waves = v })
	ofWaves(f, "success", "PERCENT", "how many per cent of a wave have to have succeeded before the next one begins (100)", rolloutspec.ParsePercent,
		func(w *orchestrator.Wave, v float64) { w.Success = v })
	ofWaves(f, "of", strings.Join(basisNames(), "|"), "of which of its devices: all, or online, those that were there to be offered the image (all)", oneOf[orchestrator.WaveBasis](basisNames()),
		func(w *orchestrator.Wave, v orchestrator.WaveBasis) { w.Of = v })
	ofWaves(f, "soak", "TIME", "how long that has to hold before the next wave begins", rolloutspec.ParseDuration,
		func(w *orchestrator.Wave, v orchestrator.Duration) { w.Soak = v })
	var approve bool
	f.cmd.Flags().BoolVar(&approve, "approve", false, "somebody has to approve every wave but the first before it begins (davit job approve)")
	f.settings = append(f.settings, rolloutSetting{"approve", "waves/*/approve", func(r *orchestrator.Rollout) error {
		if len(r.Waves) == 0 {
			return withoutWaves("approve")
		}
		if approve && !takesAll(r.Waves) {
			// The devices that are left over are a wave, too.
			r.Waves = append(r.Waves, orchestrator.Wave{Name: "rest", Percent: 100})
		}
		for i := range r.Waves {
			r.Waves[i].Approve = approve && i > 0
		}
		return nil
	}})
	completeWith(f.cmd, "of", basisNames()...)
}

// takesAll says whether waves leave no devices over: the last one that names none
// goes up to all of them.
func takesAll(waves []orchestrator.Wave) bool {
	for _, w := range slices.Backward(waves) {
		if w.Group == "" && len(w.Devices) == 0 {
			return w.Percent == 100
		}
	}
	return false
}

func withoutWaves(flag string) error {
	return usagef("--%s is about waves, and the job has none; add them with --wave, or in the file of --rollout", flag)
}

// ofWaves adds a flag that sets something of every wave.
func ofWaves[T any](f *rolloutFlags, name, kind, usage string, parse func(string) (T, error), set func(*orchestrator.Wave, T)) {
	var value T
	f.cmd.Flags().Var(&parsed[T]{kind: kind, parse: parse, take: func(v T) { value = v }}, name, usage)
	f.settings = append(f.settings, rolloutSetting{name, "waves/*/" + name, func(r *orchestrator.Rollout) error {
		if len(r.Waves) == 0 {
			return withoutWaves(name)
		}
		for i := range r.Waves {
			set(&r.Waves[i], value)
		}
		return nil
	}})
}

func (f *rolloutFlags) stopFlags() {
	listOf(f, "stop", "RULE", "what stops the job when devices fail: "+rolloutspec.StopForm+"; repeatable", rolloutspec.ParseStop, "stop",
		func(r *orchestrator.Rollout, v []orchestrator.StopRule) { r.Stop = v })
	var image string
	f.cmd.Flags().StringVar(&image, "roll-back", "", "image that devices are brought back to that have succeeded when a rule aborts the job")
	f.settings = append(f.settings, rolloutSetting{"roll-back", "stop/*/roll_back", func(r *orchestrator.Rollout) error {
		found := false
		for i := range r.Stop {
			if a := r.Stop[i].Action; a == orchestrator.StopAbort || a == orchestrator.StopRecall {
				r.Stop[i].RollBack, found = image, true
			}
		}
		if !found {
			return usagef("--roll-back goes with a rule that aborts the job, and there is none; add one such as --stop 5%%/20:abort")
		}
		return nil
	}})
}

func (f *rolloutFlags) paceFlags() {
	flagOf(f, "max-in-progress", "N", "how many devices may be in progress at a time", readAmount, "pace/max_in_progress",
		func(r *orchestrator.Rollout, n int) { orNew(&r.Pace).MaxInProgress = n })
	flagOf(f, "per-minute", "N", "how many devices may newly be offered the image in any minute", readAmount, "pace/per_minute",
		func(r *orchestrator.Rollout, n int) { orNew(&r.Pace).PerMinute = n })
	flagOf(f, "ramp", rolloutspec.RampForm, "begins with START devices a minute, multiplied by FACTOR after every AFTER successes, up to --per-minute", rolloutspec.ParseRamp, "pace/ramp",
		func(r *orchestrator.Rollout, v orchestrator.Ramp) { orNew(&r.Pace).Ramp = &v })
}

func (f *rolloutFlags) scheduleFlags() {
	flagOf(f, "start-at", "TIME", "nothing is offered before, such as 2027-03-01T22:00:00+01:00", rolloutspec.ParseInstant, "schedule/start",
		func(r *orchestrator.Rollout, t time.Time) { orNew(&r.Schedule).Start = t })
	flagOf(f, "end-at", "TIME", "nothing is offered from then on; what devices have accepted by then finishes", rolloutspec.ParseInstant, "schedule/end",
		func(r *orchestrator.Rollout, t time.Time) { orNew(&r.Schedule).End = t })
	listOf(f, "window", rolloutspec.WindowForm, `offered only while a maintenance window is open, such as "0 1 * * *+4h@Europe/Berlin" (UTC without a zone); repeatable`, rolloutspec.ParseWindow, "schedule/windows",
		func(r *orchestrator.Rollout, v []orchestrator.Window) { orNew(&r.Schedule).Windows = v })
	flagOf(f, "device-zone", "LABEL", "label that holds a device's own zone, in which the windows are then read", readText, "schedule/device_zone",
		func(r *orchestrator.Rollout, label string) { orNew(&r.Schedule).DeviceZone = label })
	listOf(f, "timeout", "PHASE=TIME", "how long a part of an update may take: "+strings.Join(rolloutspec.Phases(), ", ")+", such as answer=10m; repeatable", rolloutspec.ParseTimeout, "timeouts/*",
		func(r *orchestrator.Rollout, v []rolloutspec.Timeout) {
			for _, t := range v {
				t.Set(orNew(&r.Timeouts))
			}
		})
}

func (f *rolloutFlags) retryFlags() {
	flagOf(f, "retry", "N", "how often an update is tried in all (3 if another flag of retries is given)", readAmount, "retry/attempts",
		func(r *orchestrator.Rollout, n int) { orNew(&r.Retry).Attempts = n })
	flagOf(f, "backoff", "TIME", "how long is waited before the first retry; twice as long before each further one, up to 1h (1m)", rolloutspec.ParseDuration, "retry/backoff",
		func(r *orchestrator.Rollout, d orchestrator.Duration) { orNew(&orNew(&r.Retry).Backoff).First = d })
	flagOf(f, "retry-budget", "N", "how many retries all devices may have together", readAmount, "retry/budget",
		func(r *orchestrator.Rollout, n int) { orNew(&r.Retry).Budget = n })
}

func (f *rolloutFlags) actionFlags() {
	var continuous bool
	f.cmd.Flags().BoolVar(&continuous, "continuous", false, "devices that come to the target later, or report another version again, get the job, too")
	f.settings = append(f.settings, rolloutSetting{"continuous", "continuous", func(r *orchestrator.Rollout) error {
		r.Continuous = continuous
		return nil
	}})
	flagOf(f, "priority", "N", "which job has its turn first on a device: the higher one, from -100 to 100 (0)", readNumber, "priority",
		func(r *orchestrator.Rollout, n int) { r.Priority = n })
	flagOf(f, "action", strings.Join(actionNames(), "|"), "what a device does: install, soft (it may put it off), confirm (somebody has to agree) or download (install later by command)",
		oneOf[orchestrator.ActionKind](actionNames()), "action", func(r *orchestrator.Rollout, a orchestrator.ActionKind) { r.Action = a })
	flagOf(f, "defer-limit", "TIME", "with --action soft, how long after the first offer a device may put it off", rolloutspec.ParseDuration, "defer_limit",
		func(r *orchestrator.Rollout, d orchestrator.Duration) { r.DeferLimit = d })
	flagOf(f, "confirm-by", strings.Join(confirmerNames(), "|"), "with --action confirm, who has to agree: a person (davit job confirm) or the product itself (person)",
		oneOf[orchestrator.ConfirmBy](confirmerNames()), "confirm_by", func(r *orchestrator.Rollout, c orchestrator.ConfirmBy) { r.ConfirmBy = c })
	flagOf(f, "stream", strings.Join(streamNames(), "|"), "whether devices that can are sent the image together: auto (while enough fetch it at a time), always (while several do) or never (auto)",
		oneOf[orchestrator.StreamMode](streamNames()), "stream", func(r *orchestrator.Rollout, m orchestrator.StreamMode) { r.Stream = m })
	listOf(f, "via", "IMAGE", "image that devices may be led through whose version cannot take the job's image directly; repeatable", readText, "via",
		func(r *orchestrator.Rollout, v []string) { r.Via = v })
	flagOf(f, "seed", "TEXT", "what the order of the devices is drawn from (the job's name)", readText, "seed",
		func(r *orchestrator.Rollout, s string) { r.Seed = s })
	completeWith(f.cmd, "action", actionNames()...)
	completeWith(f.cmd, "confirm-by", confirmerNames()...)
	completeWith(f.cmd, "stream", streamNames()...)
	var phases []string
	for _, p := range rolloutspec.Phases() {
		phases = append(phases, p+"=")
	}
	completeWith(f.cmd, "timeout", phases...)
}

// read returns the rollout of the file and the flags, nil if neither was given.
func (f *rolloutFlags) read() (*orchestrator.Rollout, error) {
	var r orchestrator.Rollout
	given := f.cmd.Flags().Changed("rollout")
	if given {
		var err error
		if f.file, err = rolloutspec.Load(f.fileName); err != nil {
			return nil, cannotError{err}
		}
		r = f.file.Rollout
	}
	for _, s := range f.settings {
		if !f.cmd.Flags().Changed(s.flag) {
			continue
		}
		given = true
		if err := s.apply(&r); err != nil {
			return nil, err
		}
	}
	if !given {
		return nil, nil
	}
	return &r, nil
}

// explain adds to what is wrong with the fields of a rollout where they come from:
// a flag, or a line of the file.
func (f *rolloutFlags) explain(err error) error {
	var problem *client.Error
	if !errors.As(err, &problem) {
		return err
	}
	told := *problem
	told.Fields = slices.Clone(problem.Fields)
	for i, field := range told.Fields {
		if pointer, ok := strings.CutPrefix(field.Pointer, "/rollout"); ok {
			if origin := f.origin(strings.TrimPrefix(pointer, "/")); origin != "" {
				told.Fields[i].Pointer = origin + ": " + field.Pointer
			}
		}
	}
	return &told
}

// origin says where a part of the rollout comes from; empty if it is not known. A
// flag for a part of what the pointer names says more than one for the whole.
func (f *rolloutFlags) origin(pointer string) string {
	flag, depth := "", -1
	for _, s := range f.settings {
		if n := strings.Count(s.pointer, "/"); n > depth && f.cmd.Flags().Changed(s.flag) && covers(s.pointer, pointer) {
			flag, depth = s.flag, n
		}
	}
	if flag != "" {
		return "--" + flag
	}
	if f.fileName != "" {
		return f.file.Place(pointer)
	}
	return ""
}

// covers says whether a pattern names what a pointer names, or something around it.
func covers(pattern, pointer string) bool {
	parts := strings.Split(pointer, "/")
	n := strings.Count(pattern, "/") + 1
	if len(parts) < n {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(parts[:n], "/"))
	return ok && err == nil
}
