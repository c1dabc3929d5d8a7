package main

import (
	"github.com/spf13/cobra"

	"davit/internal/app"
)

// healthy is what health prints.
type healthy struct {
	Server string `json:"server"`
	Ready  bool   `json:"ready"`
}

func (p *program) healthCommand() *cobra.Command {
	var flags clientFlags
	cmd := p.command("health", "Ask a service whether it is ready; needs no token", noArgs, func(cmd *cobra.Command, _ []string) error {
		if err := app.Health(cmd.Context(), flags.url()); err != nil {
			return err
		}
		return p.done(healthy{flags.url(), true}, "%s is ready.", flags.url())
	})
	cmd.Flags().StringVar(&flags.server, "server", "", "URL of the service (default $"+envServer+" or "+defaultServer+")")
	return cmd
}
