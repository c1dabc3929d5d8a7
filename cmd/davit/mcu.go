package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"davit/internal/app"
)

// mcuReady is the line that mcu prints when its terminal can be opened.
type mcuReady struct {
	Path    string `json:"path"`
	Baud    int    `json:"baud"`
	Version string `json:"version"`
}

func (p *program) mcuCommand() *cobra.Command {
	var opts app.MCUOptions
	var level string
	cmd := p.command("mcu", "Run a simulated host MCU on a pseudo-terminal and print the terminal's path", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			log, err := app.NewLogger(p.err, level)
			if err != nil {
				return usageError{err}
			}
			opts.Log = log
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			return app.RunMCU(cmd.Context(), opts, func(path string) {
				_ = p.show(mcuReady{path, opts.Baud, opts.Version}, func(w io.Writer) { fmt.Fprintln(w, path) })
			})
		})
	f := cmd.Flags()
	f.StringVar(&opts.Version, "version", "1.0.0", "version that it runs at first")
	f.StringVar(&opts.VersionProperty, "property", "oem_host_version", "property that reports the version")
	f.IntVar(&opts.Baud, "baud", 115200, "speed of the line in bit/s")
	f.IntVar(&opts.SlotSize, "slot", 1<<20, "size of one flash slot in bytes: the largest image")
	f.StringVar(&opts.Fault, "fault", "", "what goes wrong: "+app.FaultNames())
	f.StringVar(&opts.Link, "link", "", "path of a symbolic link to the terminal, which stays the same when it is unplugged and plugged again")
	f.StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}
