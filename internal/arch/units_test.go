package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"davit/bridge"
)

// unitNames are the units of deploy/systemd, each with the most that systemd-analyze security may say of it, of ten.
var unitNames = map[string]float64{"davit.service": 1.2, "davit-bridge.service": 1.5}

// unit is what a unit file says: the values of each directive in their order.
type unit map[string][]string

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(string(readFile(t, "deploy/systemd/"+name))) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Fatalf("%s is there %d times, want once: %q", key, len(u[key]), u[key])
	}
	return u[key][0]
}

// TestUnitsFitTheProgram holds the units against the files beside them and against the program: their command lines,
// the configuration that is shipped, folders, user, time to end.
func TestUnitsFitTheProgram(t *testing.T) {
	folders := string(readFile(t, "deploy/systemd/tmpfiles.conf"))
	users := string(readFile(t, "deploy/systemd/sysusers.conf"))
	for name := range unitNames {
		t.Run(name, func(t *testing.T) {
			u := readUnit(t, name)
			command := strings.Fields(u.one(t, "ExecStart"))
			config, ok := strings.CutPrefix(command[len(command)-1], "/etc/davit/")
			if command[0] != "/usr/bin/davit" || command[len(command)-2] != "--config" || !ok {
				t.Fatalf("the unit runs %q", command)
			}
			out, err := exec.Command(davit(t), "config", "check", "--for", command[1], root+"/deploy/systemd/"+config).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", config, err, out)
			}
			var shipped struct {
				Data         string `yaml:"data"`
				PasswordFile string `yaml:"password-file"`
			}
			readYAML(t, "deploy/systemd/"+config, &shipped)
			state := "/var/lib/" + u.one(t, "StateDirectory")
			if shipped.Data != state {
				t.Errorf("the unit may write to %s, the data folder of %s is %s", state, config, shipped.Data)
			}
			if p := shipped.PasswordFile; p != "" && filepath.Dir(p) != state {
				t.Errorf("the password in %s is renewed where the unit may not write", p)
			}
			if want := "d " + state + " " + u.one(t, "StateDirectoryMode") + " " + u.one(t, "User") + " " + u.one(t, "Group") + " -\n"; !strings.Contains(folders, want) {
				t.Errorf("tmpfiles.conf has no line %q", want)
			}
			if !strings.Contains(users, "\nu "+u.one(t, "User")+" ") {
				t.Errorf("sysusers.conf makes no user %s", u.one(t, "User"))
			}
			stop, err := time.ParseDuration(u.one(t, "TimeoutStopSec"))
			if err != nil {
				t.Fatal(err)
			}
			if command[1] == "bridge" && stop < 2*bridge.DefaultDrainTimeout {
				t.Errorf("the bridge is killed after %s, and may take %s to end what is under way", stop, bridge.DefaultDrainTimeout)
			}
		})
	}
}

// TestUnitsAreVerified: systemd finds nothing wrong with the units, and what it says of their exposure is at most
// what docs/install.md says.
func TestUnitsAreVerified(t *testing.T) {
	analyze := program(t, "systemd-analyze", "systemd")
	document := string(readFile(t, "docs/install.md"))
	exposure := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`)
	folder := t.TempDir()
	for name, most := range unitNames {
		text := strings.ReplaceAll(string(readFile(t, "deploy/systemd/"+name)), "/usr/bin/davit", davit(t))
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// It looks at units that this one wants, too; what it has to say of those is not ours.
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		out, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", file).CombinedOutput()
		found := exposure.FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
		got, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil || got > most {
			t.Errorf("the exposure of %s is %s, more than %v", name, found[1], most)
		}
		if row := "| `" + name + "` | " + strconv.FormatFloat(most, 'f', 1, 64) + " |"; !strings.Contains(document, row) {
			t.Errorf("docs/install.md has no row %q", row)
		}
	}
}

// TestSerialRules: the rules of udev speak of each kind of port that the bridge's unit allows, and have the form that
// udev reads: comparisons and assignments that it knows, and labels that are there.
func TestSerialRules(t *testing.T) {
	rules := string(readFile(t, "deploy/systemd/70-davit-serial.rules"))
	for _, allowed := range readUnit(t, "davit-bridge.service")["DeviceAllow"] {
		kind := strings.TrimSuffix(strings.TrimPrefix(allowed, "char-"), " rw")
		if !regexp.MustCompile(`[|"]` + kind + `(\[0-9\])?\*`).MatchString(rules) {
			t.Errorf("no rule gives the ports %s to dialout", kind)
		}
	}
	term := regexp.MustCompile(`^(ACTION|SUBSYSTEM|KERNEL|DRIVERS?|TEST|GROUP|MODE|GOTO|LABEL|(ATTR|ENV)\{[A-Za-z_]+\})(==|!=|=)"[^"]+"$`)
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, t2 := range strings.Split(line, ", ") {
			if !term.MatchString(t2) {
				t.Errorf("%s is no term of a rule: %s", t2, line)
			}
		}
		if _, label, ok := strings.Cut(line, `GOTO="`); ok && !slices.Contains(strings.Split(rules, "\n"), `LABEL="`+label) {
			t.Errorf("no label for %s", line)
		}
	}
}
