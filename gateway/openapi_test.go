package gateway_test

import (
	"flag"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator/memstore"
)

var updateOpenAPI = flag.Bool("update-openapi", false, "write schemas/openapi.yaml anew")

// TestOpenAPIExplainsEverything: a stranger finds a sentence at every field and
// parameter.
func TestOpenAPIExplainsEverything(t *testing.T) {
	text, err := os.ReadFile("../schemas/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type described struct {
		Name        string `yaml:"name"`
		Ref         string `yaml:"$ref"`
		Description string `yaml:"description"`
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string      `yaml:"operationId"`
			Summary    string      `yaml:"summary"`
			Parameters []described `yaml:"parameters"`
		} `yaml:"paths"`
		Components struct {
			Schemas map[string]struct {
				Properties map[string]described `yaml:"properties"`
			} `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) < 20 || len(doc.Components.Schemas) < 20 {
		t.Fatalf("%d paths and %d schemas were found", len(doc.Paths), len(doc.Components.Schemas))
	}
	routed := map[string]bool{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			routed[op.ID] = true
			if op.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
			for placeholder := range strings.SplitSeq(path, "/") {
				name := strings.Trim(placeholder, "{}")
				if name != placeholder && !slices.ContainsFunc(op.Parameters, func(p described) bool { return p.Name == name }) {
					t.Errorf("%s %s: nothing reads {%s}", method, path, name)
				}
			}
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("parameter %s of %s %s is not described", p.Name, method, path)
				}
			}
		}
	}
	for _, op := range people.Operations() {
		if !routed[op.ID] {
			t.Errorf("the matrix has %s, the API has no such operation", op.ID)
		}
		delete(routed, op.ID)
	}
	if len(routed) > 0 {
		t.Errorf("operations that the matrix does not have: %v", slices.Collect(maps.Keys(routed)))
	}
	for name, s := range doc.Components.Schemas {
		for field, p := range s.Properties {
			if p.Description == "" && p.Ref == "" {
				t.Errorf("field %s of %s is not described", field, name)
			}
		}
	}
}

// TestOpenAPIIsUpToDate compares the committed document with what the Go types
// say. After a change of the API: go generate ./gateway
func TestOpenAPIIsUpToDate(t *testing.T) {
	const path = "../schemas/openapi.yaml"
	log := slog.New(slog.DiscardHandler)
	directory, err := people.New(people.Options{Store: memstore.New(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	api, err := gateway.NewAPI(gateway.APIOptions{People: directory, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	want, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *updateOpenAPI {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Errorf("%s is out of date; run: go generate ./gateway", path)
	}
}
