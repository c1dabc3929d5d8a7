package schemas

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// asyncAPI is what the tests look at in asyncapi.yaml.
type asyncAPI struct {
	AsyncAPI string
	Info     struct {
		Version string
		Limits  map[string]uint64 `yaml:"x-limits"`
	}
	Channels   map[Kind]asyncChannel
	Operations map[Kind]asyncOperation // "stream" is in both and no kind
	Components struct {
		Messages map[Kind]asyncMessage
	}
}

type asyncChannel struct {
	Address    string
	Parameters map[string]ref
	Messages   map[Kind]ref
}

type ref struct {
	Ref string `yaml:"$ref"`
}

type asyncOperation struct {
	Action   string
	Channel  ref
	Reply    struct{ Channel ref }
	Bindings struct {
		MQTT struct {
			QoS    byte
			Retain bool
		}
	}
}

type asyncMessage struct {
	Name        string
	ContentType string `yaml:"contentType"`
	MaxPayload  int    `yaml:"x-max-payload"`
	Payload     struct {
		SchemaFormat string `yaml:"schemaFormat"`
		Schema       map[string]any
	}
	Examples []struct {
		Name    string
		Payload map[string]any
	}
	Header []struct {
		Name           string
		Offset, Length int
		Const          byte
		Bits           map[string]int
	} `yaml:"x-header"`
	Chunks []struct {
		Name, Hex, Image, Data string
		Transfer               uint16
		Offset                 uint64
		Last                   bool
	} `yaml:"x-examples"`
}

