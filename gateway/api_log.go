package gateway

import (
	"context"
	"fmt"

	"github.com/danielgtaylor/huma/v2"

	"davit/internal/logevent"
	"davit/orchestrator"
)

// LogLevel is what the service logs.
type LogLevel struct {
	Level string   `json:"level" doc:"A level (debug, info, warn, error), and behind commas parts that have another one, as in info,broker=debug"`
	Parts []string `json:"parts" nullable:"false" doc:"The parts that may have a level of their own"`
}

// logLevelInput changes it.
type logLevelInput struct {
	Body struct {
		Level string `json:"level" minLength:"1" maxLength:"1024" doc:"A level, and behind commas parts that have another one, as in info,broker=debug; what is not named has the first level"`
	}
}

// kindLog is what the audit log calls it.
const kindLog = "log"

func (a *API) logRoutes(api huma.API) {
	route(a, api, "GET /v1/log-level", "get log level",
		func(context.Context, *nothing) (*bodyOf[LogLevel], error) {
			levels, err := a.levels()
			if err != nil {
				return nil, err
			}
			return one(logLevelOf(levels), nil)
		}, describe("What this process of the service logs."))
	route(a, api, "PUT /v1/log-level", "set log level",
		func(ctx context.Context, in *logLevelInput) (*bodyOf[LogLevel], error) {
			return one(a.setLogLevel(ctx, in.Body.Level))
		},
		describe("Changes what this process of the service logs, until it ends. docs/logs.md has the parts."))
}

// levels are those of the log, if they can be changed.
func (a *API) levels() (*logevent.Levels, error) {
	if a.options.Levels != nil {
		return a.options.Levels, nil
	}
	return nil, fmt.Errorf("log level: %w: the log of this process is another program's, and so are its levels", orchestrator.ErrConflict)
}

func (a *API) setLogLevel(ctx context.Context, spec string) (LogLevel, error) {
	levels, err := a.levels()
	if err != nil {
		return LogLevel{}, err
	}
	before := logLevelOf(levels)
	if err := levels.Set(spec); err != nil {
		return LogLevel{}, orchestrator.InvalidField("level", "%s", err)
	}
	after := logLevelOf(levels)
	if err := a.options.Service.Audit(ctx, "update", kindLog, "level", before, after); err != nil {
		_ = levels.Set(before.Level) // they were in force a moment ago
		return LogLevel{}, err
	}
	a.options.Log.Info("the levels of the log are changed", "event", logevent.LogLevelChanged, "levels", after.Level, "request", requestID(ctx))
	return after, nil
}

func logLevelOf(l *logevent.Levels) LogLevel {
	out := LogLevel{Level: l.String(), Parts: []string{}}
	for _, p := range l.Parts() {
		out.Parts = append(out.Parts, string(p))
	}
	return out
}
