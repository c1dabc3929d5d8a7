package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/internal/logevent"
	"davit/orchestrator"
)

// AuditQuery chooses entries of the audit log.
type AuditQuery struct {
	Actor  string    `query:"actor" maxLength:"256" doc:"Only what this user did, or USER/TOKEN."`
	Action string    `query:"action" maxLength:"64" doc:"Only this action: create, update, delete, start, pause and so on."`
	Kind   string    `query:"kind" maxLength:"64" doc:"Only what was done to this kind of record: image_type, device_type, image, device, group, job, claim, bridge, user or token."`
	Object string    `query:"id" maxLength:"256" doc:"Only what was done to the record with this id; it needs kind."`
	From   time.Time `query:"from" doc:"Only what was done at this time (RFC 3339) or later."`
	To     time.Time `query:"to" doc:"Only what was done before this time (RFC 3339)."`
}

func (q AuditQuery) filter() orchestrator.AuditFilter {
	return orchestrator.AuditFilter{Actor: q.Actor, Action: q.Action, Kind: q.Kind, ID: q.Object, From: q.From, To: q.To}
}

type auditInput struct {
	AuditQuery
	PageQuery
}

func (a *API) auditRoutes(api huma.API) {
	route(a, api, "GET /v1/audit", "list audit entries",
		func(ctx context.Context, in *auditInput) (*bodyOf[Page[orchestrator.AuditEntry]], error) {
			return listing(a.options.Service.AuditEntries(ctx, in.filter(), in.page()))
		}, describe("Who did what, the newest first. "+partial))
	route(a, api, "GET /v1/audit/export", "export audit", a.exportAudit, func(op *huma.Operation) {
		op.Responses = map[string]*huma.Response{"200": {
			Description: "One entry of the audit log per line",
			Content:     map[string]*huma.MediaType{"application/jsonl": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}}
	}, describe("The whole log, or what the filters choose of it, as JSON lines, the newest first: each line is an entry as GET /v1/audit has it. The answer is whole only if it ends in order."))
}

// exportAudit streams the log a page at a time.
func (a *API) exportAudit(ctx context.Context, in *AuditQuery) (*huma.StreamResponse, error) {
	page := orchestrator.Page{Limit: orchestrator.MaxPageLimit}
	items, next, err := a.options.Service.AuditEntries(ctx, in.filter(), page)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "application/jsonl")
		w.Header().Set("Content-Disposition", `attachment; filename="davit-audit.jsonl"`)
		w.WriteHeader(http.StatusOK)
		if err := a.writeAudit(ctx, w, in.filter(), items, next); err != nil {
			if ctx.Err() == nil {
				a.options.Log.Error("the export of the audit log broke off", "event", logevent.AuditExportBroken, "request", requestID(ctx), "error", err)
			}
			panic(http.ErrAbortHandler) // only breaking the answer off tells the client
		}
	}}, nil
}

func (a *API) writeAudit(ctx context.Context, w http.ResponseWriter, f orchestrator.AuditFilter, items []orchestrator.AuditEntry, next string) error {
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	for {
		for i := range items {
			if err := lines.Encode(&items[i]); err != nil {
				return err
			}
		}
		if next == "" {
			return out.Flush()
		}
		var err error
		items, next, err = a.options.Service.AuditEntries(ctx, f, orchestrator.Page{After: next, Limit: orchestrator.MaxPageLimit})
		if err != nil {
			return err
		}
	}
}
