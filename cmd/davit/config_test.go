package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"davit/internal/app/settings"
)

// configuredCommands are the commands that have a configuration file, with the file that documents it.
func configuredCommands() map[string]struct {
	cmd  *cobra.Command
	set  *settings.Set
	file string
} {
	serve, bridge := &cobra.Command{}, &cobra.Command{}
	var s serveSettings
	s.addTo(serve)
	var b bridgeSettings
	b.addTo(bridge)
	return map[string]struct {
		cmd  *cobra.Command
		set  *settings.Set
		file string
	}{
		forServe:  {serve, serveSet(serve), "../../docs/serve.yaml"},
		forBridge: {bridge, b.set(bridge), "../../docs/bridge.yaml"},
	}
}

// Every flag of serve and of bridge is a setting of its file, a variable, and documented in the reference file.
func TestEveryFlagIsASetting(t *testing.T) {
	for name, c := range configuredCommands() {
		text, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		real, _, err := tree().Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		names := c.set.Names()
		real.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Name == "config" {
				return
			}
			key := f.Name
			if other, ok := bridgeKeys()[key]; ok && name == forBridge {
				key = other
			}
			if !slices.Contains(names, key) {
				t.Errorf("davit %s: --%s is no setting", name, f.Name)
			}
			if !regexp.MustCompile(`(?m)^#?` + key + `:`).Match(text) {
				t.Errorf("%s has no %s", c.file, key)
			}
			if _, err := c.set.Environment([]string{settings.Variable(key) + "=" + sample(f)}); err != nil || c.set.Source(key).Kind != settings.Environment {
				t.Errorf("davit %s: %s gives %v: %v", name, settings.Variable(key), c.set.Source(key), err)
			}
			if regexp.MustCompile(`\b(file|folder)\b`).MatchString(f.Usage) && f.Annotations[settings.PathAnnotation] == nil && !strings.Contains(f.Usage, "here, in the environment or in the file)") && key != "rotate-password" {
				t.Errorf("davit %s: --%s seems to be the name of a file and is not marked as one", name, f.Name)
			}
		})
	}
}

// sample is a value that a flag takes.
func sample(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int", "int64", "N", "SIZE":
		return "7"
	case "float64":
		return "0.5"
	case "bool":
		return "off"
	case "duration":
		return "7s"
	case "DAY":
		return "2026-11-27"
	case "AGE":
		return "7d"
	}
	return "x"
}

// Files of the program take what is commented out, too: a line that begins with # and a key.
func TestReferenceFileOfServe(t *testing.T) {
	const name = "../../docs/serve.yaml"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	n, needed, err := checkServeFile(name)
	if err != nil || needed != nil || n < 30 {
		t.Errorf("%d settings; %v, %v", n, needed, err)
	}
	cmd := &cobra.Command{}
	var s serveSettings
	s.addTo(cmd)
	set := serveSet(cmd)
	if err := set.Parse(name, serveExample, regexp.MustCompile(`(?m)^#([a-z-]+:|  - )`).ReplaceAll(text, []byte("$1"))); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Names() {
		if set.Source(key).Kind != settings.File {
			t.Errorf("%s is not in it", key)
		}
	}
	if s.opts.External.PasswordFile != "../../docs/broker.password" || s.opts.TLSCert != "../../docs/tls/server.pem" || s.opts.Data != "/var/lib/davit" || len(s.opts.OIDC.Roles) != 2 {
		t.Errorf("read %+v", s.opts)
	}
}

// The defaults that the reference file tells are those of the flags.
func TestDefaultsInTheReferenceFile(t *testing.T) {
	c := configuredCommands()[forServe]
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	var comment string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "# "); ok {
			comment += strings.TrimSpace(rest) + " "
			continue
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(line, "#"), ":")
		if f := c.cmd.Flags().Lookup(key); f != nil && !slices.Contains([]string{"", "0", "[]"}, f.DefValue) {
			if !regexp.MustCompile(`Defaults?: .*` + regexp.QuoteMeta(f.DefValue) + `|Defaults: .* and ` + regexp.QuoteMeta(f.DefValue)).MatchString(comment) {
				t.Errorf("the comment of %s does not tell its default, %s: %s", key, f.DefValue, comment)
			}
		}
		if strings.TrimSpace(line) == "" {
			comment = ""
		}
	}
}

// What docs/configuration.md shows is what the program says.
func TestConfigurationDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("../../docs/serve.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	mistakes := between(t, string(text), "$ cat mistakes.yaml\n", "$ ")
	for name, content := range map[string]string{"serve.yaml": string(reference), "mistakes.yaml": mistakes} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		command string
		environ []string
	}{{"davit config check mistakes.yaml", nil}, {"davit config print serve --config serve.yaml --connect-rate 20", []string{"DAVIT_MESSAGE_RATE=50"}}} {
		var out strings.Builder
		p := &program{streams: streams{in: strings.NewReader(""), out: &out, err: &out}, environ: c.environ}
		root := p.root()
		root.SetArgs(strings.Fields(c.command)[1:])
		p.exitCode(root.Execute())
		rest := out.String()
		for line := range strings.Lines(between(t, string(text), c.command+"\n", "```\n")) {
			line = strings.TrimSpace(line)
			if line == "..." {
				continue
			}
			_, after, found := strings.Cut(rest, line+"\n")
			if !found {
				t.Errorf("%s does not say, or not there, %q:\n%s", c.command, line, out.String())
				continue
			}
			rest = after
		}
	}
}

// between is the part of a text behind a first and before a second piece of it.
func between(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, text, found := strings.Cut(text, begin)
	part, _, ended := strings.Cut(text, end)
	if !found || !ended {
		t.Fatalf("nothing stands between %q and %q", begin, end)
	}
	return part
}
