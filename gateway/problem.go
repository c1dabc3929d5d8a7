package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/schemas"
)

// Every error answer is a problem of RFC 9457 (application/problem+json) whose
// detail is a sentence for a person. What is wrong with single fields is listed in
// "errors". Inside, problems are huma's; a location that begins with a slash is a
// JSON pointer, and what leaves has been turned into a Problem.

// Problem is the answer to a request that was not granted.
type Problem struct {
	Type     string         `json:"type,omitempty" format:"uri" doc:"Always absent, which means about:blank: the status says what kind of problem it is."`
	Title    string         `json:"title" doc:"The status in words"`
	Status   int            `json:"status" minimum:"400" maximum:"599" doc:"The HTTP status"`
	Detail   string         `json:"detail,omitempty" doc:"What happened and what to do, for a person"`
	Instance string         `json:"instance,omitempty" format:"uri" doc:"Names the request in the server's log, if the fault is its own"`
	Errors   []ProblemField `json:"errors,omitempty" nullable:"false" doc:"What is wrong with single fields of the request"`
}

// ProblemField is what is wrong with one field of a request.
type ProblemField struct {
	Pointer  string `json:"pointer,omitempty" doc:"A JSON pointer into the request's body, for example /image_types/2/id"`
	Location string `json:"location,omitempty" doc:"For what does not stand in a JSON body: query.NAME, path.NAME, header.NAME, or line N of a CSV file; body for the body as a whole"`
	Message  string `json:"message" doc:"What is wrong with it"`
	Value    any    `json:"value,omitempty" doc:"What was sent, if it is short"`
}

// ContentType implements huma.ContentTypeFilter.
func (*Problem) ContentType(string) string { return "application/problem+json" }

const (
	// errorBudget is how much of a refused value is echoed in a field error.
	errorBudget = 128
	// maxFieldErrors is how many field errors a problem spells out.
	maxFieldErrors = 1000
)

// StatusOf maps the orchestrator's kinds of error to HTTP; what it does not know
// is the service's own fault.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, orchestrator.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, orchestrator.ErrStale):
		return http.StatusPreconditionFailed
	case errors.Is(err, orchestrator.ErrExists), errors.Is(err, orchestrator.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, orchestrator.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, orchestrator.ErrNoSpace), errors.Is(err, orchestrator.ErrUnwritable), durable.IsNoSpace(err):
		return http.StatusInsufficientStorage
	case errors.Is(err, orchestrator.ErrInvalid), errors.Is(err, schemas.ErrID), errors.Is(err, schemas.ErrPayload):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// problem turns an error of a handler into the answer. An error of no known
// kind is logged and answered without its text, which may tell too much; the
// request id connects the two.
func (a *API) problem(ctx context.Context, op *huma.Operation, err error) error {
	var known huma.StatusError
	if errors.As(err, &known) {
		return err
	}
	status := StatusOf(err)
	var field *orchestrator.FieldError
	elsewhere := errors.As(err, &field) || op.DefaultStatus == http.StatusCreated && !strings.Contains(op.Path, "{")
	if status == http.StatusNotFound && elsewhere {
		// The path is there; what the request refers to is not.
		status = http.StatusUnprocessableEntity
	}
	if status != http.StatusInternalServerError {
		p := newProblem(status, err.Error())
		p.Errors = fieldErrors(op, err)
		return p
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "The request was abandoned before it was done.")
	}
	id := requestID(ctx)
	a.options.Log.Error("request failed", "event", logevent.RequestFailed, "operation", op.OperationID, "request", id, "error", err)
	return internalProblem(id)
}

// fieldErrors says which fields an error of the orchestrator's is about.
func fieldErrors(op *huma.Operation, err error) []*huma.ErrorDetail {
	var batch *orchestrator.BatchError
	if errors.As(err, &batch) {
		var all []*huma.ErrorDetail
		for _, l := range batch.Lines[:min(len(batch.Lines), maxFieldErrors)] {
			all = append(all, &huma.ErrorDetail{Location: "/" + strconv.Itoa(l.Index) + fieldPointer(l.Err), Message: sentence(l.Err)})
		}
		return all
	}
	var field *orchestrator.FieldError
	if !errors.As(err, &field) {
		return nil
	}
	location := fieldPointer(err)
	if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		location = "query." + parameterOf(op, field.Field)
	}
	return []*huma.ErrorDetail{{Location: location, Message: sentence(err)}}
}

