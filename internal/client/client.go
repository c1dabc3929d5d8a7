// Package client is a typed client of davit's HTTP API, for the command line,
// the demo and tests. It speaks in the orchestrator's domain types and imports
// nothing else of ours but schemas.
//
// A Client holds no state but its connections and is safe for concurrent use;
// every call runs on its caller's goroutine.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
)

// Client calls one service.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// answerLimit is the longest JSON answer that is read.
const answerLimit = 64 << 20

// New returns a client of the service at base, for example
// "http://127.0.0.1:8080", with an API token.
func New(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("the service's URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the service's URL %q should look like http://HOST:PORT", base)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// An upload waits this long for the service's "go on", so that a refusal costs no transfer.
	transport.ExpectContinueTimeout = 5 * time.Second
	return &Client{base: u, token: token, http: &http.Client{Transport: transport}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a problem that the service answered with (RFC 9457).
type Error struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	// Detail is a sentence for a person.
	Detail string `json:"detail"`
	// Instance names the request in the service's log, for its own faults.
	Instance string `json:"instance"`
	// Fields say what is wrong with single fields of the request.
	Fields []FieldError `json:"errors"`
}

// FieldError is what is wrong with one field of a request.
type FieldError struct {
	// Pointer is the JSON pointer of a field of the body, for example
	// "/image_types/2/id"; Location says where another field stands.
	Pointer  string `json:"pointer"`
	Message  string `json:"message"`
	Location string `json:"location"`
	Value    any    `json:"value"`
}

// Error is the detail, or failing that the title.
func (e *Error) Error() string {
	if e.Detail != "" {
		return e.Detail
	}
	return fmt.Sprintf("%d %s", e.Status, e.Title)
}

// IsStatus says whether err is a problem with this HTTP status.
func IsStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

type idempotencyContext struct{}

// WithIdempotencyKey makes creations with the context happen once, however
// often they are repeated with the same key; connections that break are then
// tried again without asking.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyContext{}, key)
}

// request is one call.
type request struct {
	method string
	path   []string // elements after /v1, not yet escaped
	query  url.Values
	body   any // marshaled to JSON, nil for none
	header http.Header
	stream io.Reader // sent as it is, instead of body
	length int64     // of stream, -1 if unknown
	// revision is the one that an edit is based on, sent as If-Match; nil edits
	// whatever is there.
	revision *uint64
}

// send makes the call and returns the answer if it is a success; the caller
// closes its body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u := c.base.JoinPath("v1")
	for _, p := range r.path {
		u = u.JoinPath(url.PathEscape(p))
	}
	u.RawQuery = r.query.Encode()
	body := r.stream
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.revision != nil {
		req.Header.Set("If-Match", strconv.Quote(strconv.FormatUint(*r.revision, 10)))
	}
	if key, ok := ctx.Value(idempotencyContext{}).(string); ok && r.method == http.MethodPost {
		req.Header.Set("Idempotency-Key", key)
	}
	if r.stream != nil {
		req.ContentLength = r.length
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the service at %s cannot be reached: %w", c.base, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer drop(resp)
	return nil, problem(resp)
}

// drop ends an answer; what little may be left of it is read so that the
// connection can serve again.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // an error only costs the connection
	_ = resp.Body.Close()                         // nothing of it is wanted any more
}

// problem reads an answer that is no success.
func problem(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode)}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if ct, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && ct == "application/problem+json" && json.Unmarshal(b, e) == nil {
		e.Status = resp.StatusCode
		return e
	}
	// Not davit's own: a proxy's page, or another server altogether.
	e.Detail = fmt.Sprintf("the server answered %s", resp.Status)
	if line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n"); line != "" && len(line) < 200 {
		e.Detail += ": " + line
	}
	return e
}

// call makes a call and decodes its answer.
func call[T any](ctx context.Context, c *Client, r request) (T, error) {
	var v T
	resp, err := c.send(ctx, r)
	if err != nil {
		return v, err
	}
	defer drop(resp)
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(&v); err != nil {
		return v, fmt.Errorf("the answer of %s to %s /v1/%s is not understood: %w", c.base, r.method, strings.Join(r.path, "/"), err)
	}
	return v, nil
}

func get[T any](ctx context.Context, c *Client, path ...string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path})
}

func post[T any](ctx context.Context, c *Client, body any, path ...string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodPost, path: path, body: body})
}

func patch[T any](ctx context.Context, c *Client, body any, pre orchestrator.Precondition, path ...string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodPatch, path: path, body: body, revision: pre.IfRevision})
}

func (c *Client) remove(ctx context.Context, path ...string) error {
	resp, err := c.send(ctx, request{method: http.MethodDelete, path: path})
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// page is a part of a listing.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func list[T any](ctx context.Context, c *Client, p orchestrator.Page, query url.Values, path ...string) ([]T, string, error) {
	if query == nil {
		query = url.Values{}
	}
	if p.After != "" {
		query.Set("after", p.After)
	}
	if p.Limit > 0 {
		query.Set("limit", strconv.Itoa(p.Limit))
	}
	v, err := call[page[T]](ctx, c, request{method: http.MethodGet, path: path, query: query})
	return v.Items, v.Next, err
}
