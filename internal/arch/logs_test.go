package arch

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var updateLogs = flag.Bool("update-logs", false, "write docs/logs.md anew")

const (
	logsFile = "docs/logs.md"
	logsRun  = "go test ./internal/arch -run TestLogsAreDocumented -update-logs"
	// vocabulary is the package that owns events, keys and parts.
	vocabulary = "internal/logevent"
)

// loggerName is what a variable or field that holds a logger is called, so that
// calls of its methods are found by looking at the text.
var loggerName = regexp.MustCompile(`^([lL]og|[lL]ogger)$`)

// messageAt says which argument of a logger's method is the message.
var messageAt = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2,
}

// TestLogsFollowTheVocabulary: no record without an event, no key and no part
// that internal/logevent does not declare, no logger that this test would not see.
func TestLogsFollowTheVocabulary(t *testing.T) {
	s := scanLogs(t)
	for _, wrong := range s.wrong {
		t.Error(wrong)
	}
	if s.calls < 150 {
		t.Errorf("found %d log calls only: the search is broken", s.calls)
	}
	for _, g := range s.words.groups {
		for _, e := range g.events {
			if len(s.uses[e.constant]) == 0 {
				t.Errorf("%s: no log call uses it; delete it", e.constant)
			}
		}
	}
	for key := range s.words.keys {
		if !s.keys[key] {
			t.Errorf("the key %q is declared and used by no log call; delete it", key)
		}
	}
}

// TestLogsAreDocumented holds docs/logs.md against the vocabulary and the calls.
func TestLogsAreDocumented(t *testing.T) {
	want := scanLogs(t).document()
	file := filepath.Join(root, logsFile)
	if *updateLogs {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; write it anew with: %s", logsFile, logsRun)
	}
}

// TestLogScanFindsMistakes: the rules would be worth nothing if they let these pass.
func TestLogScanFindsMistakes(t *testing.T) {
	words := readWords(t)
	for name, body := range map[string]string{
		"no event":              `s.log.Info("hello", "device", d)`,
		"no event behind a key": `s.log.Info("hello", "device", logevent.DeviceConnected)`,
		"an event of its own":   `s.log.Info("hello", "event", "device.connected")`,
		"an unknown event":      `s.log.Info("hello", "event", logevent.Nonsense)`,
		"an unknown key":        `s.log.Info("hello", "event", logevent.DeviceConnected, "devise", d)`,
		"an unknown attribute":  `s.log.Info("hello", "event", logevent.DeviceConnected, slog.String("devise", d))`,
		"a key made up":         `s.log.Info("hello", "event", logevent.DeviceConnected, "de"+d, d)`,
		"an unknown part":       `x.log = s.log.With("part", "sales")`,
		"a key of With":         `x.log = s.log.With("devise", d)`,
		"the default logger":    `slog.Info("hello", "event", logevent.DeviceConnected)`,
		"a hidden logger":       `quiet := s.log.With("device", d); quiet.Info("hello")`,
		"a hidden parameter":    `func(quiet *slog.Logger) { quiet.Info("hello") }(nil)`,
		"a record of its own":   `r := slog.NewRecord(time.Now(), slog.LevelInfo, "hello", 0); _ = r`,
		"appended":              `s.log.Info("hello", append([]any{"event", logevent.DeviceConnected, "devise", d}, more...)...)`,
	} {
		s := newLogScan(words)
		f, err := parser.ParseFile(s.fset, "mistake.go", "package x\nfunc f(s *S, d string) {\n"+body+"\n}", 0)
		if err != nil {
			t.Fatal(name, err)
		}
		s.file("mistake.go", f)
		if len(s.wrong) == 0 {
			t.Errorf("%s passes: %s", name, body)
		}
	}
}

// words is what internal/logevent declares.
type words struct {
	groups []wordGroup
	events map[string]string // names by constant
	keys   map[string]string // meanings by key
	parts  map[string]string
	order  struct{ keys, parts []string }
}

type wordGroup struct {
	title  string
	events []wordEvent
}

type wordEvent struct{ constant, name, meaning, do string }

