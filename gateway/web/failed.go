package web

import (
	"errors"
	"net/http"
	"strings"

	"davit/gateway"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// statusOf is the HTTP status of an error.
func statusOf(err error) int {
	var forbidden *forbiddenError
	switch {
	case errors.As(err, &forbidden):
		return http.StatusForbidden
	case errors.Is(err, errNotFound):
		return http.StatusNotFound
	}
	return gateway.StatusOf(err)
}

// explainable says whether an error's text is for people: it is about what they
// asked for, not about a fault of the service.
func explainable(err error) bool { return statusOf(err) != http.StatusInternalServerError }

// sentence is the text of an error as people read it: without the word for its
// kind in front, with a capital and a full stop.
func sentence(err error) string {
	s := err.Error()
	for _, kind := range []error{orchestrator.ErrInvalid, orchestrator.ErrConflict} {
		s = strings.TrimPrefix(s, kind.Error()+": ")
	}
	return asSentence(s)
}

func asSentence(s string) string {
	if s == "" {
		return s
	}
	if first := s[0]; first >= 'a' && first <= 'z' {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "?") && !strings.HasSuffix(s, "!") {
		s += "."
	}
	return s
}

// trouble is what the page of an error shows.
type trouble struct {
	Status  int
	Text    string
	Hint    string
	Request string
}

// failed answers with the page of an error.
func (v *visit) failed(err error) {
	t := trouble{Status: statusOf(err), Request: v.w.Header().Get("X-Request-Id")}
	title := "Something went wrong"
	var forbidden *forbiddenError
	switch {
	case errors.As(err, &forbidden):
		title = "You may not do this"
		t.Text = "This takes the role " + string(forbidden.lowestRole()) + "; yours is " + string(v.who.Role) + "."
		t.Hint = "Ask an administrator, who can change roles under People."
	case errors.Is(err, errNotFound):
		title, t.Text = "There is nothing here", "No page has the address "+v.r.URL.Path+"."
		t.Hint = "What you look for may have been deleted or renamed."
	case t.Status == http.StatusNotFound:
		title, t.Text = "This does not exist", sentence(err)
		t.Hint = "It may have been deleted meanwhile."
	case t.Status == http.StatusInternalServerError:
		if v.ctx().Err() != nil {
			return // nobody is there to read it
		}
		v.options.Log.Error("page failed", "event", logevent.PageFailed, "method", v.r.Method, "path", v.r.URL.Path, "request", t.Request, "error", err)
		t.Text = "The server could not do this; its log has the reason."
		t.Hint = "Try again; if it stays, tell whoever runs this server."
	default:
		title, t.Text = "This was not done", sentence(err)
	}
	if err := v.renderStatus(t.Status, "error", page{Title: title, Data: t, Bare: !v.signed}); err != nil {
		v.options.Log.Error("page of an error failed", "event", logevent.ErrorPageFailed, "path", v.r.URL.Path, "error", err)
		http.Error(v.w, t.Text, t.Status)
	}
}
