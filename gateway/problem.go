package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
	"davit/schemas"
)

// Every error answer is a problem of RFC 9457 (application/problem+json) whose
// detail is a sentence for a person. Field errors are listed in "errors".

// errorBudget is how much of a refused value is echoed in a field error.
const errorBudget = 128

// statusOf maps the orchestrator's kinds of error to HTTP.
func statusOf(err error) int {
	switch {
	case errors.Is(err, orchestrator.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, orchestrator.ErrExists), errors.Is(err, orchestrator.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, orchestrator.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, orchestrator.ErrNoSpace):
		return http.StatusInsufficientStorage
	case errors.Is(err, orchestrator.ErrInvalid), errors.Is(err, schemas.ErrID), errors.Is(err, schemas.ErrPayload):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// problem turns an error of a handler into the answer. An error of no known
// kind is logged and answered without its text, which may tell too much; the
// request id connects the two.
func (a *API) problem(ctx context.Context, op huma.Operation, err error) error {
	var known huma.StatusError
	if errors.As(err, &known) {
		return err
	}
	status := statusOf(err)
	if status == http.StatusNotFound && op.DefaultStatus == http.StatusCreated {
		// The path is there; what the request refers to is not.
		status = http.StatusUnprocessableEntity
	}
	if status != http.StatusInternalServerError {
		return newProblem(status, err.Error())
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "The request was abandoned before it was done.")
	}
	id := requestID(ctx)
	a.options.Log.Error("request failed", "operation", op.OperationID, "request_id", id, "error", err)
	p := newProblem(status, "Something went wrong inside davit; the log of the server has it under request "+id+".")
	p.Instance = "urn:davit:request:" + id
	return p
}

func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
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
	_ = json.NewEncoder(w).Encode(p)
}

// explain is a huma transformer: it gives validation problems a detail that
// names what is wrong, and keeps echoed values short.
func explain(_ huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok || len(p.Errors) == 0 {
		return v, nil
	}
	explained := *p
	explained.Errors = make([]*huma.ErrorDetail, 0, len(p.Errors))
	var sentences []string
	for _, e := range p.Errors {
		if e == nil {
			continue
		}
		short := *e
		if s, ok := e.Value.(string); ok && len(s) > errorBudget {
			short.Value = s[:errorBudget] + "…"
		} else if b, err := json.Marshal(e.Value); err != nil || len(b) > errorBudget {
			short.Value = nil
		}
		explained.Errors = append(explained.Errors, &short)
		where := short.Location
		if where == "" {
			where = "request"
		}
		sentences = append(sentences, where+": "+short.Message)
	}
	const most = 3
	if n := len(sentences); n > most {
		sentences = append(sentences[:most], "and "+strconv.Itoa(n-most)+" more")
	}
	if p.Detail == "validation failed" {
		explained.Detail = "The request is not valid. " + strings.Join(sentences, "; ") + "."
	}
	return &explained, nil
}
