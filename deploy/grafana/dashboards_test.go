package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The parts of Grafana's JSON model that its provisioning and the panels here need
// (Grafana documentation, "Dashboard JSON model"). They are read independently of how the
// dashboards are made.
type (
	model struct {
		UID           string          `json:"uid"`
		Title         string          `json:"title"`
		Description   string          `json:"description"`
		ID            json.RawMessage `json:"id"`
		SchemaVersion int             `json:"schemaVersion"`
		Version       int             `json:"version"`
		Tags          []string        `json:"tags"`
		Time          struct{ From, To string }
		Templating    struct {
			List []modelVariable `json:"list"`
		} `json:"templating"`
		Panels []modelPanel `json:"panels"`
	}
	modelSource   struct{ Type, UID string }
	modelVariable struct {
		Name, Type string
		Datasource *modelSource
		Query      any
		AllValue   string `json:"allValue"`
		IncludeAll bool   `json:"includeAll"`
	}
	modelPanel struct {
		ID                       int
		Type, Title, Description string
		Datasource               *modelSource
		GridPos                  struct{ H, W, X, Y int } `json:"gridPos"`
		Targets                  []modelTarget
		FieldConfig              struct {
			Defaults struct {
				Unit       string
				Thresholds struct {
					Mode  string
					Steps []struct {
						Color string
						Value *float64
					}
				}
			}
			Overrides []any
		} `json:"fieldConfig"`
		Options map[string]any
	}
	modelTarget struct {
		RefID        string `json:"refId"`
		Expr         string
		LegendFormat string `json:"legendFormat"`
		Datasource   *modelSource
		Instant      bool
		Range        bool
	}
)

func read(t *testing.T, file string) model {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	var m model
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return m
}

func TestDashboardsAreUpToDate(t *testing.T) {
	var want []string
	for _, d := range dashboards() {
		want = append(want, d.file)
		b, err := d.render()
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join(folder, d.file))
		if err != nil || !bytes.Equal(have, b) {
			t.Errorf("%s is stale (%v); go generate ./deploy/grafana writes it anew", d.file, err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			t.Errorf("%s is not one of the dashboards", e.Name())
		}
	}
}

// Kinds and units that are used; those of Grafana 9 to 12 have them.
var (
	kinds = []string{stat, timeseries, bargauge}
	units = []string{number, seconds, bytesIEC, bytesPerSec, perSecond, ratio, dateFromNow, upDown}
)

var variableUsed = regexp.MustCompile(`\$\{?([a-z_]+)`)

// builtIn are variables that Grafana has by itself.
var builtIn = []string{"__rate_interval", "__range", "__interval"}

func TestDashboardsAreWhatGrafanaProvisions(t *testing.T) {
	uids, titles := map[string]string{}, map[string]string{}
	for _, d := range dashboards() {
		m := read(t, d.file)
		if other, taken := uids[m.UID]; taken || m.UID == "" || len(m.UID) > 40 {
			t.Errorf("%s: uid %q is empty, too long, or that of %s", d.file, m.UID, other)
		}
		if other, taken := titles[m.Title]; taken || m.Title == "" {
			t.Errorf("%s: title %q is empty or that of %s", d.file, m.Title, other)
		}
		uids[m.UID], titles[m.Title] = d.file, d.file
		if string(m.ID) != "null" || m.SchemaVersion < 36 || m.Version < 1 || m.Description == "" || m.Time.From == "" || m.Time.To == "" {
			t.Errorf("%s: id %s, schema version %d, version %d, description %q, time %v", d.file, m.ID, m.SchemaVersion, m.Version, m.Description, m.Time)
		}
		defined := variables(t, d.file, m)
		checkGrid(t, d.file, m.Panels)
		ids := map[int]bool{}
		for _, p := range m.Panels {
			if ids[p.ID] || p.ID < 1 {
				t.Errorf("%s: id %d of %q is taken or none", d.file, p.ID, p.Title)
			}
			ids[p.ID] = true
			checkPanel(t, d.file, p, defined)
		}
	}
}

// variables returns the names of those that a dashboard defines.
func variables(t *testing.T, file string, m model) []string {
	t.Helper()
	var defined []string
	for _, v := range m.Templating.List {
		switch v.Type {
		case "datasource":
			if v.Query != "prometheus" {
				t.Errorf("%s: variable %s is for data sources of type %v", file, v.Name, v.Query)
			}
		case "query":
			query, _ := v.Query.(map[string]any)
			text, _ := query["query"].(string)
			if !strings.HasPrefix(text, "label_values(davit_") || v.Datasource == nil || !v.IncludeAll || v.AllValue != ".+" {
				t.Errorf("%s: variable %s: %+v", file, v.Name, v)
			}
			for _, used := range variableUsed.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(defined, used[1]) {
					t.Errorf("%s: variable %s uses %s, which is not defined before it", file, v.Name, used[1])
				}
			}
		default:
			t.Errorf("%s: variable %s is of type %q", file, v.Name, v.Type)
		}
		if slices.Contains(defined, v.Name) {
			t.Errorf("%s: variable %s is defined twice", file, v.Name)
		}
		defined = append(defined, v.Name)
	}
	return defined
}

