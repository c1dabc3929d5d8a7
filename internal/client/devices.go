package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// ImportLine is one line of an import, and what became of it.
type ImportLine struct {
	Line     int    `json:"line"`
	ID       string `json:"id"`
	Result   string `json:"result"` // created, ok or error
	Error    string `json:"error,omitempty"`
	Password string `json:"password,omitempty"`
}

// ImportReport says what an import has done: everything, or nothing if a line
// is wrong.
type ImportReport struct {
	DryRun   bool         `json:"dry_run,omitempty"`
	Imported int          `json:"imported"`
	Wrong    int          `json:"wrong"`
	Lines    []ImportLine `json:"lines"`
}

// ImportDevices makes the devices of a CSV file known, all or none. With
// credentials they get passwords, which are told this once; with dryRun nothing
// is done but the report.
func (c *Client) ImportDevices(ctx context.Context, csv io.Reader, credentials, dryRun bool) (ImportReport, error) {
	return call[ImportReport](ctx, c, request{
		method: http.MethodPost, path: []string{"devices", "import"},
		query:  url.Values{"credentials": {strconv.FormatBool(credentials)}, "dry_run": {strconv.FormatBool(dryRun)}},
		header: http.Header{"Content-Type": {"text/csv"}},
		stream: csv, length: length(csv),
	})
}
