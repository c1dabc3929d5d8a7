// Package manpages writes the manual pages of a command tree, one for each command, in
// the man macros that every man program reads (groff_man(7)). It owns their form. What
// they say comes from the commands: names, descriptions and flags.
//
// It is a part of what makes a release (release/man) and not of the binary that is
// published. The same commands, version and date make the same bytes. It starts no
// goroutine and keeps no state.
package manpages

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Release is what all pages say of the program.
type Release struct {
	Version string
	Date    time.Time // shown as a day in UTC
}

// Write writes the page of each command of the tree into a folder, which is made if it
// is not there.
func Write(root *cobra.Command, dir string, r Release) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of the manual: %w", err)
	}
	for _, cmd := range Commands(root) {
		if err := os.WriteFile(filepath.Join(dir, Name(cmd)), Page(cmd, r), 0o644); err != nil {
			return fmt.Errorf("write a page of the manual: %w", err)
		}
	}
	return nil
}

// Commands are the commands that have a page: all that people are shown, those that only hold
// others included.
func Commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range shown(cmd) {
		all = append(all, Commands(c)...)
	}
	return all
}

func shown(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool { return !c.IsAvailableCommand() || c.Name() == "help" })
}

// Name is the name of the file of a command's page, such as davit-job-show.1.
func Name(cmd *cobra.Command) string { return title(cmd) + ".1" }

func title(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// Page is the page of one command.
func Page(cmd *cobra.Command, r Release) []byte {
	cmd.InitDefaultHelpFlag()
	p := &page{}
	p.line(`.TH "%s" "1" "%s" "%s" "%s manual"`, escaped(strings.ToUpper(title(cmd))), r.Date.UTC().Format(time.DateOnly), escaped(cmd.Root().Name()+" "+r.Version), escaped(cmd.Root().Name()))
	p.line(".SH NAME")
	p.line(`%s \- %s`, escaped(title(cmd)), escaped(cmd.Short))
	p.line(".SH SYNOPSIS")
	p.line(`\fB%s\fR%s`, escaped(cmd.CommandPath()), escaped(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	p.line(".SH DESCRIPTION")
	p.prose(description(cmd))
	if children := shown(cmd); len(children) > 0 {
		p.line(".SH COMMANDS")
		for _, c := range children {
			p.line(".TP\n\\fB%s\\fR(1)\n%s", escaped(title(c)), text(c.Short))
		}
	}
	p.options("OPTIONS", cmd.NonInheritedFlags())
	p.options("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	p.environment(cmd)
	p.line(".SH EXIT STATUS")
	for _, s := range [][2]string{{"0", "done"}, {"1", "failed, or what was asked for is not so"}, {"2", "the command line, or an environment variable, was not understood"}} {
		p.line(".TP\n%s\n%s", s[0], s[1])
	}
	if cmd.HasParent() {
		p.line(".SH SEE ALSO\n\\fB%s\\fR(1)", escaped(title(cmd.Parent())))
	}
	return []byte(p.b.String())
}

// description is the long one, or the short one as a sentence.
func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// page is a page in the making.
type page struct{ b strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// prose writes paragraphs, which blank lines divide. One whose first line is indented stays as it is.
func (p *page) prose(s string) {
	for i, paragraph := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		paragraph = strings.Trim(paragraph, "\n")
		if paragraph == "" {
			continue
		}
		if i > 0 {
			p.line(".PP")
		}
		fixed := strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t")
		if fixed {
			p.line(".nf\n.RS")
		}
		for _, l := range strings.Split(paragraph, "\n") {
			p.line("%s", text(strings.TrimLeft(strings.TrimSpace(l), "# "))) // cobra's own texts have headings
		}
		if fixed {
			p.line(".RE\n.fi")
		}
	}
}

// options writes a section of flags.
func (p *page) options(heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.line(".SH %s", heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		names := `\fB` + escaped("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			names = `\fB` + escaped("-"+f.Shorthand) + `\fR, ` + names
		}
		if kind != "" {
			names += ` \fI` + escaped(kind) + `\fR`
		}
		if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			usage += " (default " + f.DefValue + ")"
		}
		p.line(".TP\n%s\n%s", names, text(usage))
	})
}

// environment writes the variables that commands of the API know, by the flags in whose place they stand.
func (p *page) environment(cmd *cobra.Command) {
	heading := ".SH ENVIRONMENT\n"
	for _, v := range [][3]string{{"server", "DAVIT_SERVER", "the URL of the service, in the place of --server"}, {"token-file", "DAVIT_TOKEN", "the API token, in the place of --token-file and --data"}} {
		if cmd.LocalFlags().Lookup(v[0]) != nil {
			p.line("%s.TP\n%s\n%s", heading, v[1], text(v[2]))
			heading = ""
		}
	}
	if cmd.LocalFlags().Lookup("config") != nil {
		p.line("%s.TP\nDAVIT_*\n%s", heading, text("every option but --help, in capitals and with _ for -: DAVIT_LOG_LEVEL in the place of --log-level"))
	}
}

// escaped is text as roff has it: dashes that can be copied, and nothing that is a command.
func escaped(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(s)
}

// text is a line of text, which no dot at its beginning makes a request.
func text(s string) string {
	if s = escaped(s); strings.HasPrefix(s, ".") {
		return `\&` + s
	}
	return s
}
