package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

type importInput struct {
	Credentials bool `query:"credentials" default:"true" doc:"Give each device a password for the broker; false for devices behind a bridge."`
	DryRun      bool `query:"dry_run" doc:"Only check the list; the answer is 200 with the report whether or not something is wrong."`

	body rawBody
}

// Resolve implements huma.Resolver.
func (in *importInput) Resolve(ctx huma.Context) []error {
	in.body.take(ctx)
	return nil
}

var _ huma.Resolver = (*importInput)(nil)

func (a *API) importRoutes(api huma.API) {
	route(a, api, "POST /v1/devices/import", "import devices", a.importDevices,
		describe("Makes many devices known, all of them or none, at most "+strconv.Itoa(maxImport)+": either a CSV file (RFC 4180, UTF-8), whose first line names the columns id and type and, by their name or as label.NAME, labels; "+
			"or a JSON list. The report has a line for each device, with its password this once. If lines are wrong, the answer is 422 and errors has each of them: location \"line N\" for CSV, a pointer for JSON. "+
			"If an import broke off before the passwords, repeating it finishes it."))
	// Said only now, so that huma leaves the body to the handler.
	doc := api.OpenAPI()
	operationAt(doc, http.MethodPost, "/v1/devices/import").RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"text/csv":         {Schema: &huma.Schema{Type: huma.TypeString}, Example: "id,type,site\npump-1,pump,north\npump-2,pump,south\n"},
		"application/json": {Schema: doc.Components.Schemas.Schema(reflect.TypeFor[[]orchestrator.NewDevice](), true, "")},
	}}
}

func (a *API) importDevices(ctx context.Context, in *importInput) (*bodyOf[ImportReport], error) {
	r := in.body.request
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	read := ReadDevicesCSV
	switch {
	case err == nil && media == "application/json":
		read = readDevicesJSON
	case err != nil || media != "text/csv":
		return nil, newProblem(http.StatusUnsupportedMediaType, "A list of devices is text/csv or application/json; the Content-Type says which.")
	}
	list, err := read(http.MaxBytesReader(in.body.writer, r.Body, maxBody))
	if err != nil {
		return nil, importBroken(err)
	}
	report, err := a.provision.Import(ctx, list, in.Credentials, in.DryRun)
	if err == nil && report.Wrong > 0 && !in.DryRun {
		return nil, report.problem(media == "application/json")
	}
	return one(report, err)
}

// importBroken is the problem of a body that could not be read to its end, or
// is no list.
func importBroken(err error) error {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("The list is longer than %d bytes; import it in parts.", long.Limit))
	case errors.Is(err, errBodyStalled):
		return newProblem(http.StatusRequestTimeout, "The list stalled and was given up; nothing was imported.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(http.StatusBadRequest, "The list broke off; nothing was imported.")
	case errors.Is(err, orchestrator.ErrInvalid):
		p := newProblem(http.StatusUnprocessableEntity, "Nothing was imported: "+sentence(err)+".")
		p.Errors = []*huma.ErrorDetail{{Location: "body", Message: sentence(err)}}
		return p
	}
	return newProblem(http.StatusBadRequest, fmt.Sprintf("The list broke off (%v); nothing was imported.", err))
}

// problem says which lines are wrong.
func (r *ImportReport) problem(json bool) error {
	p := newProblem(http.StatusUnprocessableEntity, "")
	first := ""
	for i, l := range r.Lines {
		if l.Result != ImportError {
			continue
		}
		location := "line " + strconv.Itoa(l.Line)
		if first == "" {
			first = location + ": " + l.Error
		}
		if json {
			location = "/" + strconv.Itoa(i) + fieldPointer(r.causes[i])
		}
		p.Errors = append(p.Errors, &huma.ErrorDetail{Location: location, Message: l.Error})
	}
	p.Detail = fmt.Sprintf("Nothing was imported, because %d of %d lines are wrong. %s", r.Wrong, len(r.Lines), first)
	return p
}
