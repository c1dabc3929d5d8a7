package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"davit/internal/app/yamlfile"
	"davit/internal/signtest"
)

// command is a command with a flag of each kind.
type command struct {
	flags *pflag.FlagSet
	name  string
	file  string
	n     int
	big   int64
	on    bool
	wait  time.Duration
	list  []string
	keys  []string
	conf  string
}

func newCommand(t testing.TB, args ...string) *command {
	t.Helper()
	c := &command{flags: pflag.NewFlagSet("x", pflag.ContinueOnError)}
	c.flags.StringVar(&c.name, "name", "default name", "")
	c.flags.StringVar(&c.file, "file", "", "")
	c.flags.IntVar(&c.n, "max-in-progress", 7, "")
	c.flags.Int64Var(&c.big, "big", 0, "")
	c.flags.BoolVar(&c.on, "verify", true, "")
	c.flags.DurationVar(&c.wait, "wait", time.Minute, "")
	c.flags.StringArrayVar(&c.list, "item", nil, "")
	c.flags.StringArrayVar(&c.keys, "key", nil, "")
	c.flags.StringVar(&c.conf, "config", "", "")
	c.flags.Bool("help", false, "")
	for flag, kind := range map[string]string{"file": PathOnly, "key": PathOrKey} {
		if err := c.flags.SetAnnotation(flag, PathAnnotation, []string{kind}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *command) set() *Set {
	s := New("davit x", c.flags, map[string]string{"item": "items"}, "help")
	s.Elsewhere = map[string]string{"record": "davit y"}
	return s
}

// A flag wins over the environment, that over the file, that over the default: of each setting, whatever the others are.
func TestPrecedence(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var args, environ []string
		file := "{"
		type given struct{ flag, env, file bool }
		all := map[string]given{}
		for _, name := range []string{"name", "max-in-progress", "wait", "items"} {
			g := given{rapid.Bool().Draw(r, name+" flag"), rapid.Bool().Draw(r, name+" env"), rapid.Bool().Draw(r, name+" file")}
			all[name] = g
			v := map[string][3]string{"name": {"f", "e", "y"}, "max-in-progress": {"1", "2", "3"}, "wait": {"1s", "2s", "3s"}, "items": {"f", "e", "[y]"}}[name]
			if g.flag {
				args = append(args, "--"+strings.Replace(name, "items", "item", 1)+"="+v[0])
			}
			if g.env {
				environ = append(environ, Variable(name)+"="+v[1])
			}
			if g.file {
				file += name + ": " + v[2] + ", "
			}
		}
		c := newCommand(t, args...)
		s := c.set()
		if warnings, err := s.Environment(environ); err != nil || len(warnings) > 0 {
			r.Fatalf("%v, %v", warnings, err)
		}
		if err := s.Parse("f.yaml", "", []byte(file+"file: p}")); err != nil {
			r.Fatal(err)
		}
		for name, g := range all {
			want, value := Default, map[string]any{"name": "default name", "max-in-progress": 7, "wait": time.Minute, "items": ""}
			switch {
			case g.flag:
				want, value = Flag, map[string]any{"name": "f", "max-in-progress": 1, "wait": time.Second, "items": "f"}
			case g.env:
				want, value = Environment, map[string]any{"name": "e", "max-in-progress": 2, "wait": 2 * time.Second, "items": "e"}
			case g.file:
				want, value = File, map[string]any{"name": "y", "max-in-progress": 3, "wait": 3 * time.Second, "items": "y"}
			}
			got := map[string]any{"name": c.name, "max-in-progress": c.n, "wait": c.wait, "items": strings.Join(c.list, " ")}[name]
			if got != value[name] || s.Source(name).Kind != want {
				r.Errorf("%s (%+v): %v from %v, want %v from kind %d", name, g, got, s.Source(name), value[name], want)
			}
		}
	})
}