func readAsyncAPI(t testing.TB) asyncAPI {
	t.Helper()
	var doc asyncAPI
	if err := yaml.Unmarshal(AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestAsyncAPI: the document has the channels, messages, QoS, retain flags and
// limits that the code has, and nothing else.
func TestAsyncAPI(t *testing.T) {
	doc := readAsyncAPI(t)
	if doc.AsyncAPI != "3.0.0" || !strings.HasPrefix(doc.Info.Version, fmt.Sprint(Version, ".")) {
		t.Errorf("asyncapi %s, contract %s", doc.AsyncAPI, doc.Info.Version)
	}
	n := len(allKinds())
	if len(doc.Channels) != n+1 || len(doc.Operations) != n+1 || len(doc.Components.Messages) != n {
		t.Errorf("%d channels, %d operations, %d messages; the contract has %d of each, and the shared stream", len(doc.Channels), len(doc.Operations), len(doc.Components.Messages), n)
	}
	for _, k := range allKinds() {
		t.Run(string(k), func(t *testing.T) {
			channel, op, message := doc.Channels[k], doc.Operations[k], doc.Components.Messages[k]
			topic, err := ParseTopic(strings.Replace(channel.Address, "{device}", "pump-7", 1))
			if err != nil || topic != (Topic{"pump-7", k}) || channel.Parameters["device"].Ref != "#/components/parameters/device" {
				t.Errorf("address %q with %v: %v, %v", channel.Address, channel.Parameters, topic, err)
			}
			if len(channel.Messages) != 1 || channel.Messages[k].Ref != "#/components/messages/"+string(k) || message.Name != string(k) {
				t.Errorf("messages %v, named %q", channel.Messages, message.Name)
			}
			action := "receive"
			if k.FromDevice() {
				action = "send"
			}
			if op.Action != action || op.Channel.Ref != "#/channels/"+string(k) {
				t.Errorf("operation %s on %s, want %s", op.Action, op.Channel.Ref, action)
			}
			if op.Bindings.MQTT.QoS != k.QoS() || op.Bindings.MQTT.Retain != k.Retained() {
				t.Errorf("bindings %+v; want QoS %d, retain %v", op.Bindings.MQTT, k.QoS(), k.Retained())
			}
			if message.MaxPayload != k.MaxPayload() {
				t.Errorf("x-max-payload %d, want %d", message.MaxPayload, k.MaxPayload())
			}
			if !strings.Contains(message.Payload.SchemaFormat, "2020-12") {
				t.Errorf("schema format %q", message.Payload.SchemaFormat)
			}
			if k != KindChunk && message.Payload.Schema["$ref"] != "./jsonschema/"+string(k)+".json" {
				t.Errorf("schema %v", message.Payload.Schema)
			}
		})
	}
	if doc.Operations[KindStatus].Reply.Channel.Ref != "#/channels/ack" {
		t.Error("status is not answered by ack")
	}
}

// TestAsyncAPIStream: the shared stream has the code's topic and carries chunks.
func TestAsyncAPIStream(t *testing.T) {
	doc := readAsyncAPI(t)
	sum := strings.Repeat("0123456789abcdef", 4)
	channel, op := doc.Channels["stream"], doc.Operations["stream"]
	if topic := strings.Replace(channel.Address, "{sha256}", sum, 1); topic != StreamTopic(sum) || channel.Parameters["sha256"].Ref != "#/components/parameters/sha256" {
		t.Errorf("address %q with %v, want %s", channel.Address, channel.Parameters, StreamTopic(sum))
	}
	if len(channel.Messages) != 1 || channel.Messages[KindChunk].Ref != "#/components/messages/chunk" {
		t.Errorf("messages %v", channel.Messages)
	}
	if op.Action != "receive" || op.Channel.Ref != "#/channels/stream" || op.Bindings.MQTT.QoS != KindChunk.QoS() || op.Bindings.MQTT.Retain {
		t.Errorf("operation %+v", op)
	}
}

func TestAsyncAPILimits(t *testing.T) {
	want := map[string]uint64{
		"id_length": MaxIDLength, "version_length": MaxVersionLength, "detail_length": MaxDetailLength, "host_versions": MaxHostVersions,
		"ranges": MaxRanges, "window_chunks": MaxWindow, "awaited_bytes": MaxAwaited, "image_size": MaxImageSize, "chunk_min": MinChunkSize,
		"chunk_default": DefaultChunkSize, "chunk_max": MaxChunkSize, "attempt": MaxAttempt, "seq": MaxSeq,
		"version_id": MaxVersionID, "dialect_length": MaxDialectLength, "version_properties": MaxVersionProperties, "defer_s": MaxDeferS,
		"retry_after_ms": uint64(MaxRetryAfter.Milliseconds()),
	}
	if got := readAsyncAPI(t).Info.Limits; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("x-limits %v, want %v", got, want)
	}
}

// TestAsyncAPIReferences: every $ref leads somewhere.
func TestAsyncAPIReferences(t *testing.T) {
	var doc any
	if err := yaml.Unmarshal(AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	var refs []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, child := range v {
				if s, ok := child.(string); ok && name == "$ref" {
					refs = append(refs, s)
				}
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(doc)
	if len(refs) < 4*len(Kinds()) {
		t.Errorf("only %d references found", len(refs))
	}
	for _, r := range refs {
		if kind, ok := strings.CutPrefix(r, "./jsonschema/"); ok {
			if JSONSchema(Kind(strings.TrimSuffix(kind, ".json"))) == nil {
				t.Errorf("%s is not embedded", r)
			}
			continue
		}
		at := doc
		for _, name := range strings.Split(strings.TrimPrefix(r, "#/"), "/") {
			m, _ := at.(map[string]any)
			at = m[name]
		}
		if at == nil {
			t.Errorf("%s leads nowhere", r)
		}
	}
}

// TestAsyncAPIExamples: what a module author copies from the document is right.
func TestAsyncAPIExamples(t *testing.T) {
	compiled := compileSchemas(t)
	for kind, m := range readAsyncAPI(t).Components.Messages {
		if kind == KindChunk {
			continue
		}
		if len(m.Examples) == 0 {
			t.Errorf("%s has no example", kind)
		}
		for _, e := range m.Examples {
			raw, err := json.Marshal(e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if err := bySchema(compiled[kind], raw); err != nil {
				t.Errorf("%s, example %q: the schema refuses it: %v", kind, e.Name, err)
			}
			if err := Decode(raw, newPayload(kind)); err != nil {
				t.Errorf("%s, example %q: the code refuses it: %v", kind, e.Name, err)
			}
		}
	}
}

// TestAsyncAPIChunkHeader: the header's description and examples are those of
// the code.
func TestAsyncAPIChunkHeader(t *testing.T) {
	m := readAsyncAPI(t).Components.Messages[KindChunk]
	if m.ContentType != "application/octet-stream" {
		t.Errorf("content type %q", m.ContentType)
	}
	header := ChunkHeader{Flags: ChunkFlagLast, Transfer: 0x0203, Image: 0x04050607, Offset: 0x08090a0b0c0d0e0f}.AppendTo(nil)
	want := map[string]string{"version": "01", "flags": "01", "transfer": "0203", "image": "04050607", "offset": "08090a0b0c0d0e0f"}
	at := 0
	for _, f := range m.Header {
		if f.Offset != at || hex.EncodeToString(header[f.Offset:f.Offset+f.Length]) != want[f.Name] {
			t.Errorf("field %+v does not fit % x", f, header)
		}
		at += f.Length
		switch f.Name {
		case "version":
			if f.Const != Version {
				t.Errorf("version %d", f.Const)
			}
		case "flags":
			if len(f.Bits) != 1 || 1<<f.Bits["last"] != ChunkFlagLast {
				t.Errorf("flags %v", f.Bits)
			}
		}
	}
	if at != ChunkHeaderSize || len(m.Header) != len(want) {
		t.Errorf("%d fields of %d bytes", len(m.Header), at)
	}
	for name, n := range map[string]int{"minLength": ChunkHeaderSize + 1, "maxLength": ChunkHeaderSize + MaxChunkSize} {
		if fmt.Sprint(m.Payload.Schema[name]) != fmt.Sprint(n) {
			t.Errorf("%s is %v, want %d", name, m.Payload.Schema[name], n)
		}
	}
	if len(m.Chunks) == 0 {
		t.Error("no example")
	}
	for _, e := range m.Chunks {
		raw, err := hex.DecodeString(strings.ReplaceAll(e.Hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		h, data, err := ParseChunk(raw)
		if err != nil {
			t.Errorf("example %q: %v", e.Name, err)
			continue
		}
		if h.Transfer != e.Transfer || fmt.Sprintf("%08x", h.Image) != e.Image || h.Offset != e.Offset || (h.Flags&ChunkFlagLast != 0) != e.Last {
			t.Errorf("example %q: %+v", e.Name, h)
		}
		if wantData, err := hex.DecodeString(strings.ReplaceAll(e.Data, " ", "")); err != nil || !bytes.Equal(data, wantData) {
			t.Errorf("example %q: data % x, %v", e.Name, data, err)
		}
	}
}

// TestJSONSchemas: there is one for every kind but the chunk, its lists are
// those of the code, and it names every field.
func TestJSONSchemas(t *testing.T) {
	if JSONSchema(KindChunk) != nil || JSONSchema("../topic.go") != nil {
		t.Error("a schema where there is none")
	}
	for kind := range compileSchemas(t) {
		var doc struct {
			Title                string
			AdditionalProperties *bool `json:"additionalProperties"`
			Required             []string
			Properties           map[string]struct {
				Enum []string
			}
		}
		if err := json.Unmarshal(JSONSchema(kind), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Title != string(kind) || doc.AdditionalProperties == nil || *doc.AdditionalProperties {
			t.Errorf("%s.json: title %q, additional properties %v", kind, doc.Title, doc.AdditionalProperties)
		}
		s := shapes[kind]
		if len(doc.Properties) != len(s.fields) || fmt.Sprint(doc.Required) != fmt.Sprint(s.required) {
			t.Errorf("%s.json: properties %v, required %v; the code has %v", kind, doc.Properties, doc.Required, s.required)
		}
		for name := range s.fields {
			if _, ok := doc.Properties[name]; !ok {
				t.Errorf("%s.json: no %s", kind, name)
			}
		}
		var states []State
		for _, st := range States() {
			if kind == KindAck || kind == KindStatus && st.Reportable() {
				states = append(states, st)
			}
		}
		if got := doc.Properties["state"].Enum; fmt.Sprint(got) != fmt.Sprint(states) {
			t.Errorf("%s.json: states %v, want %v", kind, got, states)
		}
		if got := doc.Properties["cause"].Enum; kind == KindStatus && fmt.Sprint(got) != fmt.Sprint(append([]Cause{CauseNone}, Causes()...)) {
			t.Errorf("%s.json: causes %v", kind, got)
		}
	}
}
