//go:build !manpages

package main

import "github.com/spf13/cobra"

// manCommands are none: the published program does not write its manual.
func (p *program) manCommands() []*cobra.Command { return nil }
