package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"davit/internal/app"
)

func (p *program) checkCommand() *cobra.Command {
	var dir string
	cmd := p.command("check --data DIR", "Verify every record, index and image of a data folder that no service uses", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("check: name the data folder with --data")
			}
			report, err := app.Check(cmd.Context(), dir)
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			err = p.show(report, func(w io.Writer) {
				for _, v := range report.Violations {
					fmt.Fprintln(w, v)
				}
				fmt.Fprintf(w, "%s: %d records, %d index entries, %d images with %d bytes; ", dir, report.Records, report.Indexes, report.Blobs, report.BlobBytes)
				if report.OK() {
					fmt.Fprintln(w, "all is well.")
				} else {
					fmt.Fprintf(w, "%d violations.\n", report.Count)
				}
			})
			if err == nil && !report.OK() {
				return errReported
			}
			return err
		})
	cmd.Flags().StringVar(&dir, "data", "", "data folder (required)")
	return cmd
}
