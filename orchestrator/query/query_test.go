package query_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator/query"
)

var present = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// lab is a device of which every field is set.
func lab() *query.Device {
	return &query.Device{
		ID: "lab-7", Type: "thermostat", Online: true, Module: "esp32 4.2", Dialect: "ayla",
		Labels:   map[string]string{"site": "berlin", "with-dash": "x", "empty": ""},
		Versions: map[string]string{"application": "2.9.0", "boot-loader": "1.0.0-rc.1"},
		Seen:     present.Add(-time.Hour), Hello: present.Add(-3 * time.Hour), Created: present.Add(-30 * 24 * time.Hour),
	}
}

func match(t testing.TB, text string, d *query.Device) bool {
	t.Helper()
	q, err := query.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	ok, err := q.At(present).Match(d)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return ok
}

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		`type == "thermostat" and online and label.site == "berlin" and version.application < "2.10" and seen > ago("24h") and id startsWith "lab-"`: true,
		`type == "pump"`:                        false,
		`not (type == "pump")`:                  true,
		`!online || id == "lab-7"`:              true,
		`type != "thermostat" && online`:        false,
		`online == false`:                       false,
		`label["with-dash"] == "x"`:             true,
		`label.nothing == ""`:                   true,
		`"nothing" in label`:                    false,
		`"empty" in label`:                      true,
		`"application" in version`:              true,
		`label.site in ["paris", "berlin"]`:     true,
		`label.site not in ["paris", "berlin"]`: false,
		`label.site contains "erl"`:             true,
		`label.site endsWith "lin"`:             true,
		`module startsWith "esp32"`:             true,
		`dialect == 'ayla'`:                     true,
		`id < "m" and id >= "lab-7"`:            true,
		// Versions.
		`version.application > "2.10"`:                                  false,
		`version.application >= "2.9" and version.application <= "2.9"`: true,
		`version.application == "2.9"`:                                  false,
		`version.application == "2.9.0"`:                                true,
		`"2.10" > version.application`:                                  true,
		`version["boot-loader"] < "1.0.0"`:                              true,
		`version["boot-loader"] startsWith "1."`:                        true,
		`version.application > version["boot-loader"]`:                  true,
		`version.application in ["2.9.0"]`:                              true,
		`version.nothing == ""`:                                         true,
		`version.nothing < "1"`:                                         false,
		`version.nothing > "1"`:                                         false,
		`version.nothing <= "1"`:                                        false,
		`not (version.nothing >= "1")`:                                  true,
		`version.nothing < version.application`:                         false,
		// Times.
		`seen > ago("59m")`:                          false,
		`seen >= ago("1h")`:                          true,
		`hello < ago("2h30m") and hello > ago("1d")`: true,
		`created < ago("2w")`:                        true,
		`seen < now()`:                               true,
		`seen > hello`:                               true,
	} {
		if got := match(t, text, lab()); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	// What was never seen comes before everything, and a device without any
	// label or version is no exception.
	for text, want := range map[string]bool{
		`seen < ago("52w")`: true, `hello > ago("52w")`: false, `label.site == ""`: true, `version.a == ""`: true, `"a" in label`: false,
	} {
		if got := match(t, text, &query.Device{ID: "new"}); got != want {
			t.Errorf("a new device, %s: %t, want %t", text, got, want)
		}
	}
}

