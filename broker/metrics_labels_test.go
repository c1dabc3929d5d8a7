package broker

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// reasonWritten is a reason for refusing a connection as the code writes it out.
var reasonWritten = regexp.MustCompile(`(?m)(?:reason: |metrics\.refused\(|packets\.\w+, )"([a-z_]+)"|^\s+return "([a-z_]+)"$`)

// TestConnectRefusalsAreKnown: a reason that the code gives and the list lacks would be a
// series that is not there before its first event.
func TestConnectRefusalsAreKnown(t *testing.T) {
	found := 0
	for _, name := range []string{"hook.go", "listener.go", "handshake.go", "websocket.go", "meter.go"} {
		text, err := os.ReadFile(filepath.Join(".", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reasonWritten.FindAllStringSubmatch(string(text), -1) {
			reason := m[1] + m[2]
			if found++; !slices.Contains(connectRefusals(), reason) {
				t.Errorf("%s: reason %q is not in connectRefusals", name, reason)
			}
		}
	}
	if found < 12 {
		t.Errorf("only %d reasons were found in the code; the pattern is out of date", found)
	}
}

// TestMetricsKeepTheConventions lints names and help texts, and looks that refusals are
// there before the first one.
func TestMetricsKeepTheConventions(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	before := testutil.CollectAndCount(m.aclRefusals)
	for _, r := range refusals() {
		m.aclRefused(actionPublish, r)
	}
	m.refused("busy")
	m.authFailed(string(verdictPassword))
	m.limited(string(limitBytes))
	m.certificateRefused(untrustedOldCRL)
	if now := testutil.CollectAndCount(m.aclRefusals); now != before {
		t.Errorf("%d series of refusals at first and %d after one of each", before, now)
	}
	if got := testutil.ToFloat64(m.aclRefusals.WithLabelValues(actionPublish, string(refusedDevice))); got != 1 {
		t.Errorf("counted %v, want 1", got)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "davit_broker_") {
			t.Errorf("%s is not the broker's by its name", f.GetName())
		}
	}
}
