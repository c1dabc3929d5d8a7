package schemas

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// allKinds lists every message of the contract.
func allKinds() []Kind { return slices.Concat(Kinds(), CredentialKinds()) }

// newPayload returns an empty payload of kind k, nil for a chunk.
func newPayload(k Kind) Payload {
	switch k {
	case KindHello:
		return &Hello{}
	case KindPresence:
		return &Presence{}
	case KindOffer:
		return &Offer{}
	case KindFetch:
		return &Fetch{}
	case KindStatus:
		return &Status{}
	case KindAck:
		return &Ack{}
	case KindProfile:
		return &Profile{}
	case KindClaim:
		return &Claim{}
	case KindClaimed:
		return &Claimed{}
	case KindRotate:
		return &Rotate{}
	case KindRotated:
		return &Rotated{}
	}
	return nil
}

// compileSchemas compiles the embedded JSON Schemas.
func compileSchemas(t testing.TB) map[Kind]*jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	out := map[Kind]*jsonschema.Schema{}
	for _, k := range allKinds() {
		if k == KindChunk {
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(JSONSchema(k)))
		if err != nil {
			t.Fatalf("%s.json: %v", k, err)
		}
		id := "urn:davit:v1:" + string(k)
		if err := c.AddResource(id, doc); err != nil {
			t.Fatal(err)
		}
		if out[k], err = c.Compile(id); err != nil {
			t.Fatal(err)
		}
		if out[k].DraftVersion != 2020 || out[k].ID != id {
			t.Errorf("%s.json: draft %d, id %q", k, out[k].DraftVersion, out[k].ID)
		}
	}
	return out
}

// bySchema holds raw against the schema.
func bySchema(s *jsonschema.Schema, raw []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// payloadCase is a line of the tables under testdata: a JSON value, a text that
// is none, or bytes in hex.
type payloadCase struct {
	Kind    Kind            `json:"kind"`
	Name    string          `json:"name"`
	Payload json.RawMessage `json:"payload"`
	Raw     *string         `json:"raw"`
	Hex     string          `json:"hex"`
}

func (c payloadCase) bytes(t testing.TB) []byte {
	t.Helper()
	if c.Raw != nil {
		return []byte(*c.Raw)
	}
	if c.Hex != "" {
		b, err := hex.DecodeString(strings.ReplaceAll(c.Hex, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		return b
	}
	return c.Payload
}

func readCases(t testing.TB, file string) []payloadCase {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var cases []payloadCase
	if err := d.Decode(&cases); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	names := map[string]bool{}
	for _, c := range cases {
		if newPayload(c.Kind) == nil || names[string(c.Kind)+" "+c.Name] {
			t.Fatalf("%s: %s %q is of no kind with a payload, or stands twice", file, c.Kind, c.Name)
		}
		names[string(c.Kind)+" "+c.Name] = true
	}
	return cases
}
