package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// secure sets what every answer carries, whatever its route adds.
func (a *API) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		// Not "no-referrer": that makes browsers send "Origin: null" with forms, and
		// the origin is what tells our forms from those of other sites.
		h.Set("Referrer-Policy", "same-origin")
		// For whatever is no page of the console, which has a policy of its own.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY") // what browsers from before frame-ancestors know
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate finds out who makes a request, by bearer token or by session cookie,
// and puts the principal and the actor into its context. Below /v1 it lets nobody
// else pass; the console sends its visitors to sign in by itself. The routes for
// probes and the API's document know nobody.
func (a *API) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api := strings.HasPrefix(r.URL.Path, "/v1/")
		from := a.proxies.origin(r)
		if !api && ownPath(r.URL.Path) {
			if strings.HasPrefix(r.URL.Path, "/openapi") { // the others are for probes, and cheap
				leave := a.admit(w, nil, from.address)
				if leave == nil {
					return
				}
				defer leave()
			}
			next.ServeHTTP(w, r)
			return
		}
		ctx := context.WithValue(r.Context(), originKey{}, from)
		known := r.WithContext(ctx)
		// What routes the request says by which pattern, which the metrics need.
		defer func() { r.Pattern = known.Pattern }()
		who, err := a.who(known)
		if err != nil && !errors.Is(err, people.ErrNoSession) {
			a.unknown(w, known, err)
			return
		}
		leave := a.admit(w, who.principal, from.address)
		if leave == nil {
			return
		}
		defer leave()
		if p := a.foreign(known, who); p != nil {
			a.options.Metrics.signInFailed()
			writeProblem(w, p)
			return
		}
		if who.principal == nil && api {
			a.unauthorized(w, who, err)
			return
		}
		*known = *known.WithContext(who.context(ctx, from.address))
		next.ServeHTTP(w, known)
	})
}

// visitor is who makes a request, and how that is known.
type visitor struct {
	principal *people.Principal // nil for nobody
	token     bool              // a bearer token was sent
	cookie    bool              // a session cookie was sent, and no token
	// again finds the principal anew, for requests that go on for long.
	again func(context.Context) (people.Principal, error)
}

// who finds the principal of a request. A token that is sent counts alone, good
// or not.
func (a *API) who(r *http.Request) (v visitor, err error) {
	var p people.Principal
	if token, ok := bearer(r); ok {
		v.token = true
		p, err = a.options.People.Bearer(r.Context(), token)
		v.again = func(ctx context.Context) (people.Principal, error) { return a.options.People.PeekBearer(ctx, token) }
	} else if token := SessionToken(r); token != "" {
		v.cookie = true
		p, err = a.options.People.Session(r.Context(), token)
		v.again = func(ctx context.Context) (people.Principal, error) { return a.options.People.PeekSession(ctx, token) }
	} else {
		return v, nil
	}
	if err == nil {
		v.principal = &p
	}
	return v, err
}

// context says to everything below who makes the request.
func (v visitor) context(ctx context.Context, address string) context.Context {
	p := people.Principal{User: people.AnonymousUser}
	if v.principal != nil {
		p = *v.principal
		ctx = context.WithValue(people.WithPrincipal(ctx, p), againKey{}, v.again)
	}
	return orchestrator.WithActor(ctx, p.Actor(address, requestID(ctx)))
}

type againKey struct{}

// stillMay asks again whether whoever makes a request may carry out an operation: a
// session or a token that has ended since, or a user who has been disabled, ends
// what goes on in their name too. The error is people.ErrNoSession if they may not.
func stillMay(ctx context.Context, operation string) error {
	again, ok := ctx.Value(againKey{}).(func(context.Context) (people.Principal, error))
	if !ok {
		return people.ErrNoSession
	}
	p, err := again(ctx)
	if err == nil && !p.Allowed(operation) {
		err = people.ErrNoSession
	}
	return err
}

// foreign refuses requests that another site makes a browser send. A request with a
// session's cookie that may change something has to say where it comes from, as
// every browser does; one with a token needs no such protection, because no
// browser adds a token by itself.
func (a *API) foreign(r *http.Request, v visitor) *huma.ErrorModel {
	if v.token {
		return nil
	}
	if err := a.crossOrigin.Check(r); err != nil {
		return newProblem(http.StatusForbidden, "The request comes from another site than this server: "+err.Error()+
			". If the server stands behind a proxy, tell it its address with --public-url.")
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if v.cookie && !safe && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return newProblem(http.StatusForbidden, "A request that is signed in by cookie and changes something needs the header Origin or Sec-Fetch-Site, which browsers send; programs use an API token.")
	}
	return nil
}

