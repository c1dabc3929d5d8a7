package schemas

import "embed"

// contract holds the machine-readable form of this package. TestAsyncAPI and
// TestJSONSchemas prove that it says what the code does.
//
//go:embed asyncapi.yaml jsonschema/*.json
var contract embed.FS

// JSONSchema returns the JSON Schema (2020-12) of the payload of k, or nil for
// a kind that has none: chunks are binary. The slice is the caller's own.
func JSONSchema(k Kind) []byte {
	b, err := contract.ReadFile("jsonschema/" + string(k) + ".json")
	if err != nil {
		return nil
	}
	return b
}

// AsyncAPI returns the AsyncAPI 3.0 document of the contract, in YAML. It refers
// to the JSON Schemas as ./jsonschema/KIND.json. The slice is the caller's own.
func AsyncAPI() []byte {
	b, err := contract.ReadFile("asyncapi.yaml")
	if err != nil {
		return nil
	}
	return b
}
