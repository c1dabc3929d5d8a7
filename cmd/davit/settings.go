package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/bridgefile"
	"davit/internal/app/settings"
	"davit/internal/app/yamlfile"
	"davit/internal/logevent"
)

// named are the settings of a set by their names, with the command that has them.
func named(s *settings.Set) map[string]string {
	names := map[string]string{}
	for _, name := range s.Names() {
		names[name] = s.Command
	}
	return names
}

// located is an error about the settings of a command with where they were given. It is about the
// command line, exit code 2, unless there is a configuration file.
func located(set *settings.Set, command, config string, err error) error {
	if err == nil {
		return nil
	}
	err = set.Locate(err)
	if config == "" {
		return usagef("%s: %w", command, err)
	}
	var all []error
	for _, e := range settings.Each(err) {
		if _, bad := e.(*yamlfile.Error); !bad {
			e = fmt.Errorf("%s: %w", command, e)
		}
		all = append(all, e)
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// warnOfVariables logs which environment variables look like settings and are none.
func warnOfVariables(log *slog.Logger, warnings []string) {
	for _, w := range warnings {
		log.Warn("an environment variable has no effect", "event", logevent.VariableUnknown, "reason", w)
	}
}

// settingAge reads a setting that is an age. Who tells the error has named setting and value.
func settingAge(text string) (time.Duration, error) {
	d, err := bridgefile.ParseAge(text)
	if err != nil {
		return 0, errors.New("write a duration such as 12h or 30d")
	}
	return d, nil
}

// confirmedDay reads a day, which begins at midnight UTC.
func confirmedDay(text string) (time.Time, error) {
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, errors.New("write a day such as 2026-11-27")
	}
	return d, nil
}

// file says that the value of a flag is the name of a file, which shells complete, those with the extensions
// only if there are any.
func file(cmd *cobra.Command, flag string, extensions ...string) {
	markPath(cmd, flag, settings.PathOnly)
	must(cmd.MarkFlagFilename(flag, extensions...))
}

// folder says that the value of a flag is the name of a folder.
func folder(cmd *cobra.Command, flag string) {
	markPath(cmd, flag, settings.PathOnly)
	must(cmd.MarkFlagDirname(flag))
}

// keyFile says that the value of a flag is the name of a file, or a public key that is written out.
func keyFile(cmd *cobra.Command, flag string, extensions ...string) {
	markPath(cmd, flag, settings.PathOrKey)
	must(cmd.MarkFlagFilename(flag, extensions...))
}

func markPath(cmd *cobra.Command, flag, kind string) {
	must(cmd.Flags().SetAnnotation(flag, settings.PathAnnotation, []string{kind}))
}

// must is for what can only fail if a flag does not exist: a mistake in this package.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// logLevels are the values of --log-level.
func logLevels() []string { return []string{"debug", "info", "warn", "error"} }
