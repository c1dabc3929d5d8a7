package observe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// server is a real Prometheus with the configuration of deploy/prometheus, which scrapes
// the scene instead of what that names, and more often.
type server struct {
	t    *testing.T
	addr string
	http *http.Client
}

// startPrometheus starts it and returns when it has scraped the service twice, so that
// rates see what happens from then on. The bridge need not run yet.
func startPrometheus(t *testing.T, serve, bridge string) *server {
	t.Helper()
	binary := debian(t, "prometheus")
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, configuration(t, serve, bridge), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &server{t: t, addr: freeAddr(t), http: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
	cmd := exec.Command(binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr, "--log.level=error")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("prometheus: %v\n%s", err, said.String())
		}
	})
	p.await(`count_over_time(up{job="davit"}[1m]) >= 2 and up{job="davit"} == 1`)
	return p
}

// configuration is deploy/prometheus/prometheus.yml with other intervals and targets.
func configuration(t *testing.T, serve, bridge string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(filepath.Join(root, "deploy/prometheus/alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if files := c["rule_files"].([]any); len(files) != 1 || files[0] != "alerts.yml" {
		t.Fatalf("rule files %v", files)
	}
	c["global"], c["rule_files"] = map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}, []string{rules}
	jobs := c["scrape_configs"].([]any)
	for i, addr := range []string{serve, bridge} {
		job := jobs[i].(map[string]any)
		delete(job, "file_sd_configs")
		job["static_configs"] = []map[string]any{{"targets": []string{addr}}}
	}
	out, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// freeAddr is an address that nobody listens on. Prometheus cannot be asked which port it
// has taken.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// sample is one series of an answer.
type sample struct {
	labels map[string]string
	value  float64
}

// legend is what a graph calls it.
func (s sample) legend(format string) string {
	for name, v := range s.labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", v)
	}
	return strings.TrimSpace(format)
}

// get asks the API and decodes the data of its answer.
func (p *server) get(path string, query url.Values, into any) error {
	resp, err := p.http.Get("http://" + p.addr + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %s %w", path, answer.Error, cmp.Or(err, fmt.Errorf("status %s", resp.Status)))
	}
	return nil
}

// query runs an instant query.
func (p *server) query(expr string) ([]sample, error) {
	var data struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := p.get("/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	var all []sample
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, sample{r.Metric, value})
	}
	return all, nil
}

// await waits until a query returns something.
func (p *server) await(expr string) {
	p.t.Helper()
	if found, err := p.wait(expr, patience); err != nil || len(found) == 0 {
		p.t.Fatalf("Prometheus has nothing for %s (%v)", expr, err)
	}
}

// answer is how long a query may have no data: a scrape that takes too long on a busy
// machine makes series end until the next one.
const answer = 5 * time.Second

// wait runs a query until it returns something, for as long as that may take, and returns
// its last answer.
func (p *server) wait(expr string, most time.Duration) ([]sample, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), most)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := p.query(expr)
		if len(found) > 0 {
			return found, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}
