package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/internal/logonce"
	"davit/internal/trace"
	"davit/orchestrator"
	"davit/schemas"
)

//go:generate go test . -run OpenAPIIsUpToDate -update-openapi

// APIOptions configure the HTTP API.
type APIOptions struct {
	// Service is what the API offers; normally *orchestrator.Service.
	Service Service
	// Storage is the service's data folder; nil for none.
	Storage Storage
	// Credentials are those of devices and bridges.
	Credentials Credentials
	// People are those who may use the API, and their tokens.
	People *people.Directory
	// OIDC signs people in through OpenID Connect at /sign-in/oidc; nil leaves
	// it out.
	OIDC *people.OIDC
	// TrustedProxies are networks such as 10.0.0.0/8 whose X-Forwarded-For and
	// X-Forwarded-Proto are believed.
	TrustedProxies []string
	// PublicURL is where browsers find the console, if that is not the address
	// that requests name (behind a proxy); empty if it is.
	PublicURL string
	// Provision keeps devices and bridges with their credentials; nil makes one
	// of Service and Credentials. Whoever else adds devices has to share it.
	Provision *Provisioner
	// Console answers every path outside /v1 that is not one of the API's own;
	// nil leaves it out. It does its own redirecting to the sign-in.
	Console http.Handler
	// Checks have to pass for /readyz to say yes, Live for /livez.
	Checks, Live []Check
	// System tells of the program and its machine for the status; nil leaves that out.
	System func() SystemStatus
	// Connected counts the devices whose connection stands by device type; nil if the broker
	// is another program's, which does not say.
	Connected func() map[string]int
	// MetricsHandler answers /metrics; nil leaves it out.
	MetricsHandler http.Handler
	// MaxUpload is the longest image file in bytes as it is sent; 0 means
	// DefaultMaxUpload. The image itself has limits of its own.
	MaxUpload int64
	// RequestRate is how many requests a second one token or user may make, after five
	// seconds' worth at once, and a quarter of that an address that has not signed in; 0 means
	// DefaultRequestRate.
	RequestRate int
	// Uploads are the slots for uploads; nil makes new ones. Whoever else receives
	// uploads has to share them.
	Uploads *Slots
	// Metrics may be nil; Log must not.
	Metrics *Metrics
	Log     *slog.Logger
	// Tracer traces requests; nil traces none.
	Tracer *trace.Tracer
	// Levels are those of Log; nil if they cannot be changed.
	Levels *logevent.Levels
}

// DefaultMaxUpload is the longest image file in bytes unless told otherwise: 12 GiB,
// enough for the largest image as Intel HEX.
const DefaultMaxUpload = 12 << 30

// Limits of the API.
const (
	// maxBody is the longest JSON body; a job may name many devices.
	maxBody      = 8 << 20
	maxUploads   = 8   // at the same time
	maxLongPolls = 512 // at the same time
	maxStreams   = 512 // of events, at the same time
)

// API is the HTTP API: an http.Handler.
type API struct {
	options   APIOptions
	handler   http.Handler
	spec      *huma.OpenAPI
	polls     *Slots // of long polls under way
	streams   *Slots // of streams of events
	traffic   *traffic
	ready     *Health
	live      *Health
	logged    logonce.Limit
	provision *Provisioner
	unlisted  []string // operations that the matrix does not have

	proxies     proxies
	crossOrigin *http.CrossOriginProtection
}

// NewAPI builds the API.
func NewAPI(o APIOptions) (*API, error) {
	if o.People == nil || o.Log == nil {
		return nil, errors.New("the API needs People and Log")
	}
	setDefault(&o.MaxUpload, DefaultMaxUpload)
	setDefault(&o.RequestRate, DefaultRequestRate)
	if o.Storage == nil {
		o.Storage = NoStorage{}
	}
	if o.Uploads == nil {
		o.Uploads = NewUploadSlots()
	}
	mux := http.NewServeMux()
	a := &API{
		options: o,
		polls:   newSlots(maxLongPolls),
		streams: newSlots(maxStreams),
		traffic: newTraffic(o.RequestRate),
		ready:   NewReadiness(o.Checks),
		live:    NewLiveness(o.Live),

		provision: o.Provision,
	}
	if err := a.guardOrigins(); err != nil {
		return nil, err
	}
	if a.provision == nil {
		a.provision = NewProvisioner(o.Service, o.Credentials)
	}
	api := humago.New(mux, a.humaConfig())
	a.spec = api.OpenAPI()
	a.imageTypeRoutes(api)
	a.deviceTypeRoutes(api)
	a.imageRoutes(api)
	a.uploadRoutes(api)
	a.deviceRoutes(api)
	a.importRoutes(api)
	a.bridgeRoutes(api)
	a.claimRoutes(api)
	a.groupRoutes(api)
	a.jobRoutes(api)
	a.fleetRoutes(api)
	a.auditRoutes(api)
	a.storageRoutes(api)
	a.peopleRoutes(api)
	a.logRoutes(api)
	if len(a.unlisted) > 0 {
		return nil, fmt.Errorf("operations %q are not in the matrix of gateway/people/operations.go, so nobody may do them", a.unlisted)
	}
	finishDocument(a.spec)
	a.plainRoutes(mux)
	a.handler = a.observe(a.secure(a.wellFormed(a.authenticate(mux))))
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Ready is what /readyz tells; whoever serves the API runs it.
func (a *API) Ready() *Health { return a.ready }

// OpenAPI returns the OpenAPI 3.1 document as YAML.
func (a *API) OpenAPI() ([]byte, error) { return a.spec.YAML() }

func (a *API) humaConfig() huma.Config {
	c := huma.DefaultConfig("davit", "1")
	c.Info.Description = "The HTTP API of davit: image types, device types, images, devices, bridges, claims, groups, jobs and executions, people, events and the audit log.\n\n" +
		"Errors are problems of RFC 9457. Who asks more than they may is answered 429 with Retry-After and the limit; compressed bodies are answered 415. Listings return {\"items\", \"next\"}; pass next as after to go on, until it is absent."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	// No documentation page from elsewhere, no $schema links: the paths below are ours (plainRoutes).
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{a.explain}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token; the first one is in admin.token in the server's data folder."},
	}
	c.Security = []map[string][]string{{"token": {}}}
	// Durations stand in JSON as text, and the names of causes are those of the contract.
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[orchestrator.Duration](), reflect.TypeFor[durationText]())
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[[]schemas.Cause](), reflect.TypeFor[causeList]())
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[map[schemas.Cause]orchestrator.CauseRetry](), reflect.TypeFor[retryByCause]())
	// Records of any kind stand in the audit log as they are.
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[anyRecord]())
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[Problem]())
	return c
}