// What a variable may look like, and what is said of those that cannot be used.
func TestVariables(t *testing.T) {
	for _, tt := range []struct {
		name, variable string
		want           func(*command) any
		value          any
	}{
		{"text", "DAVIT_NAME=a b", func(c *command) any { return c.name }, "a b"},
		{"empty is not set", "DAVIT_NAME=", func(c *command) any { return c.name }, "default name"},
		{"a list", "DAVIT_ITEMS= a \"b c\"\td=\"e\" \n\"\" ", func(c *command) any { return c.list }, []string{"a", "b c", `d="e"`, ""}},
		{"off", "DAVIT_VERIFY=off", func(c *command) any { return c.on }, false},
		{"false", "DAVIT_VERIFY=False", func(c *command) any { return c.on }, false},
		{"0", "DAVIT_VERIFY=0", func(c *command) any { return c.on }, false},
		{"a path goes from the working folder", "DAVIT_FILE=p", func(c *command) any { return c.file }, "p"},
		{"the file itself", "DAVIT_CONFIG=c.yaml", func(c *command) any { return c.conf }, "c.yaml"},
	} {
		c := newCommand(t)
		warnings, err := c.set().Environment([]string{"PATH=/bin", tt.variable})
		if got := tt.want(c); err != nil || len(warnings) > 0 || !reflect.DeepEqual(got, tt.value) {
			t.Errorf("%s: %#v, %v, %v", tt.name, got, warnings, err)
		}
	}
	for _, tt := range [][2]string{
		{"DAVIT_MAX_IN_PROGRESS=many", "DAVIT_MAX_IN_PROGRESS is many; write a whole number"},
		{"DAVIT_MAX_IN_PROGRESS=1.5", "DAVIT_MAX_IN_PROGRESS is 1.5; write a whole number"},
		{"DAVIT_BIG=9223372036854775808", "DAVIT_BIG is 9223372036854775808; that is more than a number can be here"},
		{"DAVIT_VERIFY=maybe", "DAVIT_VERIFY is maybe; write on or off"},
		{"DAVIT_WAIT=90", "DAVIT_WAIT is 90; write a time such as 90s or 2m"},
		{"DAVIT_ITEMS=a \"b", `DAVIT_ITEMS has a double quote that does not end a value; write values with white space between them, such as a b "c d"`},
		{"DAVIT_ITEMS=\"a\"b", `DAVIT_ITEMS has a double quote that does not end a value; write values with white space between them, such as a b "c d"`},
	} {
		if _, err := newCommand(t).set().Environment([]string{tt[0]}); err == nil || err.Error() != tt[1] {
			t.Errorf("%s: %v, want %s", tt[0], err, tt[1])
		}
	}
	if _, err := newCommand(t).set().Environment([]string{"DAVIT_BIG=x", "DAVIT_WAIT=y"}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two mistakes: %v", err)
	}
}

// A variable that is no setting is pointed out, unless it is known to be for something else. Its value is not shown.
func TestUnknownVariables(t *testing.T) {
	const secret = "hunter2"
	for variable, want := range map[string]string{
		"DAVIT_MAX_PROGRESS":                 "the environment variable DAVIT_MAX_PROGRESS names no setting of davit x; did you mean DAVIT_MAX_IN_PROGRESS?",
		"DAVIT_max_in_progress":              "the environment variable DAVIT_max_in_progress names no setting of davit x; did you mean DAVIT_MAX_IN_PROGRESS?",
		"DAVIT_ITEM":                         "the environment variable DAVIT_ITEM names no setting of davit x; did you mean DAVIT_ITEMS?",
		"DAVIT_PASSWORD":                     "the environment variable DAVIT_PASSWORD names no setting of davit x",
		"DAVIT_RECORD":                       "the environment variable DAVIT_RECORD is a setting of davit y; davit x takes no notice of it",
		"DAVIT_HELP":                         "the environment variable DAVIT_HELP names no setting of davit x",
		"DAVIT_TOKEN":                        "",
		"DAVIT_SERVER":                       "",
		"DAVIT_TEST_FULL":                    "",
		"DAVIT_SERVICE_HOST":                 "",
		"DAVIT_SERVICE_PORT_MQTT":            "",
		"DAVIT_PORT_1883_TCP_ADDR":           "",
		"OTHER":                              "",
		"DAVIT_PORT=tcp://10.0.0.1:1883":     "",
		"DAVIT_PORT=pump=/dev/ttyUSB0,baud=": "the environment variable DAVIT_PORT names no setting of davit x",
	} {
		if !strings.Contains(variable, "=") {
			variable += "=" + secret
		}
		got, err := newCommand(t).set().Environment([]string{variable})
		if err != nil || strings.Join(got, "\n") != want {
			t.Errorf("%s: %q, %v", variable, got, err)
		}
	}
}

func TestFileMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", ": the file is empty; see x"},
		{"half a file", "{name: a, file: ", ":1:15: this is not YAML: could not find map value"},
		{"half a quote", "name: \"a\nfile: b", ":1:7: this is not YAML: could not find end character of double-quoted text"},
		{"tabs", "name: a\n\tfile: b\n", ":2:1: this is not YAML: a tab cannot stand here; indent with spaces"},
		{"a list", "- name\n", ":1:1: this is a list; the file has to begin with a setting such as data: FOLDER; see x"},
		{"unknown", "max-progress: 1\n", ":1:1: max-progress is not known; did you mean max-in-progress?"},
		{"underscores", "max_in_progress: 1\n", ":1:1: max_in_progress is not known; did you mean max-in-progress?"},
		{"the flag's name", "item: [a]\n", ":1:1: item is not known; did you mean items?"},
		{"of another command", "record: r\n", ":1:1: record is a setting of davit y, and this is a file of davit x; take it out"},
		{"the file itself", "config: c\n", ":1:1: config is for the command line and the environment only; take the line out"},
		{"help", "help: true\n", ":1:1: help is not known; there are big, file, items, key, max-in-progress, name, verify, wait"},
		{"twice", "name: a\nname: b\n", ":2:1: name stands twice, first in line 1; take one of them out"},
		{"no value", "name:\n", ":1:1: name has no value; give it one, or take the line out"},
		{"a number for text", "name: 12\n", `:1:7: name is a number; put it in quotes: name: "12"`},
		{"text for a number", "max-in-progress: many\n", ":1:18: max-in-progress is text; write a whole number, without quotes"},
		{"a fraction", "max-in-progress: 1.5\n", ":1:18: max-in-progress is a number; write a whole number, without quotes"},
		{"too large a number", "big: 9223372036854775808\n", ":1:6: big is 9223372036854775808; that is more than a number can be here"},
		{"no switch", "verify: maybe\n", ":1:9: verify is maybe; write on or off"},
		{"no unit", "wait: 90\n", ":1:7: wait is a number without a unit; write a time such as 90s or 2m"},
		{"no time", "wait: soon\n", ":1:7: wait is soon; write a time such as 90s or 2m"},
		{"one value for a list", "items: a\n", ":1:8: items is text; write a list, where each entry begins with -"},
		{"a group in a list", "items:\n  - a: b\n", ":2:5: items is a group of settings; write one value behind the colon"},
		{"several", "nam: a\nwait: x\nbig: y\n", ":1:1: nam is not known; did you mean name?\nf.yaml:2:7: wait is x; write a time such as 90s or 2m\nf.yaml:3:6: big is text; write a whole number, without quotes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := newCommand(t).set().Parse("f.yaml", "see x", []byte(tt.file))
			var bad *yamlfile.Error
			if !errors.As(err, &bad) || err.Error() != "f.yaml"+tt.want {
				t.Errorf("says %v\nwant f.yaml%s", err, tt.want)
			}
		})
	}
}

