package observe

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

var updateMetrics = flag.Bool("update-metrics", false, "write docs/metrics.md anew")

const (
	root       = "../.."
	metricsDoc = root + "/docs/metrics.md"
)

// openLabels are those whose values are not of a fixed list: what they say, and what
// bounds them.
var openLabels = map[string]string{
	"type":      "id of a device type; 100 of them at most, the others are `other`",
	"job_name":  "name of a job; the 20 newest that run or are paused",
	"port":      "the port's name in the bridge's configuration; 64 at most",
	"method":    "HTTP method",
	"route":     "pattern of the HTTP route, never the path",
	"status":    "HTTP status code",
	"files":     "what the files are: `image keys` or `TLS certificate`",
	"version":   "version of davit",
	"revision":  "commit that it was built from",
	"goversion": "version of Go",
}

// maxSeries is more than any program of the scene has, by far: what grows with the fleet
// would be over it with a fleet.
const maxSeries = 1500

// TestMetrics holds what service and bridge expose against the conventions of Prometheus
// and against docs/metrics.md, which it makes anew with -update-metrics.
func TestMetrics(t *testing.T) {
	s := newScene(t, nil)
	programs := []program{{"serve", s.server.Registry()}, {"bridge", s.bridge.Registry()}}
	var doc bytes.Buffer
	doc.WriteString(docHead)
	for _, p := range programs {
		families := p.gather(t)
		p.conventions(t, families)
		p.complete(t, families)
		fmt.Fprintf(&doc, "\n## davit %s\n\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n", p.name)
		for _, f := range families {
			doc.WriteString(row(f))
		}
	}
	if *updateMetrics {
		if err := os.WriteFile(metricsDoc, doc.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, doc.Bytes()) {
		t.Errorf("docs/metrics.md is not what the programs expose; write it anew with: go test ./internal/observe -run TestMetrics -update-metrics\n%s", firstDifference(have, doc.Bytes()))
	}
}

const docHead = `# Metrics

Made by a test from what the running programs expose (` + "`go test ./internal/observe -run TestMetrics -update-metrics`" + `). ` + "`davit serve`" + ` tells its metrics at
` + "`/metrics`" + ` of its HTTP listeners, ` + "`davit bridge --metrics ADDR`" + ` at ` + "`/metrics`" + ` of a listener of its own. Both have the metrics of the Go runtime
and of the process beside them (` + "`go_*`, `process_*`" + `). With an external broker there is no ` + "`davit_broker_*`" + ` and no ` + "`davit_connected_devices`" + `.

No label carries the id of a device, a person or an execution, and no scrape walks the fleet. A counter whose labels are of a fixed list is there with 0 from
the start. A histogram NAME has ` + "`NAME_bucket`, `NAME_sum` and `NAME_count`" + `. Dashboards are in deploy/grafana, alerts in deploy/prometheus ([alerts.md](alerts.md)).
`

type program struct {
	name     string
	registry *prometheus.Registry
}

// gather returns the families that are ours, by name.
func (p program) gather(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	all, err := p.registry.Gather()
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	series := 0
	for _, f := range all {
		series += len(f.GetMetric())
	}
	if series > maxSeries {
		t.Errorf("%s has %d series, more than %d", p.name, series, maxSeries)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "davit_") })
}

// described is the name in the text of a prometheus.Desc.
var described = regexp.MustCompile(`fqName: "([^"]+)"`)

// complete fails for what is registered and has no series: it would not be in the document.
func (p program) complete(t *testing.T, families []*dto.MetricFamily) {
	t.Helper()
	there := map[string]bool{}
	for _, f := range families {
		there[f.GetName()] = true
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		p.registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no name in %s", d)
		}
		if strings.HasPrefix(m[1], "davit_") && !there[m[1]] {
			t.Errorf("%s: %s is registered and has no series; begin it with 0, or have the scene bring it about", p.name, m[1])
		}
	}
}

var (
	goodName  = regexp.MustCompile(`^davit_[a-z0-9]+(_[a-z0-9]+)*$`)
	badUnit   = regexp.MustCompile(`_(ms|us|milliseconds|microseconds|nanoseconds|minutes|hours|kb|kib|mb|mib|kilobytes|megabytes|percent)(_|$)`)
	goodLabel = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
)

// conventions hold every family against Prometheus' practices for names and labels.
func (p program) conventions(t *testing.T, families []*dto.MetricFamily) {
	t.Helper()
	if problems, err := testutil.GatherAndLint(p.registry); err != nil || len(problems) > 0 {
		t.Errorf("%s: %v, %v", p.name, problems, err)
	}
	for _, f := range families {
		name := f.GetName()
		if !goodName.MatchString(name) || badUnit.MatchString(name) {
			t.Errorf("%s is not a name by the conventions", name)
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, f.GetType())
		}
		if help := f.GetHelp(); len(help) < 10 || !strings.HasSuffix(help, ".") || strings.ContainsAny(help, "|\n") {
			t.Errorf("%s has the help %q", name, help)
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !goodLabel.MatchString(l.GetName()) || l.GetName() == "job" || l.GetName() == "instance" {
					t.Errorf("%s has a label %q, which is no name, or Prometheus' own", name, l.GetName())
				}
				if slices.ContainsFunc(sceneDevices, func(d string) bool { return strings.Contains(l.GetValue(), d) }) {
					t.Errorf("%s has a device's id in label %s=%q", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// row is a family's in the document.
func row(f *dto.MetricFamily) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), unit(f.GetName()), labels(f), f.GetHelp())
}

// unit is what the name says of it.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, u := range [][2]string{
		{"_bytes_per_second", "bytes/s"}, {"_timestamp_seconds", "s, Unix time"}, {"_seconds", "s"}, {"_bytes", "bytes"}, {"_ratio", "ratio"}, {"_info", "always 1"},
	} {
		if strings.HasSuffix(name, u[0]) {
			return u[1]
		}
	}
	return "number"
}

// labels are a family's with their values.
func labels(f *dto.MetricFamily) string {
	values := map[string]map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if values[l.GetName()] == nil {
				values[l.GetName()] = map[string]bool{}
			}
			values[l.GetName()][cmp.Or(l.GetValue(), `""`)] = true
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text, open := openLabels[name]
		if !open || name == "method" && !strings.HasPrefix(f.GetName(), "davit_http_") {
			text = "`" + strings.Join(slices.Sorted(maps.Keys(values[name])), "`, `") + "`"
		}
		all = append(all, fmt.Sprintf("`%s`: %s", name, text))
	}
	return strings.Join(all, "; ")
}

func firstDifference(have, want []byte) string {
	h, w := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range w {
		if i >= len(h) || h[i] != w[i] {
			return fmt.Sprintf("line %d should be: %s", i+1, w[i])
		}
	}
	return "it has lines too many"
}

// debian finds a program of the Debian package prometheus. What it is for takes some
// seconds, so a test without DAVIT_TEST_FULL=1 is skipped.
func debian(t *testing.T, name string) string {
	t.Helper()
	if os.Getenv("DAVIT_TEST_FULL") != "1" && os.Getenv(screensVariable) == "" {
		t.Skipf("%s takes some seconds; DAVIT_TEST_FULL=1 runs it", name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed, and DAVIT_TEST_FULL=1 wants it: apt-get install prometheus", name)
	}
	return path
}

// promtool runs promtool in a folder and returns what it said.
func promtool(t *testing.T, dir string, stdin []byte, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), debian(t, "promtool"), args...)
	cmd.Dir, cmd.Stdin = filepath.Join(root, dir), bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
