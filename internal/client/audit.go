package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"davit/orchestrator"
)

// AuditEntries lists the audit log, the newest entry first.
func (c *Client) AuditEntries(ctx context.Context, f orchestrator.AuditFilter, p orchestrator.Page) ([]orchestrator.AuditEntry, string, error) {
	return list[orchestrator.AuditEntry](ctx, c, p, auditQuery(f), "audit")
}

// ExportAudit returns the audit log as lines of JSON; the caller closes it.
func (c *Client) ExportAudit(ctx context.Context, f orchestrator.AuditFilter) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: []string{"audit", "export"}, query: auditQuery(f)})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func auditQuery(f orchestrator.AuditFilter) url.Values {
	query := set(url.Values{}, "actor", f.Actor, "action", f.Action, "kind", f.Kind, "id", f.ID)
	if !f.From.IsZero() {
		query.Set("from", f.From.Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		query.Set("to", f.To.Format(time.RFC3339Nano))
	}
	return query
}
