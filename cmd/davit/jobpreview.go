package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) jobPreview() *cobra.Command {
	var in orchestrator.NewJob
	var rollout *rolloutFlags
	cmd := p.apiCommand("preview --image ID --device ID", "Show what a job would do, without creating it", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := checkTarget("preview", in); err != nil {
			return err
		}
		var err error
		if in.Rollout, err = rollout.read(); err != nil {
			return err
		}
		found, err := c.PreviewJob(cmd.Context(), in)
		if err != nil {
			return rollout.explain(err)
		}
		if p.json {
			return p.printJSON(found)
		}
		return p.printPreview(found, in.Rollout)
	})
	targetFlags(cmd, &in)
	cmd.Flags().StringVar(&in.Name, "name", "", "name that the job would have; the order of the devices follows from it unless --seed is given")
	rollout = addRolloutFlags(cmd)
	return cmd
}

func (p *program) printPreview(found orchestrator.JobPreview, rollout *orchestrator.Rollout) error {
	fields(p.out, "devices", fmt.Sprint(found.Devices), "by type", tally(found.ByType), "offline now", count(found.Offline, "device"),
		"run the version already", count(found.Running, "device"), "busy with another job", count(found.Busy, "device"),
		"to be downloaded", size(found.Bytes), "time of one device", duration(found.DeviceTime), "time of the job", duration(found.Duration))
	for i, a := range found.Assumes {
		if i == 0 {
			fmt.Fprintln(p.out, "These times are reckoned:")
		}
		fmt.Fprintf(p.out, "  %s\n", cell(a))
	}
	p.printPlan(rollout)
	if err := p.printPreviewWaves(found.Waves); err != nil {
		return err
	}
	if err := p.printPaths(found.Paths); err != nil {
		return err
	}
	if err := p.printExclusions(found); err != nil {
		return err
	}
	if found.UnfitAll > 0 {
		fmt.Fprintf(p.out, "The image does not fit %s, so the job would be refused: %s\n", devicesText(found.UnfitAll), strings.Join(found.Unfit, " "))
	}
	return nil
}

// shownFirst is how many devices of a wave are named.
const shownFirst = 5

func (p *program) printPreviewWaves(waves []orchestrator.PreviewWave) error {
	if len(waves) == 0 {
		return nil
	}
	type T = orchestrator.PreviewWave
	number := 0
	fmt.Fprintln(p.out)
	return table(p, waves,
		column[T]{"WAVE", func(T) string { number++; return strconv.Itoa(number) }},
		column[T]{"NAME", func(w T) string { return w.Name }},
		column[T]{"DEVICES", func(w T) string { return strconv.Itoa(w.Devices) }},
		column[T]{"DOWNLOADS", func(w T) string { return size(w.Bytes) }},
		column[T]{"TIME", func(w T) string { return duration(w.Duration) }},
		column[T]{"FIRST DEVICES", func(w T) string {
			text := strings.Join(w.First[:min(len(w.First), shownFirst)], " ")
			if w.Devices > shownFirst {
				text += " ..."
			}
			return text
		}})
}

// printPaths prints over which versions devices are led, the most frequent way first.
func (p *program) printPaths(paths map[string]int) error {
	if len(paths) == 0 {
		return nil
	}
	ways := slices.Sorted(maps.Keys(paths))
	slices.SortStableFunc(ways, func(a, b string) int { return paths[b] - paths[a] })
	fmt.Fprintln(p.out)
	return table(p, ways,
		column[string]{"OVER THE VERSIONS", func(w string) string { return w }},
		column[string]{"DEVICES", func(w string) string { return strconv.Itoa(paths[w]) }})
}

// printExclusions prints who would not get the image and why.
func (p *program) printExclusions(found orchestrator.JobPreview) error {
	if len(found.Exclusions) == 0 {
		return nil
	}
	type T = orchestrator.Exclusion
	all := 0
	for _, n := range found.Excluded {
		all += n
	}
	fmt.Fprintf(p.out, "\nNot brought to the image: %s\n", tally(found.Excluded))
	err := table(p, found.Exclusions,
		column[T]{"DEVICE", func(x T) string { return x.Device }},
		column[T]{"KIND", func(x T) string { return string(x.Kind) }},
		column[T]{"WHY", func(x T) string { return x.Reason }})
	if more := all - len(found.Exclusions); more > 0 && err == nil {
		fmt.Fprintf(p.out, "and %d more\n", more)
	}
	return err
}