func readWords(t *testing.T) words {
	t.Helper()
	w := words{events: map[string]string{}, keys: map[string]string{}, parts: map[string]string{}}
	files, err := filepath.Glob(filepath.Join(root, vocabulary, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				w.block(t, g)
			}
		}
	}
	return w
}

// block takes one const ( ... ) in: of events, keys or parts.
func (w *words) block(t *testing.T, g *ast.GenDecl) {
	group := wordGroup{title: strings.TrimSuffix(strings.TrimSpace(g.Doc.Text()), ".")}
	for _, spec := range g.Specs {
		v := spec.(*ast.ValueSpec)
		constant, value := v.Names[0].Name, literal(v.Values[0])
		kind, _ := v.Type.(*ast.Ident)
		text := strings.Join(strings.Fields(v.Doc.Text()+v.Comment.Text()), " ")
		switch {
		case text == "":
			t.Errorf("%s has no comment, which is its row in %s", constant, logsFile)
		case kind == nil && strings.HasPrefix(constant, "Key"):
			w.keys[value] = text
			w.order.keys = append(w.order.keys, value)
		case kind != nil && kind.Name == "Part":
			w.parts[value] = text
			w.order.parts = append(w.order.parts, value)
		case kind != nil && kind.Name == "Event":
			meaning, do, _ := strings.Cut(text, " To do: ")
			if !eventName.MatchString(value) {
				t.Errorf("%s is %q, which is not a dotted name", constant, value)
			}
			if slices.Contains(slices.Collect(maps.Values(w.events)), value) {
				t.Errorf("the event %q is declared twice", value)
			}
			w.events[constant] = value
			group.events = append(group.events, wordEvent{constant, value, meaning, do})
		}
	}
	if len(group.events) > 0 {
		w.groups = append(w.groups, group)
	}
}

var eventName = regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`)

// literal is the value of a string literal, else empty.
func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, _ := strconv.Unquote(l.Value)
		return s
	}
	return ""
}

// document is docs/logs.md.
func (s *logScan) document() string {
	var b strings.Builder
	b.WriteString("# The log\n\n" +
		"`davit serve` and `davit bridge` log to standard error: text on a terminal, else one JSON object a line (`--log-format`). `--log-level info,broker=debug`\n" +
		"says how much, for the process and for parts of it. `davit log level SPEC` changes that in a running service and `davit bridge log-level --data DIR SPEC`\n" +
		"in a running bridge, until it ends; without SPEC they show what is in force.\n\n" +
		"Every record has an `event`, whose name is stable, beside its message, which may be worded better in any release: alert on the former. The same thing is\n" +
		"under the same attribute everywhere. `request` is in the answer to an HTTP request (`X-Request-Id`, which a client may choose), in its records and in the\n" +
		"audit log; `execution` and `device` are in everything that is said of an update, on both sides. Passwords, tokens and keys are in no record.\n\n" +
		"This document is made from the calls and from `internal/logevent`, with `" + logsRun + "`.\n\n## Parts\n\n| part | what it is |\n|---|---|\n")
	for _, p := range s.words.order.parts {
		b.WriteString("| `" + p + "` | " + s.words.parts[p] + " |\n")
	}
	for _, g := range s.words.groups {
		b.WriteString("\n## " + g.title + "\n\n| event | level | attributes | what it means | what to do |\n|---|---|---|---|---|\n")
		for _, e := range g.events {
			levels, keys := map[string]bool{}, map[string]bool{}
			for _, u := range s.uses[e.constant] {
				levels[u.level] = true
				for _, k := range u.keys {
					keys[k] = true
				}
			}
			delete(keys, "event")
			b.WriteString("| `" + e.name + "` | " + strings.Join(slices.Sorted(maps.Keys(levels)), ", ") + " | " + strings.Join(slices.Sorted(maps.Keys(keys)), ", ") +
				" | " + e.meaning + " | " + e.do + " |\n")
		}
	}
	b.WriteString("\n## Attributes\n\nRecords about one device carry `device` whether the table above says so or not.\n\n| attribute | what it is |\n|---|---|\n")
	for _, k := range s.words.order.keys {
		b.WriteString("| `" + k + "` | " + s.words.keys[k] + " |\n")
	}
	return b.String()
}