// unauthorized answers a request below /v1 of which it is not known who makes it.
func (a *API) unauthorized(w http.ResponseWriter, v visitor, err error) {
	a.options.Metrics.signInFailed()
	detail := "This needs an API token: send the header \"Authorization: Bearer TOKEN\". The first token is in the file admin.token of the server's data folder."
	challenge := `Bearer realm="davit"`
	switch {
	case v.token:
		detail = "The API token is not one that this server accepts: " + reasonOf(err) + "."
		challenge = `Bearer realm="davit", error="invalid_token"`
	case v.cookie:
		detail = "The session is not one that this server accepts: " + reasonOf(err) + "; sign in again."
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeProblem(w, newProblem(http.StatusUnauthorized, detail))
}

// reasonOf is why a token or a session is refused; it is told to whoever holds it.
func reasonOf(err error) string {
	return strings.TrimPrefix(err.Error(), people.ErrNoSession.Error()+": ")
}

// unknown answers when it cannot be found out who makes a request.
func (a *API) unknown(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		writeProblem(w, newProblem(http.StatusServiceUnavailable, "The request was abandoned before it was done."))
		return
	}
	id := requestID(r.Context())
	a.options.Log.Error("it cannot be found out who makes a request", "event", logevent.IdentityUnknown, "request", id, "error", err)
	writeProblem(w, internalProblem(id))
}

// guard lets only those pass to an operation whom the matrix of operations
// (people.Operations) allows it, before anything of the request is read. An
// operation that the matrix does not have makes NewAPI fail.
func (a *API) guard(operation string) func(huma.Context, func(huma.Context)) {
	op, ok := people.OperationByID(operation)
	if !ok {
		a.unlisted = append(a.unlisted, operation)
	}
	return func(ctx huma.Context, next func(huma.Context)) {
		if p := refusal(ctx.Context(), op); p != nil {
			a.options.Metrics.forbidden()
			_, w := humago.Unwrap(ctx)
			writeProblem(w, p)
			return
		}
		next(ctx)
	}
}

// refusal is the problem of whoever may not carry out an operation, nil for
// whoever may.
func refusal(ctx context.Context, op people.Operation) *huma.ErrorModel {
	principal, ok := people.PrincipalOf(ctx)
	switch {
	case !ok:
		return newProblem(http.StatusUnauthorized, "This needs somebody who has signed in.")
	case principal.May(op.Scope):
		return nil
	case !principal.Role.Has(op.Scope):
		return newProblem(http.StatusForbidden, fmt.Sprintf("%q takes the scope %s, which the role %s is the first to have; %s has the role %s.",
			op.ID, op.Scope, lowest(op.Scope), principal.User, principal.Role))
	}
	return newProblem(http.StatusForbidden, fmt.Sprintf("%q takes the scope %s, which the role %s is the first to have; this token of %s is restricted to %s.",
		op.ID, op.Scope, lowest(op.Scope), principal.User, scopeList(principal.Scopes)))
}

// lowest is the first role that has a scope.
func lowest(s people.Scope) people.Role {
	roles := people.Roles()
	return roles[slices.IndexFunc(roles, func(r people.Role) bool { return r.Has(s) })]
}

func scopeList(scopes []people.Scope) string {
	text := make([]string, len(scopes))
	for i, s := range scopes {
		text[i] = string(s)
	}
	return strings.Join(text, ", ")
}

// signInProblem turns the errors of signing in into problems; nil for others.
func signInProblem(err error) error {
	var locked *people.LockedError
	var many *people.TooManyTriesError
	switch {
	case errors.As(err, &many):
		seconds := max(int(many.RetryAfter.Seconds()+0.999), 1)
		return huma.ErrorWithHeaders(newProblem(http.StatusTooManyRequests, err.Error()), http.Header{"Retry-After": {strconv.Itoa(seconds)}})
	case errors.As(err, &locked):
		return newProblem(http.StatusForbidden, err.Error())
	case errors.Is(err, people.ErrSignIn):
		return newProblem(http.StatusForbidden, "The old password is wrong.")
	}
	return nil
}
