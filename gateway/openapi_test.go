package gateway_test

import (
	"flag"
	"io"
	"log/slog"
	"os"
	"testing"

	"davit/gateway"
)

var updateOpenAPI = flag.Bool("update-openapi", false, "write schemas/openapi.yaml anew")

// TestOpenAPIIsUpToDate compares the committed document with what the Go types
// say. After a change of the API: go test ./gateway -run OpenAPI -update-openapi
func TestOpenAPIIsUpToDate(t *testing.T) {
	const path = "../schemas/openapi.yaml"
	tokens, err := gateway.NewTokens("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	api, err := gateway.NewAPI(gateway.APIOptions{Tokens: tokens, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
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
		t.Errorf("%s is out of date; run: go test ./gateway -run OpenAPI -update-openapi", path)
	}
}
