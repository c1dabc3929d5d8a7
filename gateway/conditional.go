package gateway

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

// Records carry their revision as entity tag (RFC 9110 section 8.8.3): it counts
// the edits by people. What a device or a job does by itself leaves it alone, so
// that an edit is refused only if another edit came between.

// Conditional is a part of requests that edit a record.
type Conditional struct {
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the record that the edit is based on; if somebody has edited the record since, the answer is 412. Without it, or with *, the edit is made on whatever is there."`
}

// precondition reads If-Match (RFC 9110 section 13.1.1).
func (c Conditional) precondition() (orchestrator.Precondition, error) {
	text := strings.TrimSpace(c.IfMatch)
	if text == "" || text == "*" {
		return orchestrator.Precondition{}, nil
	}
	tag, err := strconv.Unquote(text)
	if err != nil || text[0] != '"' {
		return orchestrator.Precondition{}, wrongParameter("header.If-Match", c.IfMatch,
			`If-Match takes one entity tag as it stood in the ETag of the record, for example "3", or *.`)
	}
	revision, err := strconv.ParseUint(tag, 10, 64)
	if err != nil {
		return orchestrator.Precondition{}, newProblem(http.StatusPreconditionFailed,
			"The record never had the entity tag "+text+"; read it again and repeat the edit with the ETag of that answer.")
	}
	return orchestrator.Precondition{IfRevision: &revision}, nil
}

// Fresh is a part of requests that read one record.
type Fresh struct {
	IfNoneMatch string `header:"If-None-Match" maxLength:"512" doc:"The ETag of the record as it was read before; if it is still the same, the answer is 304 without a body."`
}

// matches says whether a tag is among those of If-None-Match, by the weak
// comparison (RFC 9110 section 13.1.2).
func (f Fresh) matches(tag string) bool {
	for t := range strings.SplitSeq(f.IfNoneMatch, ",") {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		if t == tag || t == "*" {
			return true
		}
	}
	return false
}

func entityTag(revision uint64) string { return strconv.Quote(strconv.FormatUint(revision, 10)) }

// taggedOf is a record with its entity tag.
type taggedOf[T any] struct {
	ETag string `header:"ETag" doc:"The record's revision, for If-Match."`
	Body T
}

// tagged answers with a record.
func tagged[T any](v T, revision uint64, err error) (*taggedOf[T], error) {
	if err != nil {
		return nil, err
	}
	return &taggedOf[T]{entityTag(revision), v}, nil
}

// fresh answers with a record, or with 304 if the client has it.
func fresh[T any](f Fresh, v T, revision uint64, err error) (*taggedOf[T], error) {
	if err == nil && f.matches(entityTag(revision)) {
		return nil, huma.ErrorWithHeaders(huma.Status304NotModified(), http.Header{"ETag": {entityTag(revision)}})
	}
	return tagged(v, revision, err)
}

// freshID asks for one record.
type freshID struct {
	ID
	Fresh
}

// patchOf edits a record.
type patchOf[T any] struct {
	ID
	Conditional
	Body T
}