// Names of files go from the file's folder on; a key that is written out is none. Quotes with nothing turn a default off.
func TestFileForms(t *testing.T) {
	key := signtest.Key(t).Public().String()
	c := newCommand(t)
	err := c.set().Parse("conf/x.yaml", "", []byte("name: ''\nfile: p\nkey: [a.pub, /b.pub, \""+key+"\"]\nverify: false\nitems: []\nbig: 5\n"))
	want := []string{"conf/a.pub", "/b.pub", key}
	if err != nil || c.name != "" || c.file != "conf/p" || !slices.Equal(c.keys, want) || c.on || len(c.list) != 0 || c.big != 5 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		dir:                           "is a directory; name the configuration file in it",
		filepath.Join(dir, "missing"): "the configuration file cannot be read: no such file or directory",
		"/dev/null":                   "is not a regular file; it has to be one, so that it can be read again",
	} {
		if err := newCommand(t).set().File(name, ""); err == nil || err.Error() != name+": "+want {
			t.Errorf("%s: %v", name, err)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("name: a\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := newCommand(t).set().File(secret, ""); os.Geteuid() != 0 && (err == nil || !strings.HasSuffix(err.Error(), "permission denied")) {
		t.Errorf("unreadable: %v", err)
	}
}

// An error about settings says where the first of them was given that was.
func TestLocate(t *testing.T) {
	c := newCommand(t, "--wait=5s")
	s := c.set()
	if _, err := s.Environment([]string{"DAVIT_BIG=5"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Parse("f.yaml", "", []byte("max-in-progress: 5\nitems: [a]\n")); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"--max-in-progress is 5":           "f.yaml:1:1: max-in-progress is 5",
		"--max-in-progress: it is 5":       "f.yaml:1:1: max-in-progress: it is 5",
		"--name needs --max-in-progress":   "f.yaml:1:1: name needs max-in-progress",
		"--item is a":                      "f.yaml:2:1: item is a",
		"--it* need --name":                "--it* need --name",
		"--max-* need --name":              "f.yaml:1:1: max-* need name",
		"--wait and --max-in-progress":     "--wait and --max-in-progress",
		"--big and --max-in-progress":      "DAVIT_BIG: --big and --max-in-progress",
		"nothing is named":                 "nothing is named",
		"--name and --other stand for all": "--name and --other stand for all",
	} {
		if got := s.Locate(errors.New(text)); got.Error() != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if s.Locate(nil) != nil {
		t.Error("an error of nothing")
	}
}

// What is printed can be read again and says the same, and no password is in it.
func TestPrintedIsAFile(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringMatching(`[ -?A-~äß]{1,20}`) // without @: in a URL a password would be in front of it
		c := newCommand(t)
		s := c.set()
		values := map[string]Value{}
		for name, texts := range map[string][]string{
			"name": {text.Draw(r, "name")}, "items": rapid.SliceOfN(text, 1, 3).Draw(r, "items"), "max-in-progress": {"5"}, "verify": {"off"}, "wait": {"90s"}, "file": {"/" + rapid.StringMatching(`[a-z :#]{0,9}`).Draw(r, "file") + "x"},
		} {
			values[name] = Value{Texts: texts, Place: yamlfile.Place{Line: 1}}
			if err := s.Apply(name, "g.yaml", values[name]); err != nil {
				r.Fatal(err)
			}
		}
		var b strings.Builder
		if err := WriteYAML(&b, s.Effective()); err != nil {
			r.Fatal(err)
		}
		again := newCommand(t)
		if err := again.set().Parse("/f.yaml", "", []byte(b.String())); err != nil {
			r.Fatalf("%v\n%s", err, b.String())
		}
		c.flags, again.flags = nil, nil
		if !reflect.DeepEqual(c, again) {
			r.Errorf("%+v, want %+v\n%s", again, c, b.String())
		}
	})
	c := newCommand(t, "--name=mqtt://u:hunter2@h", "--item=https://u:hunter2@h/")
	for _, e := range c.set().Effective() {
		if strings.Contains(strings.Join(e.Texts, " "), "hunter2") {
			t.Errorf("%s: %q", e.Name, e.Texts)
		}
	}
}

// FuzzParse: whatever is in a file, it is taken or refused in words that can be printed, each mistake with a line that there is.
func FuzzParse(f *testing.F) {
	reference, err := os.ReadFile("../../../docs/serve.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reference)
	for _, s := range []string{"", "name: a\nwait: 5s\n", "{items: [a, 'b'], key: [c]}", "items: {a: b}", "verify: on", "big: 0x7f", "name: |\n a", "file: ''", "max-in-progress: -1", "a: &b c", "\t"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		err := newCommand(t).set().Parse("f", "see x", content)
		if err == nil {
			return
		}
		var bad *yamlfile.Error
		if !errors.As(err, &bad) || len(bad.Problems) == 0 {
			t.Fatalf("error %v", err)
		}
		lines := strings.Count(string(content), "\n") + 1
		for _, p := range bad.Problems {
			if s := p.String(); p.Line < 0 || p.Line > lines+1 || s == "" || len(s) > 4096 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Errorf("line %d of %d: %q", p.Line, lines, s)
			}
		}
	})
}