// plainRoutes are those outside /v1, which need no token.
func (a *API) plainRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /openapi.yaml", a.document("application/yaml", a.OpenAPI))
	mux.HandleFunc("GET /openapi.json", a.document("application/json", func() ([]byte, error) { return json.Marshal(a.spec) }))
	mux.Handle("GET /livez", a.live)
	mux.Handle("GET /readyz", a.ready)
	if a.options.MetricsHandler != nil {
		mux.Handle("GET /metrics", a.options.MetricsHandler)
	}
	if a.options.OIDC != nil {
		a.oidcRoutes(mux)
	}
	mux.HandleFunc("/", a.elsewhere(mux))
}

// document answers with what write returns. It is written when it is first asked for: most services start
// and end without anybody reading their OpenAPI document, and to write it takes longer than the rest of NewAPI.
func (a *API) document(contentType string, write func() ([]byte, error)) http.HandlerFunc {
	once := sync.OnceValues(write)
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := once()
		if err != nil {
			id := requestID(r.Context())
			a.options.Log.Error("the OpenAPI document cannot be written", "event", logevent.RequestFailed, "request", id, "error", err)
			writeProblem(w, internalProblem(id))
			return
		}
		w.Header().Set("Content-Type", contentType)
		// The client may be gone; there is nobody else to tell.
		_, _ = w.Write(text)
	}
}

// ID is the id in a path.
type ID struct {
	ID string `path:"id" maxLength:"64" doc:"The id"`
}

// PageQuery asks for a part of a listing.
type PageQuery struct {
	After string `query:"after" maxLength:"512" doc:"What next was in the answer before; absent for the first part."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most items to return."`
}

func (p PageQuery) page() orchestrator.Page { return orchestrator.Page{After: p.After, Limit: p.Limit} }

// Page is a part of a listing.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false" doc:"In the order of the listing"`
	Next  string `json:"next,omitempty" doc:"Pass it as after to go on; absent at the end."`
}

// Answers and requests with a JSON body, as huma wants them.
type (
	bodyOf[T any] struct{ Body T }
	nothing       struct{}
)

func listing[T any](items []T, next string, err error) (*bodyOf[Page[T]], error) {
	if err != nil {
		return nil, err
	}
	if items == nil {
		items = []T{}
	}
	return &bodyOf[Page[T]]{Page[T]{items, next}}, nil
}

func one[T any](v T, err error) (*bodyOf[T], error) {
	if err != nil {
		return nil, err
	}
	return &bodyOf[T]{v}, nil
}

// route registers an operation whose errors become problems. call is the
// method and the path, words the operation's id in words.
func route[I, O any](a *API, api huma.API, call, words string, fn func(context.Context, *I) (*O, error), opts ...func(*huma.Operation)) {
	method, path, _ := strings.Cut(call, " ")
	op := huma.Operation{
		OperationID: strings.ReplaceAll(words, " ", "-"), Method: method, Path: path,
		Summary: strings.ToUpper(words[:1]) + words[1:],
		Tags:    []string{strings.Split(path, "/")[2]},
		// The body's pace is pacedBody's to keep.
		BodyReadTimeout: -1, MaxBodyBytes: maxBody,
	}
	if strings.HasPrefix(words, "create ") {
		op.DefaultStatus = http.StatusCreated
	}
	for _, opt := range opts {
		opt(&op)
	}
	op.Middlewares = append(huma.Middlewares{a.guard(op.OperationID), oneReading}, op.Middlewares...)
	var registered *huma.Operation // with what huma finds in the types
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, registered, err)
		}
		return out, nil
	})
	registered = operationAt(api.OpenAPI(), method, path)
}

// describe adds a description to an operation.
func describe(text string) func(*huma.Operation) {
	return func(op *huma.Operation) { op.Description = text }
}
