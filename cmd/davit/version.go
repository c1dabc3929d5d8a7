package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"davit/internal/app"
)

func (p *program) versionCommand() *cobra.Command {
	return p.command("version", "Print the version of this program", noArgs, func(*cobra.Command, []string) error {
		b := app.ReadBuild()
		return p.show(b, func(w io.Writer) {
			fmt.Fprintf(w, "davit %s", b.Version)
			if b.Revision != "" {
				fmt.Fprintf(w, " (%s)", b.Revision)
			}
			fmt.Fprintf(w, ", %s, contract version %d\n", b.Go, b.Contract)
		})
	})
}
