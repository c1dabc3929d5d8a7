package client

import (
	"context"
	"io"
	"net/http"

	"davit/orchestrator"
)

// Storage says what the service's data folder takes.
func (c *Client) Storage(ctx context.Context) (orchestrator.StorageUsage, error) {
	return get[orchestrator.StorageUsage](ctx, c, "storage")
}

// Compact gives back to the disk what is free in the service's records.
func (c *Client) Compact(ctx context.Context) (orchestrator.Compaction, error) {
	return post[orchestrator.Compaction](ctx, c, nil, "storage", "compact")
}

// Backup returns the archive of the service's data folder; the caller closes it. It is
// whole only if reading it ends without an error.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: http.MethodPost, path: []string{"storage", "backup"}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
