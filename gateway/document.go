package gateway

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
	"davit/schemas"
)

// anyRecord is a record of any kind as JSON.
type anyRecord struct{}

// Schema implements huma.SchemaProvider: an object of which nothing more is said.
func (anyRecord) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// durationText is a duration as text. The schema says how it is written, so that
// one that is not is refused with its place in the body.
type durationText string

// Schema implements huma.SchemaProvider.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:               huma.TypeString,
		Pattern:            `^(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`,
		PatternDescription: "a duration such as 90s or 2m",
	}
}

// causeList is a list of causes.
type causeList []string

// Schema implements huma.SchemaProvider.
func (causeList) Schema(huma.Registry) *huma.Schema {
	cause := &huma.Schema{Type: huma.TypeString}
	for _, c := range schemas.Causes() {
		cause.Enum = append(cause.Enum, string(c))
	}
	cause.PrecomputeMessages()
	return &huma.Schema{Type: huma.TypeArray, Nullable: true, Items: cause}
}

// retryByCause is what holds for retries by cause: an object that may have a
// member for each.
type retryByCause struct{}

// Schema implements huma.SchemaProvider.
func (retryByCause) Schema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, c := range schemas.Causes() {
		s.Properties[string(c)] = r.Schema(reflect.TypeFor[orchestrator.CauseRetry](), true, "")
	}
	return s
}

var (
	_ huma.SchemaProvider = anyRecord{}
	_ huma.SchemaProvider = durationText("")
	_ huma.SchemaProvider = causeList(nil)
	_ huma.SchemaProvider = retryByCause{}
)

// finishDocument adds to each operation the answers that do not follow from the
// types of its handler.
func finishDocument(doc *huma.OpenAPI) {
	problem := &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{
		"application/problem+json": {Schema: doc.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")},
	}}
	for _, path := range doc.Paths {
		for _, op := range operationsOf(path) {
			if op.Responses["default"] == nil {
				op.Responses["default"] = problem
			}
			for _, p := range op.Parameters {
				if p.In == "header" && p.Name == "If-None-Match" {
					op.Responses[strconv.Itoa(http.StatusNotModified)] = &huma.Response{Description: "Not changed"}
				}
			}
		}
	}
}

func operationsOf(path *huma.PathItem) []*huma.Operation {
	return slices.DeleteFunc([]*huma.Operation{path.Get, path.Put, path.Post, path.Delete, path.Patch}, func(op *huma.Operation) bool { return op == nil })
}

// operationAt is the document's own record of an operation.
func operationAt(doc *huma.OpenAPI, method, path string) *huma.Operation {
	for _, op := range operationsOf(doc.Paths[path]) {
		if op.Method == method {
			return op
		}
	}
	panic("gateway: " + method + " " + path + " is not in the document")
}
