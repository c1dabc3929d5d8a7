package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"davit/gateway"
)

// A token that asks too much is told by which limit, and when to come back; others
// are answered, and so are probes.
func TestRequestRate(t *testing.T) {
	const rate = 4
	r := newAPI(t, func(o *gateway.APIOptions) { o.RequestRate = rate })
	cookie := "Cookie: davit=" + r.signedIn("ann")
	began, good := time.Now(), 0
	var refused answer
	for range 20 * rate {
		if a := r.do("GET /v1/me", ""); a.status == http.StatusOK {
			good++
		} else {
			refused = a
			break
		}
	}
	if most := rate * (5 + time.Since(began).Seconds()); float64(good) > most || good == 0 {
		t.Errorf("%d requests in %s, at most %.0f may be", good, time.Since(began), most)
	}
	if p := refused.problem(t); refused.status != http.StatusTooManyRequests || !strings.Contains(p.Detail, fmt.Sprint(rate, " a second")) {
		t.Errorf("%d %+v", refused.status, p)
	}
	if after, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || after < 1 || after > 2 {
		t.Errorf("Retry-After %q", refused.header.Get("Retry-After"))
	}
	if a := r.with("GET /v1/me", "", cookie); a.status != http.StatusOK {
		t.Errorf("somebody else: %d", a.status)
	}
	// Whoever has not signed in goes by the address, and has less.
	strangers := 0
	for range 20 * rate {
		if r.with("GET /v1/me", "", "Authorization: Bearer guess").status == http.StatusTooManyRequests {
			break
		}
		strangers++
	}
	if most := rate/4*(5+time.Since(began).Seconds()) + 1; float64(strangers) > most {
		t.Errorf("%d guesses at tokens, at most %.0f may be", strangers, most)
	}
	for _, probe := range []string{"GET /livez", "GET /readyz"} {
		if a := r.with(probe, ""); a.status == http.StatusTooManyRequests {
			t.Errorf("%s: %d", probe, a.status)
		}
	}
	if n := metric(t, r.registry, "davit_http_limited_total", "limit", "request_rate"); n < 2 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := strings.Count(r.logs.String(), "requests over a limit"); n != 2 {
		t.Errorf("logged %d times, want once for the token and once for the address", n)
	}
}

// What is packed could unpack to anything: nothing of it is read, wherever it is sent.
func TestCompressedBodiesAreRefused(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/images?image_type=app&device_type=pump&version=1", "/v1/uploads", "/v1/image-types", "/v1/devices/import", "/sign-in"} {
		for _, coding := range []string{"gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "nonsense"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, bytes.NewReader(bomb.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+adminToken)
			req.Header.Set("Content-Encoding", coding)
			a := r.send(req)
			if p := a.problem(t); a.status != http.StatusUnsupportedMediaType || !strings.Contains(p.Detail, "no compressed bodies") || a.header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s with %s: %d %+v", path, coding, a.status, p)
			}
		}
	}
	if a := r.with("POST /v1/image-types", `{"id":"plain"}`, "Authorization: Bearer "+adminToken, "Content-Encoding: identity"); a.status != http.StatusCreated {
		t.Errorf("a body as it is: %d %s", a.status, a.body)
	}
}

// Header fields are bounded in bytes and in number.
func TestLargeHeaders(t *testing.T) {
	r := newAPI(t, nil)
	many := make([]string, 120)
	for i := range many {
		many[i] = fmt.Sprint("X-Field-", i, ": x")
	}
	for name, headers := range map[string][]string{
		"many fields": many, "one field many times": strings.Split(strings.Repeat("Cookie: a=b\n", 119)+"Cookie: a=b", "\n"),
		"a long field": {"X-Long: " + strings.Repeat("x", 80<<10)},
	} {
		a := r.with("GET /v1/me", "", append(headers, "Authorization: Bearer "+adminToken)...)
		if a.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.with("GET /v1/me", "", append(many[:90], "Authorization: Bearer "+adminToken)...); a.status != http.StatusOK {
		t.Errorf("90 fields: %d", a.status)
	}
}

// Connections that say nothing are bounded for each address, and the next one is closed
// at once; when they are gone there is room again.
func TestConnectionsAreBounded(t *testing.T) {
	const most = 2048
	ctx, stop := context.WithCancel(t.Context())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- gateway.Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), slog.New(slog.DiscardHandler))
	}()
	defer func() {
		stop()
		<-ended
	}()
	silent := make([]net.Conn, 0, most)
	for range most {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	ask := func() error {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	if ask() == nil {
		t.Error("one connection more is served")
	}
	for _, c := range silent {
		_ = c.Close()
	}
	var last error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = ask(); last == nil {
			return
		}
	}
	t.Errorf("there is no room when they are gone: %v", last)
}
