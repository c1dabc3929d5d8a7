//go:build manpages

package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/release/manpages"
)

// manCommands are the commands that only a program built to write the manual has (release/man).
func (p *program) manCommands() []*cobra.Command {
	cmd := p.command("man FOLDER", "Write the manual pages into a folder", oneArg("the folder"), func(cmd *cobra.Command, args []string) error {
		seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH has to be the date of the pages in seconds: %w", err)
		}
		return manpages.Write(cmd.Root(), args[0], manpages.Release{Version: app.ReadBuild().Version, Date: time.Unix(seconds, 0)})
	})
	cmd.Hidden = true
	return []*cobra.Command{cmd}
}
