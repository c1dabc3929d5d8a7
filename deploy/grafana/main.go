// Command grafana writes the dashboards of deploy/grafana/dashboards from the lists of
// panels in this folder: what is on each is said once, and what every panel has in common
// (data source, filters, the grid) is worked out. go generate runs it, and a test fails
// when the files are stale. It imports nothing of ours.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run .

// folder is where the dashboards are written, as seen from this one.
const folder = "dashboards"

func main() {
	for _, d := range dashboards() {
		b, err := d.render()
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, d.file), b, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "write the dashboards:", err)
			os.Exit(1)
		}
	}
}

func dashboards() []dashboard {
	return []dashboard{fleet(), rollout(), rack(), health()}
}
