package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"davit/internal/logevent"
)

// longestLevel bounds what is read of a level that somebody wants.
const longestLevel = 1024

// LogLevel is what a process logs.
type LogLevel struct {
	Level string   `json:"level"` // in the form that logevent.Levels.Set takes
	Parts []string `json:"parts"` // that may have a level of their own
}

// serveLogLevel answers on the status socket, which only the bridge's user and
// root may use: a GET with what is logged, a PUT of text by changing it.
func (b *Bridge) serveLogLevel(w http.ResponseWriter, r *http.Request) {
	levels := logevent.LevelsOf(b.log)
	if levels == nil {
		http.Error(w, "the log of this bridge is another program's, and so are its levels", http.StatusConflict)
		return
	}
	if r.Method == http.MethodPut {
		spec, err := io.ReadAll(io.LimitReader(r.Body, longestLevel))
		if err == nil {
			err = levels.Set(string(spec))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		b.log.Info("the levels of the log are changed", "event", logevent.LogLevelChanged, "levels", levels.String())
	}
	out := LogLevel{Level: levels.String()}
	for _, p := range levels.Parts() {
		out.Parts = append(out.Parts, string(p))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // an error is the reader's who has gone
}

// BridgeLogLevel asks the bridge that runs on a data folder what it logs, or with
// a spec has it log that. The error wraps ErrNoBridge if none runs.
func BridgeLogLevel(ctx context.Context, data, spec string) (LogLevel, error) {
	var out LogLevel
	method := http.MethodGet
	if spec != "" {
		method = http.MethodPut
	}
	answer, err := askBridge(ctx, data, method, "/log-level", spec)
	if err != nil {
		return out, err
	}
	if err := json.NewDecoder(strings.NewReader(answer)).Decode(&out); err != nil {
		return out, fmt.Errorf("ask the bridge on %s: %w", data, err)
	}
	return out, nil
}
