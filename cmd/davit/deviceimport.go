package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

func (p *program) deviceImport() *cobra.Command {
	var dryRun, none bool
	var secrets string
	cmd := p.createCommand("import FILE.csv", "Add the devices of a CSV file, all or none, with a line-by-line report", oneArg("the file"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			list, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var out *newFile
			if secrets != "" {
				if out, err = createFile(secrets); err != nil {
					return err
				}
				defer out.abandon()
			}
			report, err := c.ImportDevices(cmd.Context(), bytes.NewReader(list), !none, dryRun)
			if client.IsStatus(err, http.StatusUnprocessableEntity) {
				// The dry run has the report of the lines that are right as well.
				if all, failed := c.ImportDevices(cmd.Context(), bytes.NewReader(list), !none, true); failed == nil && all.Wrong > 0 {
					report, err = all, nil
				}
			}
			if err != nil {
				return err
			}
			if out != nil && report.Imported > 0 {
				if _, err := out.fill(strings.NewReader(credentialsFile(report))); err != nil {
					return fmt.Errorf("%d devices are imported, but their passwords are not kept; davit device rotate makes new ones: %w", report.Imported, err)
				}
				for i := range report.Lines {
					report.Lines[i].Password = ""
				}
			}
			return p.imported(report, args[0], secrets)
		})
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only report what is wrong")
	f.BoolVar(&none, "no-credentials", false, "make no passwords: the devices are behind bridges")
	f.StringVar(&secrets, "credentials-out", "", "file for the user names and passwords, readable by you only (default: they are in the report)")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "credentials-out")
	cmd.MarkFlagsMutuallyExclusive("no-credentials", "credentials-out")
	cmd.Long = `Add the devices of a CSV file. Its first line names the columns: id, type, and one
column for each label, for example
  id,type,site
  pump-1,board,berlin
Nothing is done unless every line is right. The report has one line for each device,
with its password, which is shown this once; --credentials-out keeps it off the
screen.`
	return cmd
}

// credentialsFile is a CSV file with the passwords of an import.
func credentialsFile(r client.ImportReport) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"username", "password"}) // a strings.Builder takes everything
	for _, l := range r.Lines {
		_ = w.Write([]string{l.ID, l.Password})
	}
	w.Flush()
	return b.String()
}

// imported prints the report of an import; it is a failure if a line is wrong.
func (p *program) imported(r client.ImportReport, file, secrets string) error {
	if err := p.importReport(r, file, secrets); err != nil {
		return err
	}
	if r.Wrong > 0 {
		return errReported
	}
	return nil
}

func (p *program) importReport(r client.ImportReport, file, secrets string) error {
	if p.json {
		for _, l := range r.Lines {
			if err := p.printJSON(l); err != nil {
				return err
			}
		}
		return nil
	}
	type T = client.ImportLine
	if err := table(p, r.Lines,
		column[T]{"LINE", func(l T) string { return fmt.Sprint(l.Line) }},
		column[T]{"ID", func(l T) string { return l.ID }},
		column[T]{"RESULT", func(l T) string { return l.Result }},
		column[T]{"PASSWORD", func(l T) string { return l.Password }},
		column[T]{"ERROR", func(l T) string { return l.Error }}); err != nil {
		return err
	}
	switch {
	case r.Wrong > 0:
		fmt.Fprintf(p.out, "%s: %d of %d lines are wrong; nothing is imported.\n", file, r.Wrong, len(r.Lines))
	case r.DryRun:
		fmt.Fprintf(p.out, "%s: all is well; nothing is imported, as this was a dry run.\n", file)
	case secrets != "":
		fmt.Fprintf(p.out, "%s imported. Their passwords are in %s and nowhere else.\n", devicesText(r.Imported), secrets)
	default:
		fmt.Fprintf(p.out, "%s imported.\n", devicesText(r.Imported))
	}
	return nil
}
