package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// dashboard is what of Grafana's JSON model has queries.
type dashboard struct {
	Title  string
	Panels []struct {
		Title       string
		Targets     []struct{ Expr, LegendFormat string }
		FieldConfig struct{ Defaults struct{ Unit string } }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

// alertFile is deploy/prometheus/alerts.yml.
type alertFile struct {
	Groups []struct {
		Name  string
		Rules []alertRule
	}
}

type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func readAlerts(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var f alertFile
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var all []alertRule
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// chosen is what Grafana puts in the place of variables when all is chosen.
var chosen = strings.NewReplacer("$job", ".+", "$instance", ".+", "$__rate_interval", "1m", "$__range", "1m")

// selector is a metric with its label filters in an expression.
var selector = regexp.MustCompile(`\b(?:davit_[a-z0-9_]+|up|process_[a-z_]+|go_[a-z_]+)(?:\{[^}]*\})?`)

// quiet are selectors of alerts that only exist after what they are about has happened.
var quiet = map[string]bool{`davit_http_requests_total{status=~"5.."}`: true}

// screensVariable names the file that what every panel would show is written to.
const screensVariable = "DAVIT_SCREENS"

// TestQueries runs every query of the dashboards, every variable and every alert against a
// real Prometheus that scrapes the scene: each has to return data.
func TestQueries(t *testing.T) {
	debian(t, "prometheus")
	var p *server
	s := newScene(t, func(serve, bridge string) { p = startPrometheus(t, serve, bridge) })
	p.lint(s.server.Addresses().HTTP)
	p.lint(s.bridge.MetricsAddr())
	// What happened last has been scraped, and so has what was there before.
	p.await(`sum (davit_bridge_updates_total) >= 2 and sum (davit_execution_transitions_total{state=~"succeeded|rejected"}) >= 2 and sum (rate(davit_fetch_last_chunk_seconds_count[1m])) > 0`)
	var screens bytes.Buffer
	files, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, file := range files {
		p.dashboard(file, &screens)
	}
	p.alerts(&screens)
	if name := os.Getenv(screensVariable); name != "" {
		if err := os.WriteFile(name, screens.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// lint has promtool look at what a program tells of itself.
func (p *server) lint(addr string) {
	p.t.Helper()
	resp, err := p.http.Get("http://" + addr + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if out, err := promtool(p.t, ".", text, "check", "metrics"); err != nil {
		p.t.Errorf("promtool check metrics at %s: %v\n%s", addr, err, out)
	}
}

// dashboard runs a dashboard's queries.
func (p *server) dashboard(file string, screens *bytes.Buffer) {
	p.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		p.t.Fatalf("%s: %v", file, err)
	}
	fmt.Fprintf(screens, "==== %s\n", d.Title)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")")
		at := strings.LastIndex(inner, ", ")
		found, err := p.wait("count by ("+inner[at+2:]+") ("+chosen.Replace(inner[:at])+")", answer)
		if err != nil || len(found) == 0 {
			p.t.Errorf("%s: variable %s has no values: %v", d.Title, v.Name, err)
		}
	}
	for _, panel := range d.Panels {
		fmt.Fprintf(screens, "\n-- %s (%s)\n", panel.Title, panel.FieldConfig.Defaults.Unit)
		for _, q := range panel.Targets {
			found, err := p.wait(chosen.Replace(q.Expr), answer)
			slices.SortFunc(found, func(a, b sample) int { return strings.Compare(a.legend(q.LegendFormat), b.legend(q.LegendFormat)) })
			numbers := 0
			for _, s := range found {
				fmt.Fprintf(screens, "   %-50s %.6g\n", s.legend(q.LegendFormat), s.value)
				if !math.IsNaN(s.value) {
					numbers++
				}
			}
			if err != nil || numbers == 0 {
				p.t.Errorf("%s: panel %q: no data for %s (%v, %v)", d.Title, panel.Title, q.Expr, found, err)
			}
		}
	}
	fmt.Fprintln(screens)
}

// alerts looks that every metric that an alert looks at is there with the labels that it
// asks for, and that Prometheus itself has evaluated all of them.
func (p *server) alerts(screens *bytes.Buffer) {
	p.t.Helper()
	fmt.Fprintln(screens, "==== alerts")
	for _, a := range readAlerts(p.t) {
		for _, s := range selector.FindAllString(a.Expr, -1) {
			if quiet[s] {
				continue
			}
			if found, err := p.wait(s, answer); err != nil || len(found) == 0 {
				p.t.Errorf("%s looks at %s, which is not there (%v)", a.Alert, s, err)
			}
		}
		found, err := p.query(a.Expr)
		if err != nil {
			p.t.Errorf("%s: %v", a.Alert, err)
		}
		fmt.Fprintf(screens, "%-26s %d firing or pending\n", a.Alert, len(found))
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get("/api/v1/rules", nil, &rules); err != nil {
		p.t.Fatal(err)
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				p.t.Errorf("Prometheus says of %s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if n != len(readAlerts(p.t)) {
		p.t.Errorf("Prometheus has %d rules", n)
	}
}
