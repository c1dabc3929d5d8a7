package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"davit/gateway"
)

// TestStatusSaysWhatIsNotHealthy holds what healthy stands for, which is the exit code of davit status.
func TestStatusSaysWhatIsNotHealthy(t *testing.T) {
	var broken error
	var system gateway.SystemStatus
	r := newAPI(t, func(o *gateway.APIOptions) {
		o.Checks = []gateway.Check{{Name: "broker", Healthy: func(context.Context) error { return broken }}}
		o.System = func() gateway.SystemStatus { return system }
		o.Connected = func() map[string]int { return map[string]int{"pump": 2} }
	})
	for _, c := range []struct {
		name           string
		broken         error
		free           int64
		ends           time.Duration
		ready, healthy bool
	}{
		{"all well", nil, 1 << 40, time.Hour, true, true},
		{"a disk that is not known", nil, -1, time.Hour, true, true},
		{"no broker", errors.New("no link"), 1 << 40, time.Hour, false, false},
		{"a full disk", nil, 1 << 20, time.Hour, true, false},
		{"a certificate that has ended", nil, 1 << 40, -time.Hour, true, false},
	} {
		broken = c.broken
		system = gateway.SystemStatus{DiskFree: c.free, DiskAll: 1 << 41, Certificates: []gateway.CertificateStatus{{File: "cert.pem", Ends: time.Now().Add(c.ends)}}}
		a := r.with("GET /v1/status", "", "Authorization: Bearer "+adminToken)
		var got gateway.ServiceStatus
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", c.name, a.status, a.body, err)
		}
		if got.Fleet.Connected["pump"] != 2 || len(got.Failures) != 0 || got.Failures == nil {
			t.Errorf("%s: %s", c.name, a.body)
		}
		if got.Ready != c.ready || got.Healthy != c.healthy || len(got.Checks) != 1 || got.Checks[0].OK != c.ready {
			t.Errorf("%s: ready %v, healthy %v: %s", c.name, got.Ready, got.Healthy, a.body)
		}
	}
}
