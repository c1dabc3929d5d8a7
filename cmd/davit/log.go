package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
)

func (p *program) logCommand() *cobra.Command {
	return p.parent("log", "The service's log: what is logged while it runs", p.logLevel())
}

const levelLong = `SPEC is a level (debug, info, warn or error), and behind commas parts that have another
one, as in info,broker=debug. It holds until the process ends; --log-level is what it
begins with. docs/logs.md lists parts and events.`

func (p *program) logLevel() *cobra.Command {
	cmd := p.apiCommand("level [SPEC]", "Show what the service logs, or change it while it runs", cobra.MaximumNArgs(1), func(cmd *cobra.Command, c *client.Client, args []string) error {
		if len(args) == 0 {
			level, err := c.LogLevel(cmd.Context())
			if err != nil {
				return err
			}
			return p.showLevel(level)
		}
		level, err := c.SetLogLevel(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.showLevel(level)
	})
	cmd.ValidArgsFunction = cobra.FixedCompletions(logLevels(), cobra.ShellCompDirectiveNoFileComp)
	cmd.Long = "Show what the service logs, or change it while it runs.\n\n" + levelLong
	return cmd
}

func (p *program) bridgeLogLevel() *cobra.Command {
	var data string
	cmd := p.command("log-level --data DIR [SPEC]", "Show what the bridge that runs on a data folder logs, or change it while it runs", cobra.MaximumNArgs(1),
		func(cmd *cobra.Command, args []string) error {
			if data == "" {
				return usagef("bridge log-level: name the bridge's data folder with --data")
			}
			level, err := app.BridgeLogLevel(cmd.Context(), data, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return p.showLevel(client.LogLevel(level))
		})
	cmd.Long = "Show what the bridge that runs on a data folder of this machine logs, or change it while\nit runs.\n\n" + levelLong
	cmd.Flags().StringVar(&data, "data", "", "data folder of the bridge (required)")
	return cmd
}

func (p *program) showLevel(l client.LogLevel) error {
	return p.show(l, func(w io.Writer) {
		fmt.Fprintln(w, l.Level)
		fmt.Fprintf(w, "parts: %s\n", strings.Join(l.Parts, " "))
	})
}
