package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCommandsInProse: what the documents say in passing, such as `davit job watch NAME`, is a command that there is, with
// flags that it has. Arguments may be missing there.
func TestCommandsInProse(t *testing.T) {
	seen, root := 0, documentedRoot()
	for _, page := range pagesOf(t) {
		if page == "CHANGELOG.md" {
			continue // tells of what there was
		}
		for _, line := range prose(readPage(t, page)) {
			for _, span := range codeSpan.FindAllString(line, -1) {
				span = strings.Trim(span, "`")
				if !strings.HasPrefix(span, "davit ") || strings.ContainsAny(span, "|[]{}") {
					continue
				}
				seen++
				if err := mentions(root, strings.TrimSuffix(span, " ...")); err != nil {
					t.Errorf("%s: `%s`: %v", page, span, err)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d commands seen; a part of the documents was not", seen)
	}
}

// mentions says why a command line of davit, perhaps without its arguments and the values of its flags, is none.
func mentions(root *cobra.Command, line string) error {
	commands, err := shellCommands(line)
	if err != nil || len(commands) != 1 {
		return err
	}
	cmd, rest, err := root.Find(commands[0][1:])
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return cmd.ValidateArgs(rest[:1])
	}
	for _, word := range rest {
		name, ok := strings.CutPrefix(word, "--")
		if name, _, _ = strings.Cut(name, "="); ok && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			return fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), name)
		}
	}
	return nil
}

func TestMentions(t *testing.T) {
	root := documentedRoot()
	for line, good := range map[string]bool{
		"davit job watch NAME": true, "davit job watch": true, "davit job": true, "davit serve --data": true, "davit job create --json": true, "davit image push --version=2": true,
		"davit jog": false, "davit job watches": false, "davit serve --date": false, "davit bridge start": false,
	} {
		if err := mentions(root, line); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}
