package main

import (
	"reflect"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

// edit is how a command changes a record that other people may be changing
// too.
type edit struct {
	force    bool
	revision uint64
	cmd      *cobra.Command
}

// editCommand builds a command that changes a record. Its run reads the
// record first and passes its revision to since.
func (p *program) editCommand(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error) *cobra.Command {
	e := &edit{}
	e.cmd = p.apiCommand(use, short, args, func(cmd *cobra.Command, c *client.Client, args []string) error { return run(cmd, c, args, e) })
	f := e.cmd.Flags()
	f.BoolVar(&e.force, "force", false, "change the record even if somebody else edits it at the same moment")
	f.Uint64Var(&e.revision, "revision", 0, "the revision that you looked at: the edit is refused if there is another one by now (default: the one that the command reads)")
	e.cmd.MarkFlagsMutuallyExclusive("force", "revision")
	return e.cmd
}

// since is the precondition of an edit of a record that was read at a revision.
func (e *edit) since(revision uint64) orchestrator.Precondition {
	switch {
	case e.force:
		return orchestrator.Precondition{}
	case e.cmd.Flags().Changed("revision"):
		return orchestrator.Precondition{IfRevision: &e.revision}
	}
	return orchestrator.Precondition{IfRevision: &revision}
}

// given is v if the flag was given, so that a patch changes only what was.
func given[T any](cmd *cobra.Command, flag string, v *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return v
}

// somethingIn refuses a patch that changes nothing.
func somethingIn(cmd *cobra.Command, patch any) error {
	if reflect.ValueOf(patch).IsZero() {
		return usagef("%s: say what to change with a flag; --help lists them", cmd.CommandPath())
	}
	return nil
}

// words drops empty words, so that --tag ” stands for none at all.
func words(list []string) []string {
	out := []string{}
	for _, w := range list {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}
