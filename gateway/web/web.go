package web

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"davit/gateway"
	"davit/gateway/people"
)

// Service is the orchestrator as the console uses it: the API's own.
type Service = gateway.Service

// Options configure the console.
type Options struct {
	// Service is what the console works on.
	Service Service
	// Storage is the service's data folder; nil for none.
	Storage gateway.Storage
	// People are those who may sign in.
	People *people.Directory
	// Provision registers devices and bridges with their credentials.
	Provision *gateway.Provisioner
	// OIDC names the OpenID Connect provider on the sign-in page; empty if there is
	// none.
	OIDC string
	// Version of davit, for the help page.
	Version string
	// MaxUpload is the longest image file in bytes as it is sent; 0 leaves it to the
	// service.
	MaxUpload int64
	// MaxImage is the largest image in bytes that the service takes, for the page
	// of uploads; 0 if it is not to be told.
	MaxImage int64
	// Uploads are the slots for uploads, the API's own; nil makes new ones.
	Uploads *gateway.Slots
	// Now is the clock against which times are told; time.Now if it is nil.
	Now func() time.Time
	Log *slog.Logger
}

// Console is the console: an http.Handler for everything that is not the API's.
// Requests come with the principal in their context (people.PrincipalOf), which the
// gateway's middleware has put there; it also keeps requests of other sites out.
type Console struct {
	service   Service
	people    *people.Directory
	provision *gateway.Provisioner
	options   Options
	now       func() time.Time
	mux       *http.ServeMux
	static    *assets
	views     *views
	routes    []route
}

// New builds the console.
func New(o Options) (*Console, error) {
	if o.Service == nil || o.People == nil || o.Provision == nil || o.Log == nil {
		return nil, errors.New("the console needs Service, People, Provision and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Storage == nil {
		o.Storage = gateway.NoStorage{}
	}
	if o.Uploads == nil {
		o.Uploads = gateway.NewUploadSlots()
	}
	c := &Console{
		service: o.Service, people: o.People, provision: o.Provision, options: o, now: o.Now, mux: http.NewServeMux(),
	}
	var err error
	if c.static, err = newAssets(); err != nil {
		return nil, err
	}
	if c.views, err = newViews(c); err != nil {
		return nil, err
	}
	c.mux.Handle("GET /static/", c.static)
	c.public("GET /favicon.ico", func(v *visit) error {
		http.Redirect(v.w, v.r, c.static.url("favicon.svg"), http.StatusMovedPermanently)
		return nil
	})
	c.public("/", func(v *visit) error { return errNotFound })
	for _, register := range c.parts() {
		register()
	}
	return c, nil
}

// policy is the Content-Security-Policy of every page: all that a page uses comes
// from this server, and nothing in a page runs by itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	c.mux.ServeHTTP(w, r)
}
