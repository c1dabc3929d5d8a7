package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/orchestrator"
)

// mcuReady is the line that mcu prints when its terminal can be opened.
type mcuReady struct {
	Path      string `json:"path"`
	Baud      int    `json:"baud"`
	Dialect   string `json:"dialect"`
	Version   string `json:"version,omitempty"`
	VersionID uint64 `json:"version_id,omitempty"`
}

func (p *program) mcuCommand() *cobra.Command {
	var opts app.MCUOptions
	var logs *logFlags
	cmd := p.command("mcu", "Run a simulated host MCU on a pseudo-terminal and print the terminal's path", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger(p)
			if err != nil {
				return err
			}
			opts.Log = log
			if !cmd.Flags().Changed("baud") {
				opts.Baud = app.UsualBaud(opts.Dialect)
			}
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			line, err := mcuLine(cmd, opts)
			if err != nil {
				return err
			}
			return app.RunMCU(cmd.Context(), opts, func(path string) {
				line.Path = path
				_ = p.show(line, func(w io.Writer) { fmt.Fprintln(w, path) })
			})
		})
	cmd.Long = `Run a simulated host MCU on a pseudo-terminal and print the terminal's path, for the
--port of a bridge.

It speaks the ayla dialect, or with --dialect afero that of host MCUs which know image
types and versions by number. Register what the latter runs from the factory, with
davit image push --version-id, so that its version is shown and not only the number.`
	f := cmd.Flags()
	f.StringVar(&opts.Dialect, "dialect", orchestrator.DialectAyla, "what it speaks: "+strings.Join(orchestrator.Dialects(), ", "))
	f.StringVar(&opts.Version, "version", "1.0.0", "version that it runs at first (ayla)")
	f.StringVar(&opts.VersionProperty, "property", "oem_host_version", "property that reports the version (ayla)")
	f.IntVar(&opts.Type, "type", 101, "number of the image type that it runs (afero)")
	f.Uint64Var(&opts.VersionID, "version-id", 1, "number of the version that it runs at first (afero)")
	f.IntVar(&opts.AttributeSize, "attribute-size", 253, "size in bytes of the attribute that carries an image (afero)")
	f.IntVar(&opts.Protocol, "protocol", 2, "protocol version of its afLib, 1 or 2 (afero)")
	f.IntVar(&opts.Baud, "baud", 0, fmt.Sprintf("speed of the line in bit/s (default %d, or %d for afero)",
		app.UsualBaud(orchestrator.DialectAyla), app.UsualBaud(orchestrator.DialectAfero)))
	f.IntVar(&opts.SlotSize, "slot", 1<<20, "size of one flash slot in bytes: the largest image")
	f.StringVar(&opts.Fault, "fault", "", "what goes wrong: "+app.FaultNames())
	f.StringVar(&opts.Link, "link", "", "path of a symbolic link to the terminal, which stays the same when it is unplugged and plugged again")
	logs = addLogFlags(cmd, "warn", nil)
	completeWith(cmd, "dialect", orchestrator.Dialects()...)
	return cmd
}

// mcuLine is what is printed of an MCU. A flag that means nothing in its dialect is
// an error if it was given.
func mcuLine(cmd *cobra.Command, o app.MCUOptions) (mcuReady, error) {
	line := mcuReady{Baud: o.Baud, Dialect: o.Dialect, Version: o.Version}
	foreign, other := []string{"type", "version-id", "attribute-size", "protocol"}, orchestrator.DialectAfero
	if o.Dialect == orchestrator.DialectAfero {
		line.Version, line.VersionID = "", o.VersionID
		foreign, other = []string{"version", "property"}, orchestrator.DialectAyla
	}
	for _, flag := range foreign {
		if cmd.Flags().Changed(flag) {
			return line, usagef("mcu: --%s means nothing in the %s dialect; leave it out, or take --dialect %s", flag, o.Dialect, other)
		}
	}
	return line, nil
}
