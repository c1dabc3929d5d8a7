package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"davit/gateway"
	"davit/orchestrator"
)

func TestLogLevelIsChangedAtRunTime(t *testing.T) {
	r := newAPI(t, nil)
	if a := r.must("GET /v1/log-level", ""); !strings.Contains(a.body, `"level":"info"`) || !strings.Contains(a.body, `"broker"`) {
		t.Error(a.body)
	}
	if a := r.do("PUT /v1/log-level", `{"level":"http=debug,warn"}`); a.status != http.StatusUnprocessableEntity {
		t.Error(a.status, a.body)
	}
	a := r.do("PUT /v1/log-level", `{"level":"sales=debug"}`)
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "there is no part") || !strings.Contains(a.body, `"pointer":"/level"`) {
		t.Error(a.body)
	}
	var got gateway.LogLevel
	if err := json.Unmarshal([]byte(r.must("PUT /v1/log-level", `{"level":"warn,http=debug"}`).body), &got); err != nil || got.Level != "warn,http=debug" {
		t.Error(got, err)
	}
	entries, _, err := r.service.AuditEntries(t.Context(), orchestrator.AuditFilter{Kind: "log"}, orchestrator.Page{})
	if err != nil || len(entries) != 1 || !strings.Contains(string(entries[0].Before), `"info"`) || !strings.Contains(string(entries[0].After), "warn,http=debug") {
		t.Errorf("%+v %v", entries, err)
	}
	fixed := newAPI(t, func(o *gateway.APIOptions) { o.Levels = nil })
	if a := fixed.do("GET /v1/log-level", ""); a.status != http.StatusConflict {
		t.Error(a.status, a.body)
	}
}

func TestRequestsAreNamed(t *testing.T) {
	r := newAPI(t, nil)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct{ given, traceparent, want string }{
		{"", "", ""}, {"proxy-1.a_b", "", "proxy-1.a_b"}, {"", trace, trace[3:35]}, {"mine", trace, "mine"},
		{"two words", "", ""}, {`a"b`, "", ""}, {strings.Repeat("x", 65), "", ""}, {"-a", trace, trace[3:35]}, {"", trace + "x", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.given != "" {
			req.Header.Set("X-Request-Id", c.given)
		}
		req.Header.Set("traceparent", c.traceparent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		id := resp.Header.Get("X-Request-Id")
		if c.want != "" && id != c.want || c.want == "" && (id == c.given || len(id) != 12) {
			t.Errorf("%+v: named %q", c, id)
		}
	}
	// The same name is in the audit log.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/image-types", strings.NewReader(`{"id":"app"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", "ticket-4711")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	entries, _, err := r.service.AuditEntries(t.Context(), orchestrator.AuditFilter{Kind: "image_type"}, orchestrator.Page{})
	if err != nil || len(entries) != 1 || entries[0].Actor.Request != "ticket-4711" {
		t.Errorf("%d: %+v %v", resp.StatusCode, entries, err)
	}
}
