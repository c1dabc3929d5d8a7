package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"davit/internal/logevent"
)

// The formats of a log.
const (
	LogAuto = "auto" // text on a terminal, JSON otherwise
	LogText = "text"
	LogJSON = "json" // one object per line
)

// LogOptions say what a process logs, and how.
type LogOptions struct {
	// Format is LogAuto, which is the default, LogText or LogJSON.
	Format string
	// Level is what logevent.Levels.Set takes: "info", "info,broker=debug".
	Level string
	// Parts of the program that may have a level of their own.
	Parts []logevent.Part
}

// NewLogger returns a logger for w. Its levels can be changed later, through
// logevent.LevelsOf.
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, error) {
	levels, err := logevent.NewLevels(o.Level, o.Parts)
	if err != nil {
		return nil, err
	}
	every := &slog.HandlerOptions{Level: slog.LevelDebug} // what is written is for levels to say
	var handler slog.Handler
	switch {
	case o.Format == LogText, (o.Format == LogAuto || o.Format == "") && IsTerminal(w):
		handler = slog.NewTextHandler(w, every)
	case o.Format == LogJSON, o.Format == LogAuto, o.Format == "":
		handler = slog.NewJSONHandler(w, every)
	default:
		return nil, fmt.Errorf("log format %.40q is not auto, text or json", o.Format)
	}
	return slog.New(levels.Handler(handler)), nil
}

// Validate checks the options by the names of the flags.
func (o LogOptions) Validate() error {
	var wrong []error
	if _, err := logevent.NewLevels(o.Level, o.Parts); err != nil && o.Level != "" {
		wrong = append(wrong, fmt.Errorf("--log-level: %w", err))
	}
	switch o.Format {
	case "", LogAuto, LogText, LogJSON:
	default:
		wrong = append(wrong, fmt.Errorf("--log-format is %.40q; it is auto, text or json", o.Format))
	}
	return errors.Join(wrong...)
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// TerminalSize is how many columns and rows the terminal has that w is, if it is
// one and says so.
func TerminalSize(w io.Writer) (columns, rows int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	return columns, rows, err == nil && columns > 0 && rows > 0
}
