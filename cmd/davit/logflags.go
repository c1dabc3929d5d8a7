package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/logevent"
)

// logFlags are those of commands that log.
type logFlags struct{ options app.LogOptions }

// addLogFlags adds --log-level and --log-format. parts may have levels of their own.
func addLogFlags(cmd *cobra.Command, level string, parts []logevent.Part) *logFlags {
	l := &logFlags{app.LogOptions{Parts: parts}}
	usage := "debug, info, warn or error"
	if len(parts) > 0 {
		usage += "; behind it parts that have another one, as in info," + string(parts[0]) + "=debug (docs/logs.md)"
	}
	f := cmd.Flags()
	f.StringVar(&l.options.Level, "log-level", level, usage)
	f.StringVar(&l.options.Format, "log-format", app.LogAuto, "text, json (one object per line), or auto: text on a terminal and json otherwise")
	completeWith(cmd, "log-format", app.LogAuto, app.LogText, app.LogJSON)
	return l
}

// logger makes what the flags say; an error is about the command line.
func (l *logFlags) logger(p *program) (*slog.Logger, error) {
	log, err := app.NewLogger(p.err, l.options)
	if err != nil {
		return nil, usageError{err}
	}
	return log, nil
}
