package arch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// compose is what this test reads of docker-compose.yml; unknown keys are
// refused, so a misspelt one does not pass unseen.
type compose struct {
	Services map[string]struct {
		Build       string            `yaml:"build"`
		Image       string            `yaml:"image"`
		Command     []string          `yaml:"command"`
		Ports       []string          `yaml:"ports"`
		Volumes     []string          `yaml:"volumes"`
		Environment map[string]string `yaml:"environment"`
		ReadOnly    bool              `yaml:"read_only"`
		Restart     string            `yaml:"restart"`
		DependsOn   map[string]struct {
			Condition string `yaml:"condition"`
		} `yaml:"depends_on"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

type scrapeConfig struct {
	ScrapeConfigs []struct {
		MetricsPath   string `yaml:"metrics_path"`
		StaticConfigs []struct {
			Targets []string `yaml:"targets"`
		} `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readYAML(t *testing.T, name string, into any, opts ...yaml.DecodeOption) {
	t.Helper()
	if err := yaml.UnmarshalWithOptions(readFile(t, name), into, opts...); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestContainersRunWhatTheProgramHas starts the program with the compose
// file's own command (with other addresses and folder), asks it what the
// health check and the scrape configuration ask, and holds ports, paths and
// volumes of the three files against one another.
func TestContainersRunWhatTheProgramHas(t *testing.T) {
	var c compose
	readYAML(t, "docker-compose.yml", &c, yaml.Strict())
	var scrape scrapeConfig
	readYAML(t, "deploy/prometheus/prometheus.yml", &scrape)
	davit := c.Services["davit"]

	dockerfile := string(readFile(t, "Dockerfile"))
	// The compose file is a lab's, with passwords; the image by itself takes none from elsewhere.
	if cmd := append(execForm(t, dockerfile, "CMD"), "--passwords", "on"); !slices.Equal(cmd, davit.Command) {
		t.Errorf("Dockerfile runs %q but for the passwords, docker-compose.yml %q", cmd, davit.Command)
	}
	if user := directive(t, dockerfile, "USER"); strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the container runs as %s", user)
	}

	flags := flagValues(t, davit.Command)
	for _, port := range []string{flags["--mqtt"], flags["--http"]} {
		_, number, err := net.SplitHostPort(port)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(davit.Ports, number+":"+number) {
			t.Errorf("port %s is not published: %v", number, davit.Ports)
		}
		if !strings.Contains(directive(t, dockerfile, "EXPOSE"), number) {
			t.Errorf("port %s is not exposed by the Dockerfile", number)
		}
	}
	data := flags["--data"]
	if !slices.ContainsFunc(davit.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+data) }) {
		t.Errorf("the data folder %s is on no volume: %v", data, davit.Volumes)
	}
	if directive(t, dockerfile, "VOLUME") != data {
		t.Errorf("the Dockerfile's volume is not %s", data)
	}
	checkScrapeTarget(t, scrape, flags["--http"])
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, err := os.Stat(filepath.Join(root, from)); strings.HasPrefix(from, "./") && err != nil {
				t.Errorf("%s mounts %s: %v", name, from, err)
			}
			if _, named := c.Volumes[from]; !strings.HasPrefix(from, "./") && !named {
				t.Errorf("%s uses the volume %s, which is not among the volumes", name, from)
			}
		}
		if _, tag, pinned := strings.Cut(s.Image, ":"); s.Build == "" && (!pinned || tag == "latest") {
			t.Errorf("%s is the image %q, without a version", name, s.Image)
		}
	}

	runAsContainer(t, davit.Command, execForm(t, dockerfile, "HEALTHCHECK"), scrape.ScrapeConfigs[0].MetricsPath)
}

func checkScrapeTarget(t *testing.T, scrape scrapeConfig, http string) {
	t.Helper()
	_, port, err := net.SplitHostPort(http)
	if err != nil {
		t.Fatal(err)
	}
	if len(scrape.ScrapeConfigs) != 2 || !slices.Contains(scrape.ScrapeConfigs[0].StaticConfigs[0].Targets, "davit:"+port) {
		t.Errorf("deploy/prometheus/prometheus.yml does not scrape davit:%s and bridges", port)
	}
}

// runAsContainer runs the command and the health check as the container would.
func runAsContainer(t *testing.T, command, health []string, metricsPath string) {
	t.Helper()
	binary := davit(t)
	args := slices.Clone(command)
	for i, a := range args {
		switch a {
		case "--data":
			args[i+1] = t.TempDir()
		case "--mqtt", "--http":
			args[i+1] = "127.0.0.1:0"
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("davit %v: %v\n%s", args, err, log.String())
		}
	}()
	var ready struct{ HTTP string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, log.String())
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("ready line %q: %v", line, err)
	}

	url := "http://" + ready.HTTP
	check := slices.Clone(health)
	for i, a := range check {
		if strings.HasPrefix(a, "http://") {
			check[i] = url
		}
	}
	if out, err := exec.CommandContext(ctx, binary, check[1:]...).CombinedOutput(); err != nil {
		t.Errorf("health check %v: %v\n%s", check, err, out)
	}
	if err := get(ctx, url+metricsPath, "davit_"); err != nil {
		t.Error(err)
	}
}

func get(ctx context.Context, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("GET %s: %s, without %q", url, resp.Status, want)
	}
	return nil
}

// directive returns what follows the last line of the Dockerfile that begins
// with name.
func directive(t *testing.T, dockerfile, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+name+` (.*)$`).FindAllStringSubmatch(dockerfile, -1)
	if len(found) == 0 {
		t.Fatalf("the Dockerfile has no %s", name)
	}
	return found[len(found)-1][1]
}

// execForm reads the JSON array that ends a CMD or HEALTHCHECK line.
func execForm(t *testing.T, dockerfile, name string) []string {
	t.Helper()
	text := directive(t, dockerfile, name)
	var args []string
	if err := json.Unmarshal([]byte(text[strings.Index(text, "["):]), &args); err != nil {
		t.Fatalf("%s %s: %v", name, text, err)
	}
	return args
}

func flagValues(t *testing.T, args []string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for i, a := range args {
		if strings.HasPrefix(a, "--") {
			if i+1 == len(args) {
				t.Fatalf("%s has no value", a)
			}
			values[a] = args[i+1]
		}
	}
	return values
}