// fieldPointer is the JSON pointer of the field that an error is about.
func fieldPointer(err error) string {
	var field *orchestrator.FieldError
	if !errors.As(err, &field) || field.Field == "" {
		return ""
	}
	return "/" + field.Field
}

// parameterOf is the query parameter in which a field was sent: lists are sent
// one by one, under the name of one.
func parameterOf(op *huma.Operation, field string) string {
	name, _, _ := strings.Cut(field, "/")
	has := func(name string) bool {
		return slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name })
	}
	if one, list := strings.CutSuffix(name, "s"); list && !has(name) && has(one) {
		return one
	}
	return name
}

// sentence is an error's text without the kind of error and the field in front,
// which stand elsewhere.
func sentence(err error) string {
	text := err.Error()
	var field *orchestrator.FieldError
	if errors.As(err, &field) {
		text = strings.TrimPrefix(field.Error(), orchestrator.ErrInvalid.Error()+": ")
		return strings.TrimPrefix(text, field.Field+": ")
	}
	return strings.TrimPrefix(text, orchestrator.ErrInvalid.Error()+": ")
}

func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

// internalProblem is the problem of a failure of ours, which the log explains under the id of the request.
func internalProblem(id string) *huma.ErrorModel {
	p := newProblem(http.StatusInternalServerError, "Something went wrong inside davit; the log of the server has it under request "+id+".")
	p.Instance = "urn:davit:request:" + id
	return p
}

// wrongParameter is the problem of one parameter, "query.NAME" or "header.NAME".
func wrongParameter(location, value, detail string) error {
	p := newProblem(http.StatusUnprocessableEntity, detail)
	p.Errors = []*huma.ErrorDetail{{Location: location, Message: detail, Value: value}}
	return p
}

// busy is the answer when too many requests of one kind are under way.
func busy(detail string) error {
	return huma.ErrorWithHeaders(newProblem(http.StatusTooManyRequests, detail), http.Header{"Retry-After": {"2"}})
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("Content-Length")
	w.WriteHeader(p.Status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(outward(p, nil))
}

// explain is a huma transformer: it turns huma's problems into ours.
func (a *API) explain(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	var body *bodySchema
	if op := ctx.Operation(); op != nil && op.RequestBody != nil && op.RequestBody.Content["application/json"] != nil {
		body = &bodySchema{op.RequestBody.Content["application/json"].Schema, a.spec.Components.Schemas}
	}
	return outward(p, body), nil
}

// outward gives validation problems a detail that names what is wrong, keeps
// echoed values short, and says by JSON pointers where in the body it stands.
func outward(p *huma.ErrorModel, body *bodySchema) *Problem {
	out := &Problem{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail, Instance: p.Instance}
	var sentences []string
	for _, e := range p.Errors {
		if e == nil {
			continue
		}
		f := ProblemField{Location: e.Location, Message: e.Message, Value: short(e.Value)}
		if p := body.pointer(e.Location, e.Message); p != "" {
			f.Pointer, f.Location = p, ""
		}
		if len(out.Errors) < maxFieldErrors {
			out.Errors = append(out.Errors, f)
		}
		sentences = append(sentences, where(f)+": "+e.Message)
	}
	const most = 3
	if n := len(sentences); n > most {
		sentences = append(sentences[:most], "and "+strconv.Itoa(n-most)+" more")
	}
	if p.Detail == "validation failed" {
		out.Detail = "The request is not valid. " + strings.Join(sentences, "; ") + "."
	}
	return out
}

// where names a field for people.
func where(f ProblemField) string {
	switch {
	case f.Pointer != "":
		return f.Pointer
	case f.Location != "":
		return f.Location
	}
	return "request"
}

// short is a value as it may be echoed, nil if it is long.
func short(v any) any {
	if s, ok := v.(string); ok && len(s) > errorBudget {
		return strings.ToValidUTF8(s[:errorBudget], "") + "…"
	}
	if b, err := json.Marshal(v); err != nil || len(b) > errorBudget {
		return nil
	}
	return v
}
