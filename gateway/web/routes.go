package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"davit/gateway/people"
)

// route is one that needs somebody who may carry out an operation.
type route struct {
	pattern   string
	operation string
	// also are operations that the same route serves.
	also []string
}

// handler answers a visit. An error becomes the page that fits it (failed).
type handler func(*visit) error

// visit is one request for a page.
type visit struct {
	*Console
	w http.ResponseWriter
	r *http.Request
	// who asks; the zero value if nobody has signed in.
	who    people.Principal
	signed bool
	// since is the revision up to which the page shows what there is, at least: from
	// it on the page follows the changes. 0 is the present.
	since uint64
}

func (v *visit) ctx() context.Context { return v.r.Context() }

// path returns the value of a wildcard of the route's pattern.
func (v *visit) path(name string) string { return v.r.PathValue(name) }

// query returns a parameter of the request's query without space around it.
func (v *visit) query(name string) string { return strings.TrimSpace(v.r.URL.Query().Get(name)) }

// can says whether the visitor may carry out an operation.
func (v *visit) can(operation string) bool { return v.signed && v.who.Allowed(operation) }

// isPartial says whether htmx asks for a part of the page.
func (v *visit) isPartial() bool { return v.r.Header.Get("HX-Request") == "true" }

// handle registers a route for those who may carry out the operation. also names
// further operations that the route serves, for the test that holds the routes
// against people.Operations.
func (c *Console) handle(pattern, operation string, h handler, also ...string) {
	for _, id := range append([]string{operation}, also...) {
		if _, ok := people.OperationByID(id); !ok {
			panic("web: route " + pattern + ": no operation " + id)
		}
	}
	c.routes = append(c.routes, route{pattern, operation, also})
	c.public(pattern, func(v *visit) error {
		if !v.signed {
			return v.askToSignIn()
		}
		if !v.can(operation) {
			return &forbiddenError{operation}
		}
		if v.r.Method == http.MethodGet && !v.isPartial() {
			var err error
			if v.since, err = v.service.LastRev(v.ctx()); err != nil {
				return err
			}
		}
		return h(v)
	})
}

// signedIn registers a route for everybody who has signed in.
func (c *Console) signedIn(pattern string, h handler) {
	c.public(pattern, func(v *visit) error {
		if !v.signed {
			return v.askToSignIn()
		}
		return h(v)
	})
}

// public registers a route for everybody.
func (c *Console) public(pattern string, h handler) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Console: c, w: w, r: r}
		v.who, v.signed = people.PrincipalOf(r.Context())
		if v.who.Token != "" {
			// A page shows more than the one operation that its route is held to, and
			// a token may be restricted: programs use the API.
			v.who, v.signed = people.Principal{}, false
		}
		w.Header().Set("Cache-Control", "no-store")
		if err := h(v); err != nil {
			v.failed(err)
		}
	})
}

// askToSignIn sends the browser to the sign-in page, or, while there is nobody
// who could sign in, to the first-run page.
func (v *visit) askToSignIn() error {
	to := "/sign-in"
	if v.r.Method == http.MethodGet && v.r.URL.Path != "/" {
		to += "?" + url.Values{"next": {v.r.URL.RequestURI()}}.Encode()
	}
	if empty, err := v.people.Empty(v.ctx()); err != nil {
		return err
	} else if empty {
		to = "/welcome"
	}
	v.goTo(to)
	return nil
}

// goTo redirects with 303, and htmx as a whole page.
func (v *visit) goTo(to string) {
	if v.isPartial() {
		v.w.Header().Set("HX-Redirect", to)
		v.w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
}

// redirect goes to another page and says there what was done.
func (v *visit) redirect(to, done string) error {
	if done != "" {
		v.flash(flash{Kind: flashOK, Text: done})
	}
	v.goTo(to)
	return nil
}

// outcome ends an action without a form: it goes to a page and says there that it
// was done, or why not. It returns errors that are the service's own fault.
func (v *visit) outcome(err error, to, done string) error {
	if err == nil {
		return v.redirect(to, done)
	}
	if !explainable(err) {
		return err
	}
	v.flash(flash{Kind: flashError, Text: sentence(err)})
	v.goTo(to)
	return nil
}

var errNotFound = errors.New("there is no such page")

// forbiddenError says that the visitor may not carry out an operation.
type forbiddenError struct{ operation string }

func (e *forbiddenError) Error() string { return "not allowed: " + e.operation }

// lowestRole is the first role that may carry out the operation.
func (e *forbiddenError) lowestRole() people.Role {
	op, _ := people.OperationByID(e.operation)
	i := slices.IndexFunc(people.Roles(), func(r people.Role) bool { return r.Has(op.Scope) })
	if i < 0 {
		return people.RoleAdmin
	}
	return people.Roles()[i]
}
