package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) auditCommand() *cobra.Command {
	return p.parent("audit", "Audit log: who did what to what, when and from where", p.auditList(), p.auditExport())
}

// auditFlags describe entries of the audit log.
type auditFlags struct {
	filter   orchestrator.AuditFilter
	from, to string
}

func (f *auditFlags) addTo(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.filter.Actor, "actor", "", "only what this user did, or this token: USER/TOKEN")
	fs.StringVar(&f.filter.Action, "action", "", "only this action: create, update, delete, start, pause, sign-in and so on")
	fs.StringVar(&f.filter.Kind, "kind", "", "only what was done to this kind of record: image, device, job, user and so on")
	fs.StringVar(&f.filter.ID, "id", "", "only what was done to the record with this id (with --kind)")
	fs.StringVar(&f.from, "from", "", "not before this time: "+timeForms)
	fs.StringVar(&f.to, "to", "", "before this time")
}

// timeForms are the forms in which a time can be given.
const timeForms = "2026-11-22T08:00:00Z, 2026-11-22, or how long ago, for example 24h"

// read returns the filter.
func (f *auditFlags) read(now time.Time) (orchestrator.AuditFilter, error) {
	if f.filter.ID != "" && f.filter.Kind == "" {
		return f.filter, usagef("--id needs --kind: say what kind of record it is")
	}
	var err error
	if f.filter.From, err = parseTime("--from", f.from, now); err != nil {
		return f.filter, err
	}
	f.filter.To, err = parseTime("--to", f.to, now)
	return f.filter, err
}

// parseTime reads a time in one of timeForms; empty is the zero time.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	return time.Time{}, usagef("%s is %q; a time is written as %s", flag, s, timeForms)
}

func (p *program) auditList() *cobra.Command {
	type T = orchestrator.AuditEntry
	var f auditFlags
	cmd := listCommand(p, "list", "List the audit log, the newest entry first", noArgs,
		func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[T], error) {
			filter, err := f.read(time.Now())
			return filtered(c, (*client.Client).AuditEntries, filter), err
		},
		column[T]{"TIME", func(e T) string { return when(e.Time) }},
		column[T]{"WHO", func(e T) string { return strings.TrimSpace(e.Actor.Name + " " + e.Actor.Role) }},
		column[T]{"FROM", func(e T) string { return e.Actor.Address }},
		column[T]{"ACTION", func(e T) string { return e.Action }},
		column[T]{"KIND", func(e T) string { return e.Kind }},
		column[T]{"ID", func(e T) string { return e.ID }})
	f.addTo(cmd)
	cmd.Long = "List the audit log, the newest entry first. --json shows the records before and after, too."
	return cmd
}

// exported is what audit export prints when it writes a file.
type exported struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func (p *program) auditExport() *cobra.Command {
	var f auditFlags
	var file string
	cmd := p.apiCommand("export [--out FILE]", "Write the audit log as lines of JSON, with the records before and after", noArgs,
		func(cmd *cobra.Command, c *client.Client, _ []string) error {
			filter, err := f.read(time.Now())
			if err != nil {
				return err
			}
			lines, err := c.ExportAudit(cmd.Context(), filter)
			if err != nil {
				return err
			}
			defer lines.Close()
			if file == "" {
				_, err := io.Copy(p.out, lines)
				return err
			}
			out, err := createFile(file)
			if err != nil {
				return err
			}
			defer out.abandon()
			n, err := out.fill(lines)
			if err != nil {
				return err
			}
			return p.done(exported{file, n}, "%s: %s of the audit log.", file, size(uint64(n)))
		})
	f.addTo(cmd)
	cmd.Flags().StringVar(&file, "out", "", "file to write, readable by you only (default: standard output)")
	return cmd
}
