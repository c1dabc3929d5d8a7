package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/gateway"
)

// asked is what a handler answers.
func asked(h http.Handler, url, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealthForms(t *testing.T) {
	var broken error
	checks := []gateway.Check{
		{Name: "store", Healthy: func(context.Context) error { return nil }, Detail: func(context.Context) string { return "4 KiB" }},
		{Name: "broker", Healthy: func(context.Context) error { return broken }, Remedy: "start the broker"},
	}
	ready, live := gateway.NewReadiness(checks), gateway.NewLiveness(checks)
	for _, c := range []struct {
		name, url, accept string
		handler           http.Handler
		broken            error
		status            int
		contentType       string
		want              []string
	}{
		{"ready in JSON", "/readyz", "", ready, nil, 200, "application/json", []string{`"ready":true`, `"store":"ok"`, `"since":"2`}},
		{"not ready in JSON", "/readyz", "application/json", ready, errors.New("gone\nfor good"), 503, "application/json", []string{`"ready":false`, `"broker":"gone; for good"`, `"remedy":"start the broker"`}},
		{"verbose", "/readyz?verbose", "", ready, nil, 200, "text/plain", []string{"[+] store: ok since 2", "; 4 KiB\n", "\nready\n"}},
		{"verbose, not ready", "/readyz?verbose", "", ready, errors.New("gone"), 503, "text/plain", []string{"[-] broker: failed since 2", ": gone; start the broker\n", "\nnot ready\n"}},
		{"by Accept", "/readyz", "text/plain", ready, nil, 200, "text/plain", []string{"[+] broker"}},
		{"a browser", "/readyz", "text/html,*/*", ready, nil, 200, "application/json", []string{`"ready":true`}},
		{"the first of two", "/readyz", "application/json, text/plain", ready, nil, 200, "application/json", []string{`"ready":true`}},
		{"without one", "/readyz?exclude=broker", "", ready, errors.New("gone"), 200, "application/json", []string{`"ready":true`}},
		{"alive", "/livez", "", live, nil, 200, "text/plain", []string{"ok\n"}},
		{"not alive", "/livez", "", live, errors.New("stuck"), 503, "text/plain", []string{"[-] broker: failed since", "not live\n"}},
		{"alive in JSON", "/livez", "application/json", live, nil, 200, "application/json", []string{`"ready":true`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken = c.broken
			got := asked(c.handler, c.url, c.accept)
			if got.Code != c.status || !strings.HasPrefix(got.Header().Get("Content-Type"), c.contentType) || got.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v", got.Code, got.Header())
			}
			for _, want := range c.want {
				if !strings.Contains(got.Body.String(), want) {
					t.Errorf("no %q in\n%s", want, got.Body)
				}
			}
		})
	}
}

// TestHealthKnowsSinceWhen: the time is that of the change, not that of the question.
func TestHealthKnowsSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var down time.Time // when it fails, and when it is back
		h := gateway.NewReadiness([]gateway.Check{{Name: "link", Healthy: func(context.Context) error {
			if at := time.Since(began); at > 30*time.Second && at < 90*time.Second {
				return errors.New("down")
			}
			return nil
		}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = h.Run(ctx) }()
		since := func() (ready bool, at time.Time) {
			var r gateway.Readiness
			if err := json.Unmarshal(asked(h, "/readyz", "").Body.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			return r.Ready, r.Details[0].Since
		}
		near := func(what string, got, want time.Time) {
			t.Helper()
			if d := got.Sub(want); d < 0 || d > 4*time.Second {
				t.Errorf("%s: %s after %s", what, d, want.Sub(began))
			}
		}
		time.Sleep(20 * time.Second)
		if ready, at := since(); !ready || !at.Equal(began) {
			t.Errorf("at the start: %v since %s", ready, at)
		}
		time.Sleep(50 * time.Second)
		ready, at := since()
		if down = at; ready {
			t.Error("it is ready without the link")
		}
		near("down", down, began.Add(30*time.Second))
		time.Sleep(50 * time.Second)
		if ready, at = since(); !ready {
			t.Error("it is not ready with the link")
		}
		near("up", at, began.Add(90*time.Second))
	})
}