// TestErrors says where each mistake is and what helps.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
		says         string
	}{
		{``, 1, 1, "empty"},
		{" \n", 1, 1, "empty"},
		{strings.Repeat("x", query.MaxLength+1), 1, 1, "at most 4096"},
		{`colour == "red"`, 1, 1, `unknown name "colour"; known are id, type, online, label, version`},
		{"online and\n  foo", 2, 3, `unknown name "foo"`},
		{`label == "a"`, 1, 1, "label.NAME"},
		{`id.x == "a"`, 1, 4, "only label and version"},
		{`label[type] == "a"`, 1, 6, "written out"},
		{`label?.a == "a"`, 1, 8, "not part of the language"},
		{`label.a.b == "a"`, 1, 9, "only label and version"},
		{`type`, 1, 1, "has to say yes or no of a device, and this is a text"},
		{`seen`, 1, 1, "this is a time"},
		{`"online"`, 1, 1, "this is a text"},
		{`online == "yes"`, 1, 8, "yes or no and text"},
		{`seen > "24h"`, 1, 6, "time and text"},
		{`version.application < 2`, 1, 23, `numbers are written as text`},
		{`version.application < -2`, 1, 23, `can only be compared with a version`},
		{`version.application < online`, 1, 23, `can only be compared with a version`},
		{`version.application < ""`, 1, 21, "never before or after"},
		{`id in ["a", 1]`, 1, 13, "only hold texts"},
		{`id in "abc"`, 1, 7, "a list of texts"},
		{`id in 1..1000000000`, 1, 8, "a list of texts"},
		{`["a"] == ["a"]`, 1, 1, "after in"},
		{`label.a == nil`, 1, 12, `missing is ""`},
		{`len(id) > 1`, 1, 1, `unknown function "len"; known are ago("24h") and now()`},
		{`filter([1], true)`, 1, 1, `unknown function "filter"`},
		{`version_before("1", "2")`, 1, 1, `unknown function "version_before"`},
		{`id | upper() == "A"`, 1, 6, "unknown function"},
		{`seen.Year() > 1`, 1, 6, "can be called"},
		{`seen > ago("yesterday")`, 1, 12, "is not a time; write for example"},
		{`seen > ago("-1h")`, 1, 12, "is not a time"},
		{`seen > ago("99999999w")`, 1, 12, "is not a time"},
		{`seen > ago("9999999h")`, 1, 12, "is not a time"},
		{`seen > ago(id)`, 1, 8, "one time in quotes"},
		{`seen > ago()`, 1, 8, "one time in quotes"},
		{`seen > now("a")`, 1, 8, "takes nothing"},
		{`id matches "a+"`, 1, 4, `"matches" is not part of the language`},
		{`id + "a" == "b"`, 1, 4, `"+" is not part`},
		{`(type ?? "a") == "a"`, 1, 7, `"??" is not part`},
		{`online ? true : false`, 1, 21, "not part of the language"},
		{`if online { true } else { false }`, 1, 1, "not part of the language"},
		{`let x = online; x`, 1, 5, "not part of the language"},
		{`online; online`, 1, 1, "not part of the language"},
		{`id[0:1] == "x"`, 1, 3, "not part of the language"},
		{`{a: 1} == {a: 1}`, 1, 1, "not part of the language"},
		{`$env.id == "x"`, 1, 1, "unknown name"},
		{`online and`, 1, 10, "ends where something more is expected"},
		{`(online`, 1, 7, "ends where something more is expected"},
		{`online)`, 1, 7, "unexpected token"},
		{`id == "abc`, 1, 11, "literal not terminated"},
		{strings.Repeat("online and ", 370) + "online", 1, 0, ""},
		{strings.Repeat("!", 2000) + "online", 1, 0, "exceeds maximum allowed nodes"},
	} {
		_, err := query.Compile(c.text)
		if c.column == 0 && c.says == "" {
			if err != nil {
				t.Errorf("%.20s...: %v", c.text, err)
			}
			continue
		}
		var e *query.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if c.column != 0 && (e.Line != c.line || e.Column != c.column) || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%s: %v; want line %d, column %d: %s", c.text, e, c.line, c.column, c.says)
		}
		if strings.Contains(e.Error(), "string") || strings.Contains(e.Error(), "bool") {
			t.Errorf("%s: %v speaks of Go's types", c.text, e)
		}
	}
}

func TestHints(t *testing.T) {
	type H = query.Hint
	for text, want := range map[string][]H{
		`type == "pump" and online and label.site == "berlin" and version.app == "1" and id startsWith "p"`: {
			{Kind: query.HintType, Value: "pump"}, {Kind: query.HintOnline}, {Kind: query.HintLabel, Name: "site", Value: "berlin"},
			{Kind: query.HintVersion, Name: "app", Value: "1"}, {Kind: query.HintIDPrefix, Value: "p"}},
		`"pump" == type && id == "x"`:                        {{Kind: query.HintType, Value: "pump"}, {Kind: query.HintID, Value: "x"}},
		`online == true`:                                     {{Kind: query.HintOnline}},
		`(online and (type == "pump" and seen > ago("1h")))`: {{Kind: query.HintOnline}, {Kind: query.HintType, Value: "pump"}},
		`online or type == "pump"`:                           nil,
		`not online`:                                         nil,
		`not (type == "pump" and online)`:                    nil,
		`online == false`:                                    nil,
		`label.site == ""`:                                   nil,
		`version.app == ""`:                                  nil,
		`label.site == "a\u0000b"`:                           nil,
		`id startsWith ""`:                                   nil,
		`"lab" startsWith id`:                                nil,
		`label.site != "a" and type in ["a"]`:                nil,
		`label.a == label.b`:                                 nil,
	} {
		q, err := query.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := q.Hints(); !slices.Equal(got, want) {
			t.Errorf("%s: hints %v, want %v", text, got, want)
		}
	}
}

