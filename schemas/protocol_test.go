package schemas

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var updateProtocol = flag.Bool("update-protocol", false, "write docs/protocol.md anew")

const protocolFile = "../docs/protocol.md"

// TestProtocolDocument: docs/protocol.md is what asyncapi.yaml, the JSON Schemas and this package say. It has every message,
// field, state, cause and code, each with its meaning.
func TestProtocolDocument(t *testing.T) {
	p := &protocolDocument{t: t, api: readAsyncAPI(t), meanings: meaningsOf(t)}
	if err := yaml.Unmarshal(AsyncAPI(), &p.words); err != nil {
		t.Fatal(err)
	}
	got := p.bytes()
	if *updateProtocol && !t.Failed() {
		if err := os.WriteFile(protocolFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(protocolFile)
	if err != nil || !bytes.Equal(have, got) {
		t.Errorf("docs/protocol.md is not what schemas/ says (%v); write it anew with: go test ./schemas -run TestProtocolDocument -update-protocol", err)
	}
}

// protocolDocument makes the document.
type protocolDocument struct {
	t        *testing.T
	b        bytes.Buffer
	api      asyncAPI
	meanings map[string]string // of constants, by type and value: "State queued"
	words    struct {
		Info       struct{ Description string }
		Channels   map[string]struct{ Address string }
		Operations map[string]struct{ Summary string }
		Components struct {
			SecuritySchemes map[string]struct{ Description string } `yaml:"securitySchemes"`
			Messages        map[Kind]struct{ Title, Description string }
		}
	}
}

func (p *protocolDocument) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *protocolDocument) bytes() []byte {
	p.printf("# Protocol\n\nWhat a module and the service say to each other over MQTT, for authors of modules: [module-author.md](module-author.md) is the guide, this page the reference. " +
		"It is made from [schemas/asyncapi.yaml](../schemas/asyncapi.yaml), the JSON Schemas in [schemas/jsonschema](../schemas/jsonschema) and the Go package beside them " +
		"(`go test ./schemas -run TestProtocolDocument -update-protocol`), and a test keeps it so. The serial lines of host MCUs are in [wire.md](wire.md) and [afero-wire.md](afero-wire.md).\n\n")
	p.topics()
	p.printf("**Login.** %s\n\n", oneLine(p.words.Components.SecuritySchemes["credentials"].Description))
	p.printf("%s\n", strings.ReplaceAll(p.words.Info.Description, "davit/v1/@/SHA256", StreamTopic("SHA256")))
	p.printf("## Messages\n\nOptional fields may be left out, which means the same as their zero value. Lengths of text are in bytes of UTF-8.\n\n")
	for _, k := range allKinds() {
		p.message(k)
	}
	p.states()
	p.causes()
	p.constants("Actions of an offer", "What `action` in an offer asks for.", "Action", []string{"", "soft", "confirm", "download"})
	var reasons []string
	for _, e := range RequestErrors() {
		reasons = append(reasons, string(e))
	}
	p.constants("Errors of claims and rotations", "`error` in claimed and rotated.", "RequestError", reasons)
	p.printf("## Codes of host MCUs\n\n`code` in a status is the host MCU's own error code, as it came; 0 is none. [wire.md](wire.md#4-opcodes-and-codes) has those of the Ayla wire; the Afero wire has none.\n\n")
	p.limits()
	p.exchange()
	return p.b.Bytes()
}

func (p *protocolDocument) topics() {
	p.printf("## Topics\n\n| topic | from | QoS | retained | at most | what for |\n|---|---|---|---|---|---|\n")
	for _, k := range allKinds() {
		from := "service"
		if k.FromDevice() {
			from = "device"
		}
		retained := ""
		if k.Retained() {
			retained = "yes"
		}
		p.printf("| [`%s`](#%s) | %s | %d | %s | %d bytes | %s |\n", p.words.Channels[string(k)].Address, k, from, k.QoS(), retained, k.MaxPayload(), p.words.Operations[string(k)].Summary)
	}
	p.printf("| [`%s`](#chunk) | service | %d | | %d bytes | %s |\n\n", p.words.Channels["stream"].Address, KindChunk.QoS(), KindChunk.MaxPayload(), p.words.Operations["stream"].Summary)
}

func (p *protocolDocument) message(k Kind) {
	words, message := p.words.Components.Messages[k], p.api.Components.Messages[k]
	p.printf("### %s\n\n%s\n\n", k, strings.TrimSpace(words.Title+". "+words.Description))
	if k == KindChunk {
		for _, c := range message.Chunks {
			p.printf("Example, %s:\n\n```text\n%s\n```\n\n", c.Name, c.Hex)
		}
		return
	}
	p.fields(k)
	for _, e := range message.Examples {
		b, err := json.Marshal(ordered(k, e.Payload))
		if err != nil {
			p.t.Fatal(err)
		}
		p.printf("Example, %s:\n\n```json\n%s\n```\n\n", e.Name, b)
	}
}

func (p *protocolDocument) states() {
	p.printf("## States\n\nIn their order; an execution only moves down the list, and none of the final ones follows another.\n\n| state | who sets it | final | meaning |\n|---|---|---|---|\n")
	for _, s := range States() {
		who, final := "device", ""
		switch {
		case !s.Reportable():
			who = "service"
		case s.Final() && s != StateSucceeded:
			who = "device or service"
		}
		if s.Final() {
			final = "yes"
		}
		p.printf("| `%s` | %s | %s | %s |\n", s, who, final, p.meaning("State", string(s)))
	}
	p.printf("\n")
}

func (p *protocolDocument) causes() {
	p.printf("## Causes\n\nWith every end but success, and only there. The last column is the nearest value of the Update Result (/5/0/5) of OMA LwM2M, for a failed execution.\n\n| cause | meaning | LwM2M |\n|---|---|---|\n")
	for _, c := range Causes() {
		p.printf("| `%s` | %s | %d |\n", c, p.meaning("Cause", string(c)), LwM2MResult(StateFailed, c))
	}
	p.printf("\n")
}

func (p *protocolDocument) constants(title, about, of string, values []string) {
	p.printf("## %s\n\n%s\n\n| value | meaning |\n|---|---|\n", title, about)
	for _, v := range values {
		shown := "`" + v + "`"
		if v == "" {
			shown = "left out"
		}
		p.printf("| %s | %s |\n", shown, p.meaning(of, v))
	}
	p.printf("\n")
}

func (p *protocolDocument) limits() {
	p.printf("## Limits\n\n| limit | value |\n|---|---|\n")
	var limits struct {
		Info struct {
			Limits yaml.MapSlice `yaml:"x-limits"`
		}
	}
	if err := yaml.Unmarshal(AsyncAPI(), &limits); err != nil {
		p.t.Fatal(err)
	}
	for _, l := range limits.Info.Limits {
		p.printf("| %s | %v |\n", strings.ReplaceAll(fmt.Sprint(l.Key), "_", " "), l.Value)
	}
	p.printf("\n")
}

// meaning is the comment of a constant of this package; each value of the contract has one.
func (p *protocolDocument) meaning(of, value string) string {
	m := p.meanings[of+" "+value]
	if m == "" {
		p.t.Errorf("the constant for %s %q has no comment that says what it means", of, value)
	}
	return m
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// meaningsOf reads the comments of the constants of this package that are texts with a type.
func meaningsOf(t *testing.T) map[string]string {
	t.Helper()
	meanings := map[string]string{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				noteMeaning(meanings, v)
			}
			return true
		})
	}
	return meanings
}

func noteMeaning(meanings map[string]string, v *ast.ValueSpec) {
	of, ok := v.Type.(*ast.Ident)
	if !ok || len(v.Values) != 1 {
		return
	}
	literal, ok := v.Values[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		return
	}
	text := oneLine(v.Doc.Text() + v.Comment.Text())
	text = strings.TrimPrefix(text, v.Names[0].Name)
	text = strings.TrimPrefix(strings.TrimSpace(text), ": ")
	for name, shown := range map[string]string{"ActionInstall": "without an action", "CauseDeferred": "cause `deferred`", "ActionSoft": "`soft`", "ActionConfirm": "`confirm`", "DeferUntil": "`defer_until`"} {
		text = strings.ReplaceAll(text, name, shown)
	}
	meanings[of.Name+" "+value] = strings.ReplaceAll(text, "|", `\|`)
}
