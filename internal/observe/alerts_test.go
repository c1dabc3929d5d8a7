package observe

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestRules has promtool check the configuration and the rules, and run the rules' tests.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := promtool(t, "deploy/prometheus", nil, args...); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// heading is an alert's in docs/alerts.md.
var heading = regexp.MustCompile(`(?m)^### (\w+)$`)

// TestAlertsAreDocumentedAndTested: each alert says what it is about in the same way, has a
// part of docs/alerts.md, and a test in which it fires and one in which it does not.
func TestAlertsAreDocumentedAndTested(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs/alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	fires, quiet := alertTests(t)
	var names []string
	for _, a := range readAlerts(t) {
		names = append(names, a.Alert)
		if s := a.Labels["severity"]; s != "critical" && s != "warning" || len(a.Labels) != 1 {
			t.Errorf("%s has labels %v", a.Alert, a.Labels)
		}
		if n := a.Annotations; n["summary"] == "" || !strings.HasSuffix(n["description"], ".") || n["runbook"] != "docs/alerts.md#"+strings.ToLower(a.Alert) || len(n) != 3 {
			t.Errorf("%s has annotations %v", a.Alert, n)
		}
		if !slices.Contains(fires, a.Alert) || !slices.Contains(quiet, a.Alert) {
			t.Errorf("%s has no test in which it fires, or none in which it is quiet", a.Alert)
		}
	}
	var documented []string
	for _, m := range heading.FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1])
	}
	if !slices.Equal(documented, names) {
		t.Errorf("docs/alerts.md has %v, alerts.yml %v", documented, names)
	}
	for _, m := range regexp.MustCompile(`\]\(#(\w+)\)`).FindAllStringSubmatch(string(doc), -1) {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.ToLower(n) == m[1] }) {
			t.Errorf("docs/alerts.md points to #%s, which is not there", m[1])
		}
	}
}

// alertTests are the alerts that alerts_test.yml expects to fire, and not to.
func alertTests(t *testing.T) (fires, quiet []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Tests {
		for _, a := range c.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires = append(fires, a.Alertname)
			} else {
				quiet = append(quiet, a.Alertname)
			}
		}
	}
	return fires, quiet
}
