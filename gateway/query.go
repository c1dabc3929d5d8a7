package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// What a request says has to be what is checked and what is done. Otherwise the schema is held
// against the field "id", and encoding/json takes "ID" for it if that stands behind.
func init() { huma.ValidateStrictCasing = true }

// oneReading refuses a request whose query can be read in more than one way: the names in it are
// looked for by net/url, and values by huma, which finds no value where an escape is malformed,
// takes a name without a value for true, or for a part of the name behind it, and reads the
// first of several values. Without its min_version an image would be for every device, and
// without its dry_run a list would be imported.
func oneReading(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if p := ambiguous(r.URL.RawQuery, ctx.Operation().Parameters); p != nil {
		writeProblem(w, p)
		return
	}
	next(ctx)
}

// ambiguous is what is wrong with a query, nil if it has one reading.
func ambiguous(raw string, parameters []*huma.Param) *huma.ErrorModel {
	if raw == "" {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return queryProblem("query", "the query is malformed ("+err.Error()+"); within a value write % as %25, ; as %3B and & as %26")
	}
	for part := range strings.SplitSeq(raw, "&") {
		if part != "" && !strings.Contains(part, "=") {
			return queryProblem("query", fmt.Sprintf("%.40q has no value; write NAME=VALUE", part))
		}
	}
	for _, p := range parameters {
		if p.In == "query" && len(query[p.Name]) > 1 && (p.Explode == nil || !*p.Explode) {
			return queryProblem("query."+p.Name, "it stands more than once, and has one value")
		}
	}
	return nil
}

func queryProblem(location, message string) *huma.ErrorModel {
	p := newProblem(http.StatusUnprocessableEntity, "The request is not valid. "+location+": "+message+".")
	p.Errors = []*huma.ErrorDetail{{Location: location, Message: message}}
	return p
}
