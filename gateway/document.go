package gateway

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// anyRecord is a record of any kind as JSON.
type anyRecord struct{}

// Schema implements huma.SchemaProvider: an object of which nothing more is said.
func (anyRecord) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

var _ huma.SchemaProvider = anyRecord{}

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
