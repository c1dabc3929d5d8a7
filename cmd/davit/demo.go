package main

import (
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/demo"
	"davit/orchestrator"
)

func (p *program) demoCommand() *cobra.Command {
	opts := demo.Options{}
	var logs *logFlags
	cmd := p.command("demo", "Run the whole product in one process: three simulated host MCUs get new firmware", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger(p)
			if err != nil {
				return err
			}
			opts.Log, opts.Out, opts.Progress, opts.Terminal, opts.JSON = log, p.out, p.err, app.IsTerminal(p.out), p.json
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			result, err := demo.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if !result.Succeeded {
				return errReported
			}
			return nil
		})
	cmd.Long = `Run the whole product in one process: the service on a temporary data folder, and three
bridges, each on a real pseudo-terminal with a simulated host MCU at its other end. An
image is uploaded, a job brings it to the three devices, and the exit code is 0 only if
all three report the new version.

With --dialect afero the host MCUs are others, which know versions by number: what they
run from the factory is registered first, as version id 1. With --dialect mixed one job
updates two devices of dialect ayla and one of dialect afero. The lines are as fast in every
dialect; at the 9600 bit/s of many afero products the load would take three minutes.

--fail makes something go wrong on one device and explains what happened:
` + demo.DescribeFaults()
	f := cmd.Flags()
	f.StringVar(&opts.Dialect, "dialect", orchestrator.DialectAyla, "what the host MCUs speak: "+strings.Join(demo.Dialects(), ", "))
	completeWith(cmd, "dialect", demo.Dialects()...)
	f.IntVar(&opts.Baud, "baud", 115200, "speed of the serial lines in bit/s")
	f.StringVar(&opts.Image, "image", "", "image to send: any file, raw binary or Intel HEX (default: one made for the simulated board)")
	f.IntVar(&opts.Size, "size", demo.DefaultSize, "size of the made image in bytes")
	f.StringVar(&opts.Fail, "fail", "", "what goes wrong on one device: "+demo.FaultNames())
	f.BoolVar(&opts.Keep, "keep", false, "leave everything running and print the addresses, until interrupted")
	logs = addLogFlags(cmd, "error", nil)
	return cmd
}