// checkGrid looks that panels are within the columns and none lies on another.
func checkGrid(t *testing.T, file string, panels []modelPanel) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 2 || g.X+g.W > columns {
			t.Errorf("%s: %q lies at %+v", file, p.Title, g)
			continue
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s: %q lies on %q", file, p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

func checkPanel(t *testing.T, file string, p modelPanel, defined []string) {
	t.Helper()
	prometheus := func(s *modelSource) bool { return s != nil && s.Type == "prometheus" && s.UID == "${datasource}" }
	unit := p.FieldConfig.Defaults.Unit
	if p.Title == "" || len(p.Description) < 15 || !slices.Contains(kinds, p.Type) || !slices.Contains(units, unit) || !prometheus(p.Datasource) || len(p.Options) == 0 || p.FieldConfig.Overrides == nil {
		t.Errorf("%s: %q: description %q, type %q, unit %q, data source %v", file, p.Title, p.Description, p.Type, unit, p.Datasource)
	}
	if steps := p.FieldConfig.Defaults.Thresholds.Steps; p.FieldConfig.Defaults.Thresholds.Mode != "absolute" || len(steps) == 0 || steps[0].Value != nil {
		t.Errorf("%s: %q: the first threshold has to be without a value", file, p.Title)
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.RefID == "" || refs[q.RefID] || !prometheus(q.Datasource) || q.LegendFormat == "" || q.Instant == q.Range {
			t.Errorf("%s: %q: query %+v", file, p.Title, q)
		}
		refs[q.RefID] = true
		if !strings.Contains(q.Expr, "$job") || !strings.Contains(q.Expr, "$instance") || strings.Contains(q.Expr, "@") {
			t.Errorf("%s: %q does not filter by job and instance: %s", file, p.Title, q.Expr)
		}
		for _, used := range variableUsed.FindAllStringSubmatch(q.Expr, -1) {
			if !slices.Contains(defined, used[1]) && !slices.Contains(builtIn, used[1]) {
				t.Errorf("%s: %q uses %s, which is not defined", file, p.Title, used[1])
			}
		}
	}
	if len(refs) == 0 {
		t.Errorf("%s: %q has no query", file, p.Title)
	}
}

// TestProvisioning holds the files that Grafana reads at its start against what it expects
// (Grafana documentation, "Provision Grafana") and against docker-compose.yml. Unknown keys
// are refused.
func TestProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
			Editable                     bool
			JSONData                     map[string]string `yaml:"jsonData"`
		}
	}
	decode(t, "provisioning/datasources/prometheus.yml", &sources)
	if len(sources.Datasources) != 1 || sources.APIVersion != 1 {
		t.Fatalf("%+v", sources)
	}
	if s := sources.Datasources[0]; s.Type != "prometheus" || s.Access != "proxy" || s.UID == "" || s.Name == "" || s.URL != "http://prometheus:9090" || !s.IsDefault {
		t.Errorf("data source %+v", s)
	}
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			OrgID                 int    `yaml:"orgId"`
			FolderUID             string `yaml:"folderUid"`
			DisableDeletion       bool   `yaml:"disableDeletion"`
			AllowUIUpdates        bool   `yaml:"allowUiUpdates"`
			UpdateIntervalSeconds int    `yaml:"updateIntervalSeconds"`
			Options               struct {
				Path      string
				Structure bool `yaml:"foldersFromFilesStructure"`
			}
		}
	}
	decode(t, "provisioning/dashboards/davit.yml", &providers)
	if len(providers.Providers) != 1 || providers.APIVersion != 1 {
		t.Fatalf("%+v", providers)
	}
	p := providers.Providers[0]
	if p.Type != "file" || p.Name == "" || p.OrgID != 1 || p.Folder == "" || p.FolderUID == "" || p.UpdateIntervalSeconds < 10 {
		t.Errorf("provider %+v", p)
	}
	compose, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, volume := range []string{"./deploy/grafana/dashboards:" + p.Options.Path + ":ro", "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro"} {
		if !bytes.Contains(compose, []byte(volume)) {
			t.Errorf("docker-compose.yml has no volume %s", volume)
		}
	}
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(b, into, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
