package gateway

import (
	"errors"
	"html/template"
	"net/http"
	"strconv"

	"davit/gateway/people"
	"davit/internal/logevent"
)

// The cookie that binds a sign-in through OpenID Connect to the browser which began
// it. It is Lax and not Strict, because the provider sends the browser back from
// another site.
const (
	oidcSecureCookie = "__Host-davit-oidc"
	oidcPlainCookie  = "davit-oidc"
)

func oidcCookie(r *http.Request, value string) *http.Cookie {
	name := oidcPlainCookie
	if ClientSecure(r) {
		name = oidcSecureCookie
	}
	c := cookie(r, name, value)
	c.MaxAge = int(people.FlowLongest.Seconds())
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func (a *API) oidcRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in/oidc", a.oidcStart)
	mux.HandleFunc("GET "+people.CallbackPath, a.oidcCallback)
}

// oidcStart sends the browser to the provider.
func (a *API) oidcStart(w http.ResponseWriter, r *http.Request) {
	address, kept, err := a.options.OIDC.Begin(r.Context(), LocalPath(r.URL.Query().Get("next"), "/"))
	if err != nil {
		a.oidcFailed(w, r, err)
		return
	}
	http.SetCookie(w, oidcCookie(r, kept))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// oidcCallback signs in whom the provider sends back.
func (a *API) oidcCallback(w http.ResponseWriter, r *http.Request) {
	flow := oidcCookie(r, "")
	kept := ""
	if c, err := r.Cookie(flow.Name); err == nil {
		kept = c.Value
	}
	http.SetCookie(w, flow) // it serves once, whatever comes of it
	session, next, err := a.options.OIDC.Finish(r.Context(), r.URL.Query(), kept, ClientAddress(r))
	if err != nil {
		a.oidcFailed(w, r, err)
		return
	}
	if err := EndSession(r, a.options.People); err != nil {
		a.oidcFailed(w, r, err)
		return
	}
	SetSessionCookie(w, r, session)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, LocalPath(next, "/"), http.StatusSeeOther)
}

// oidcFailed shows why the sign-in did not work, and the way back.
func (a *API) oidcFailed(w http.ResponseWriter, r *http.Request, err error) {
	id := requestID(r.Context())
	var refused *people.RefusedError
	var provider *people.ProviderError
	var many *people.TooManyTriesError
	status, text := http.StatusInternalServerError, "Something went wrong inside davit; the log of the server has it under request "+id+"."
	switch {
	case errors.As(err, &refused):
		status, text = http.StatusForbidden, refused.Reason
		a.options.Log.Info("sign-in through OpenID Connect refused", "event", logevent.SignInRefused, "reason", refused.Reason, "remote", ClientAddress(r), "request", id)
	case errors.As(err, &many):
		status, text = http.StatusTooManyRequests, "There have been too many tries to sign in. Try again in a moment."
		w.Header().Set("Retry-After", strconv.Itoa(max(int(many.RetryAfter.Seconds()+0.999), 1)))
	case errors.As(err, &provider):
		status = http.StatusBadGateway
		text = "The OpenID Connect provider does not answer as it should; the log of the server has the reason under request " + id +
			". Try again later, or sign in with a password of davit's own."
		a.options.Log.Error("sign-in through OpenID Connect failed", "event", logevent.SignInBroken, "error", err, "request", id)
	default:
		a.options.Log.Error("sign-in through OpenID Connect failed", "event", logevent.SignInBroken, "error", err, "request", id)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = oidcPage().Execute(w, text)
}

// oidcPage is plain on purpose: it is shown when something is wrong.
func oidcPage() *template.Template {
	return template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Sign-in failed - davit</title></head>
<body><main><h1>Sign-in failed</h1><p role="alert">{{.}}</p><p><a href="/sign-in">Back to the sign-in</a></p></main></body>
</html>
`))
}
