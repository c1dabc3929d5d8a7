package arch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

type composeService struct {
	Build       string            `yaml:"build"`
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Environment map[string]string `yaml:"environment"`
	ReadOnly    bool              `yaml:"read_only"`
	Profiles    []string          `yaml:"profiles"`
	SecurityOpt []string          `yaml:"security_opt"`
	CapDrop     []string          `yaml:"cap_drop"`
	Tmpfs       []string          `yaml:"tmpfs"`
	Healthcheck struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		StartPeriod string   `yaml:"start_period"`
		Disable     bool     `yaml:"disable"`
	} `yaml:"healthcheck"`
	Restart   string `yaml:"restart"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
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
	// Settings are variables, which flags would win over. The compose file is a lab's, with passwords; the image by itself takes none from elsewhere.
	settings := environment(t, dockerfile)
	if cmd := execForm(t, dockerfile, "CMD"); !slices.Equal(cmd, []string{"serve"}) || davit.Command != nil {
		t.Errorf("the Dockerfile runs %q, docker-compose.yml %q; want settings as variables", cmd, davit.Command)
	}
	if settings["DAVIT_PASSWORDS"] != "" || davit.Environment["DAVIT_PASSWORDS"] != "on" {
		t.Error("the image takes passwords from elsewhere, or the compose file does not")
	}
	maps.Copy(settings, davit.Environment)
	if user := directive(t, dockerfile, "USER"); strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the container runs as %s", user)
	}

	for _, port := range []string{settings["DAVIT_MQTT"], settings["DAVIT_HTTP"]} {
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
	data := settings["DAVIT_DATA"]
	if !slices.ContainsFunc(davit.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+data) }) {
		t.Errorf("the data folder %s is on no volume: %v", data, davit.Volumes)
	}
	if directive(t, dockerfile, "VOLUME") != data {
		t.Errorf("the Dockerfile's volume is not %s", data)
	}
	checkScrapeTarget(t, scrape, settings["DAVIT_HTTP"])
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
		if !s.ReadOnly || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s may write to its image, or gain privileges", name)
		}
		if s.Build == "" && len(s.Healthcheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
	}

	runAsContainer(t, settings, execForm(t, dockerfile, "HEALTHCHECK"), c.Services["rack"], scrape.ScrapeConfigs[0].MetricsPath)
}

// environment reads the variables of the Dockerfile's ENV line.
func environment(t *testing.T, dockerfile string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for word := range strings.FieldsSeq(directive(t, dockerfile, "ENV")) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			t.Fatalf("ENV has %q without a value", word)
		}
		values[name] = value
	}
	return values
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

// runAsContainer runs the service and the health check as the container would, and then the simulated rack.
func runAsContainer(t *testing.T, settings map[string]string, health []string, rack composeService, metricsPath string) {
	t.Helper()
	binary := davit(t)
	data := t.TempDir()
	environ := os.Environ()
	for name, value := range settings {
		switch name {
		case "DAVIT_DATA":
			value = data
		case "DAVIT_MQTT", "DAVIT_HTTP":
			value = "127.0.0.1:0"
		}
		environ = append(environ, name+"="+value)
	}
	args := []string{"serve"}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environ
	log, err := os.Create(filepath.Join(t.TempDir(), "log")) // a file may be read while the program writes it
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	logged := func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	cmd.Stderr = log
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
			t.Errorf("davit %v: %v\n%s", args, err, logged())
		}
	}()
	var ready struct{ HTTP, MQTT string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, logged())
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("ready line %q: %v", line, err)
	}

	url := "http://" + ready.HTTP
	environ = append(environ, "DAVIT_SERVER="+url)
	check := exec.CommandContext(ctx, binary, health[1:]...)
	check.Env = environ
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("health check %v: %v\n%s", health, err, out)
	}
	if err := get(ctx, url+metricsPath, "davit_"); err != nil {
		t.Error(err)
	}
	if strings.Contains(logged(), "has no effect") {
		t.Errorf("a variable of the image has no effect:\n%s", logged())
	}
	// The rack stays for ever and brings an image to its MCUs, which take ten seconds to boot; here it only connects.
	command := slices.Clone(rack.Command[:2])
	for flag := range slices.Chunk(rack.Command[2:], 2) {
		switch flag[0] {
		case "--data":
			command = append(command, flag[0], data)
		case "--broker":
			command = append(command, flag[0], ready.MQTT)
		case "--hold":
			command = append(command, flag[0], "10ms")
		case "--push":
		default:
			command = append(command, flag...)
		}
	}
	fleet := exec.CommandContext(ctx, binary, command...)
	fleet.Env = environ
	if out, err := fleet.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("10 online in the end")) {
		t.Errorf("davit %v: %v\n%s", command, err, out)
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