// TestHintsHold draws expressions and devices: what a query finds meets all of
// its hints, or an index would lose it.
func TestHintsHold(t *testing.T) {
	word := rapid.SampledFrom([]string{"", "a", "b", "ab"})
	var expression func(depth int) *rapid.Generator[string]
	expression = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			field := rapid.SampledFrom([]string{"id", "type", "label.a", "label.b", "version.a"}).Draw(t, "field")
			kind := rapid.IntRange(0, 8).Draw(t, "kind")
			if depth == 0 {
				kind %= 5
			}
			sub := func() string { return expression(max(depth-1, 0)).Draw(t, "sub") }
			switch kind {
			case 0:
				return fmt.Sprintf("%s == %q", field, word.Draw(t, "word"))
			case 1:
				return fmt.Sprintf("%q == %s", word.Draw(t, "word"), field)
			case 2:
				return fmt.Sprintf("%s startsWith %q", field, word.Draw(t, "word"))
			case 3:
				return rapid.SampledFrom([]string{"online", "online == true", "online == false", "true == online"}).Draw(t, "online")
			case 4:
				return fmt.Sprintf("%s != %q", field, word.Draw(t, "word"))
			case 5:
				return fmt.Sprintf("not (%s)", sub())
			case 6:
				return fmt.Sprintf("(%s or %s)", sub(), sub())
			}
			return fmt.Sprintf("(%s and %s)", sub(), sub())
		})
	}
	texts := rapid.MapOf(rapid.SampledFrom([]string{"a", "b"}), word)
	rapid.Check(t, func(t *rapid.T) {
		text := expression(3).Draw(t, "query")
		q, err := query.Compile(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		d := &query.Device{
			ID: word.Draw(t, "id"), Type: word.Draw(t, "type"), Online: rapid.Bool().Draw(t, "online"),
			Labels: texts.Draw(t, "labels"), Versions: texts.Draw(t, "versions"),
		}
		ok, err := q.At(present).Match(d)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, h := range q.Hints() {
			holds := map[query.HintKind]bool{
				query.HintID: d.ID == h.Value, query.HintIDPrefix: strings.HasPrefix(d.ID, h.Value), query.HintType: d.Type == h.Value,
				query.HintOnline: d.Online, query.HintLabel: h.Value != "" && d.Labels[h.Name] == h.Value,
				query.HintVersion: h.Value != "" && d.Versions[h.Name] == h.Value,
			}[h.Kind]
			if ok && !holds {
				t.Fatalf("%s finds %+v, which does not meet %+v", text, d, h)
			}
		}
	})
}

// TestDocumentation compiles every example of docs/queries.md, and looks for
// every name there.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/queries.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	examples := 0
	for i, block := range strings.Split(doc, "```") {
		body, isQuery := strings.CutPrefix(block, "query\n")
		if i%2 == 0 || !isQuery {
			continue
		}
		for _, text := range strings.Split(strings.TrimSpace(body), "\n\n") {
			examples++
			if _, err := query.Compile(text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if examples < 10 {
		t.Errorf("docs/queries.md has %d examples", examples)
	}
	for _, f := range query.Fields() {
		if !strings.Contains(doc, "| `"+f.Name) {
			t.Errorf("docs/queries.md does not explain %s", f.Name)
		}
	}
}

// FuzzCompile feeds anything: nothing panics, and what compiles evaluates.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`type == "thermostat" and online and label.site == "berlin" and version.application < "2.0.0" and seen > ago("24h") and id startsWith "lab-"`,
		`not (label["with-dash"] in ["a", 'b']) or version.a >= version.b`, `seen < now() and "x" not in label`, `id < type < module`,
		`filter([1], {# > 1})`, `let x = 1; x`, `id[1:2]`, `1..10`, "`raw` == id", `label?.a ?? "b"`, `/* c */ online // d`, `((((((online))))))`, `{"a": 1}.a == 1`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := query.Compile(text)
		if err != nil {
			var e *query.Error
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		m := q.At(present)
		for _, d := range []*query.Device{lab(), {}} {
			if _, err := m.Match(d); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	q, err := query.Compile(`type == "thermostat" and label.site == "berlin" and version.application < "2.10" and seen > ago("24h")`)
	if err != nil {
		b.Fatal(err)
	}
	m, d := q.At(present), lab()
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := m.Match(d); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := query.Compile(`type == "thermostat" and label.site == "berlin" and version.application < "2.10"`); err != nil {
			b.Fatal(err)
		}
	}
}
