package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

func (p *program) fleetCommand() *cobra.Command {
	return p.apiCommand("fleet", "Show the fleet in figures: devices, versions, images, jobs", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		f, err := c.Fleet(cmd.Context())
		if err != nil {
			return err
		}
		return p.show(f, func(w io.Writer) {
			all := []string{"devices", fmt.Sprintf("%d, %d online", f.Devices, f.Online), "in quarantine", number(uint64(f.Quarantined)), "by type", tally(f.ByType)}
			for _, imageType := range slices.Sorted(maps.Keys(f.Versions)) {
				all = append(all, imageType+" versions", versions(f.Versions[imageType]))
			}
			fields(w, append(all, "images", tally(f.Images), "jobs", tally(f.Jobs), "executions", counts(f.Executions))...)
		})
	})
}

// versions prints how many devices report each version, the most frequent first.
func versions(m map[string]int) string {
	names := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(names, func(a, b string) int { return m[b] - m[a] })
	text := ""
	for i, v := range names {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d × %s", m[v], v)
	}
	return text
}
