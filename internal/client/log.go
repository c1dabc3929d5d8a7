package client

import (
	"context"
	"net/http"
)

// LogLevel is what the service logs.
type LogLevel struct {
	// Level is a level, and behind commas parts that have another one.
	Level string   `json:"level"`
	Parts []string `json:"parts"`
}

// LogLevel says what the service logs.
func (c *Client) LogLevel(ctx context.Context) (LogLevel, error) {
	return get[LogLevel](ctx, c, "log-level")
}

// SetLogLevel changes what the service logs until it ends, for example to
// "info,broker=debug".
func (c *Client) SetLogLevel(ctx context.Context, level string) (LogLevel, error) {
	body := struct {
		Level string `json:"level"`
	}{level}
	return call[LogLevel](ctx, c, request{method: http.MethodPut, path: []string{"log-level"}, body: body})
}
