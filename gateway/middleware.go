package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/internal/logevent"
	"davit/internal/trace"
	"davit/schemas"
)

// Limits on slow peers. There is no deadline on a request as a whole, because
// uploads and long polls may take long; instead every read and write has one.
const (
	// bodyStall is how long one read of a body may take.
	bodyStall = 30 * time.Second
	// bodyGrace and bodyRate: on average a body has to arrive faster than
	// bodyRate bytes per second, after the grace.
	bodyGrace = 30 * time.Second
	bodyRate  = 1 << 10
	// writeStall is how long one write of an answer may take.
	writeStall = 30 * time.Second
	// leftover is how long the rest of a body that nobody wants may still
	// arrive, so that a client which is sending sees the answer.
	leftover = time.Second
)

// errBodyStalled is what a reader of a body gets when the sender was too slow.
var errBodyStalled = errors.New("the body arrived too slowly")

type requestIDKey struct{}

// requestID names the request in answers and in the log.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// callerID is a request id as a caller may choose it: what goes into a log and the
// audit log has to be short and harmless.
var callerID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// nameRequest is the request's id: the one that its caller gives, who may be a proxy
// that logs it too, else the id of the trace that it belongs to, else a new one.
func nameRequest(h http.Header) string {
	if id := h.Get("X-Request-Id"); callerID.MatchString(id) {
		return id
	}
	if c, ok := schemas.ParseTraceparent(h.Get("traceparent")); ok {
		return c.TraceID()
	}
	return rand.Text()[:12]
}

// observe is the outermost handler: it names the request, bounds slow peers,
// survives a panic, and counts and logs the answer.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := nameRequest(r.Header)
		ctx, span := a.options.Tracer.Begin(context.WithValue(r.Context(), requestIDKey{}, id), id, r.Header.Get(schemas.TraceparentProperty), start)
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w)}
		if r.Body != nil && r.Body != http.NoBody {
			rec.body = &pacedBody{ReadCloser: r.Body, control: rec.control, start: start}
			r.Body = rec.body
		}
		rec.Header().Set("X-Request-Id", id)
		defer func() {
			if p := recover(); p != nil {
				a.recovered(rec, r, id, p)
			}
			a.answered(rec, r, time.Since(start), span)
		}()
		next.ServeHTTP(rec, r)
		rec.linger()
	})
}

func (a *API) recovered(rec *recorder, r *http.Request, id string, p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	a.options.Log.Error("request handler panicked", "event", logevent.RequestPanicked, "method", r.Method, "path", r.URL.Path, "request", id, "panic", p, "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // the answer has begun; only breaking it off tells the client
	}
	writeProblem(rec, internalProblem(id))
}

func (a *API) answered(rec *recorder, r *http.Request, took time.Duration, span *trace.Request) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	method := r.Method
	if !slices.Contains(methods(), method) {
		method = "other" // a label must not be the client's to choose
	}
	route := r.Pattern
	if _, path, ok := strings.Cut(route, " "); ok {
		route = path
	}
	if route == "" || route == "/" {
		route = "none"
	}
	a.options.Metrics.answered(method, route, status, took)
	if span != nil && !watched(route) {
		span.End(method, route, strconv.Itoa(status), status >= http.StatusInternalServerError, time.Now())
	}
	a.options.Log.Debug("request answered", "event", logevent.RequestAnswered, "method", r.Method, "path", r.URL.Path, "status", status, "took", took, "request", requestID(r.Context()))
}

// watched are the routes that are asked every few seconds by what watches the
// service, of which nobody wants a span.
func watched(route string) bool {
	return route == "/livez" || route == "/readyz" || route == "/metrics"
}

func methods() []string {
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
}

// elsewhere hands what no route of the API's takes to the console, except what
// is below the API's own paths.
func (a *API) elsewhere(mux *http.ServeMux) http.HandlerFunc {
	none := fallback(mux)
	return func(w http.ResponseWriter, r *http.Request) {
		if a.options.Console == nil || ownPath(r.URL.Path) {
			none(w, r)
			return
		}
		a.options.Console.ServeHTTP(w, r)
	}
}

// ownPath says whether a path is the API's and never the console's.
func ownPath(path string) bool {
	switch path {
	case "/v1", "/openapi.yaml", "/openapi.json", "/livez", "/readyz", "/metrics":
		return true
	}
	return strings.HasPrefix(path, "/v1/")
}

// fallback answers what no route matches: 405 if the path exists with another
// method, else 404.
func fallback(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allow []string
		for _, m := range methods() {
			probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(probe); pattern != "/" && pattern != "" {
				allow = append(allow, m)
			}
		}
		if len(allow) > 0 {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			writeProblem(w, newProblem(http.StatusMethodNotAllowed, "This path takes "+strings.Join(allow, ", ")+", not "+r.Method+"."))
			return
		}
		writeProblem(w, newProblem(http.StatusNotFound, "There is nothing at "+r.URL.Path+"; /openapi.yaml lists what there is."))
	}
}

// recorder remembers the status and gives each write its deadline.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	body    *pacedBody // nil if the request has none
	status  int
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 {
		r.begin(status)
	}
	r.extend()
	r.ResponseWriter.WriteHeader(status)
}

// begin notes the status. If the body has not been read to its end, the
// connection ends with the answer: net/http would otherwise wait for the rest
// of the body before it sends the answer.
func (r *recorder) begin(status int) {
	r.status = status
	if r.body != nil && !errors.Is(r.body.err, io.EOF) {
		r.Header().Set("Connection", "close")
		_ = r.control.SetReadDeadline(time.Now().Add(leftover)) // as in extend
	}
}

// linger sends the answer and then reads what the client still sends, until
// the deadline that begin has set: if the connection were closed at once, the
// client's system would discard the answer that it has not read yet. (net/http
// lingers by itself, but not after "Expect: 100-continue".)
func (r *recorder) linger() {
	if r.body == nil || r.body.err != nil || r.body.read == 0 {
		return
	}
	_ = r.control.Flush()
	_, _ = io.Copy(io.Discard, r.body.ReadCloser) // ends with an error as a rule; nobody wants these bytes
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.begin(http.StatusOK)
	}
	r.extend()
	return r.ResponseWriter.Write(b)
}

// extend sets the next write's deadline; a writer without a connection (in a
// test) has none to set.
func (r *recorder) extend() { _ = r.control.SetWriteDeadline(time.Now().Add(writeStall)) }

// pacedBody gives each read of a body its deadline and lifts it at the end,
// because the deadline would otherwise cancel the handler's context.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	start   time.Time
	read    int64
	err     error // what ended the body, nil so far
}

func (b *pacedBody) Read(p []byte) (int, error) {
	now := time.Now()
	pace := b.start.Add(bodyGrace + time.Duration(b.read/bodyRate)*time.Second)
	if stall := now.Add(bodyStall); stall.Before(pace) {
		pace = stall
	}
	_ = b.control.SetReadDeadline(pace)
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errBodyStalled
		}
		b.err = err
	}
	return n, err
}
