package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"davit/orchestrator"
)

const auditPath = "/audit"

func (c *Console) auditRoutes() {
	c.handle("GET /audit", "list-audit-entries", (*visit).auditLog, "export-audit")
}

// auditRow is an entry as people read it.
type auditRow struct {
	orchestrator.AuditEntry
	Verb, Object, URL string
	Changes           []change
	Cut               bool
}

// change is one field before and after.
type change struct{ Field, Before, After string }

func auditActions() []string {
	return []string{
		"create", "update", "delete", "import", "rotate", "archive", "restore", "start", "pause", "resume", "retry", "cancel",
		"approve", "install", "confirm", "sign", "claim", "revoke", "renew", "order-rotation",
		"sign-in", "sign-out", "sign-in-failed", "lock", "backup", "compact", "expire",
	}
}

func auditKinds() []string {
	return append(orchestrator.FeedKinds(), orchestrator.KindBridge, orchestrator.KindUser, orchestrator.KindToken, orchestrator.KindStorage)
}

func optionsOf(values []string) []option {
	out := []option{{"", "Any"}}
	for _, s := range values {
		out = append(out, option{s, strings.ReplaceAll(s, "_", " ")})
	}
	return out
}

func (v *visit) auditLog() error {
	f := v.filters("actor", "action", "kind", "id", "from", "to")
	filter := orchestrator.AuditFilter{Actor: f.Get("actor"), Action: f.Get("action"), Kind: f.Get("kind"), ID: f.Get("id")}
	filter.From = f.day("from", 0)
	filter.To = f.day("to", 24*time.Hour) // the day itself included
	data := struct {
		Rows     []auditRow
		Actions  []option
		Kinds    []option
		Filtered bool
		Export   string
		Pager    pager
	}{Actions: optionsOf(auditActions()), Kinds: optionsOf(auditKinds()), Filtered: f.any(), Export: exportURL(filter)}
	if !f.Bad() {
		entries, next, err := v.service.AuditEntries(v.ctx(), filter, orchestrator.Page{After: v.after(), Limit: pageSize})
		if err != nil && !f.Take(err) {
			return err
		}
		for _, e := range entries {
			data.Rows = append(data.Rows, rowOf(e))
		}
		data.Pager = v.pager(next)
	}
	return v.render("audit", page{Title: "Audit log", Nav: auditPath, Lead: "Who did what, when and from where.", Form: f, Data: data})
}

// day reads a date in UTC and adds to it.
func (f *form) day(name string, plus time.Duration) time.Time {
	if f.Get(name) == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, f.Get(name))
	if err != nil {
		f.Reject(name, "a date such as 2026-03-31")
		return time.Time{}
	}
	return t.Add(plus)
}

func exportURL(f orchestrator.AuditFilter) string {
	q := url.Values{}
	for name, value := range map[string]string{"actor": f.Actor, "action": f.Action, "kind": f.Kind, "id": f.ID} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			q.Set(name, at.Format(time.RFC3339))
		}
	}
	if len(q) == 0 {
		return "/v1/audit/export"
	}
	return "/v1/audit/export?" + q.Encode()
}

func rowOf(e orchestrator.AuditEntry) auditRow {
	r := auditRow{AuditEntry: e, Verb: verbOf(e.Action), Object: strings.ReplaceAll(e.Kind, "_", " ") + " " + objectName(e)}
	if e.ID == "" {
		r.Object = strings.ReplaceAll(e.Kind, "_", " ") + "s" // many at once, as by an import
	} else if e.Action != "delete" {
		r.URL = objectURL(e.Kind, e.ID)
	}
	r.Changes, r.Cut = changesBetween(e.Before, e.After)
	return r
}

// objectName is how people call what an entry is about: by its id, unless that is
// generated and the record has a name.
func objectName(e orchestrator.AuditEntry) string {
	record := e.After
	if len(record) == 0 {
		record = e.Before
	}
	var r struct {
		Name      string `json:"name"`
		FileName  string `json:"file_name"`
		ImageType string `json:"image_type"`
		Version   string `json:"version"`
	}
	if len(record) == 0 || json.Unmarshal(record, &r) != nil {
		return e.ID
	}
	switch {
	case e.Kind == orchestrator.KindImage && r.Version != "":
		return cmp.Or(r.Name, r.ImageType) + " " + r.Version
	case e.Kind == orchestrator.KindToken && r.Name != "":
		return r.Name
	case e.Kind == orchestrator.KindUpload && r.FileName != "":
		return r.FileName
	}
	return e.ID
}

func verbOf(action string) string {
	verbs := map[string]string{
		"create": "created", "update": "changed", "delete": "deleted", "import": "imported", "rotate": "gave a new password to", "archive": "archived",
		"restore": "restored", "start": "started", "pause": "paused", "resume": "resumed", "retry": "retried", "cancel": "canceled",
		"approve": "approved a wave of", "install": "had devices install", "confirm": "agreed to the update of devices by",
		"sign":    "attached a signed manifest to",
		"sign-in": "signed in:", "sign-out": "signed out:", "sign-in-failed": "failed to sign in:", "lock": "locked",
	}
	if verb := verbs[action]; verb != "" {
		return verb
	}
	return action + ":"
}

// objectURL is the page of a record, "" if it has none.
func objectURL(kind, id string) string {
	paths := map[string]string{
		orchestrator.KindImageType: "/image-types/", orchestrator.KindDeviceType: "/device-types/", orchestrator.KindImage: "/images/",
		orchestrator.KindDevice: "/devices/", orchestrator.KindGroup: "/groups/", orchestrator.KindJob: "/jobs/", orchestrator.KindExecution: "/executions/",
		orchestrator.KindBridge: "/bridges/", orchestrator.KindUser: "/people/",
	}
	if paths[kind] == "" || id == "" {
		return ""
	}
	return paths[kind] + url.PathEscape(id)
}

// changesBetween compares two records field by field; cut says that more fields
// differ than are shown.
func changesBetween(before, after json.RawMessage) (changes []change, cut bool) {
	const most = 40
	was, is := map[string]string{}, map[string]string{}
	flatten("", decodeAny(before), was)
	flatten("", decodeAny(after), is)
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if was[name] == is[name] || name == "revision" {
			continue
		}
		if len(changes) == most {
			return changes, true
		}
		changes = append(changes, change{name, was[name], is[name]})
	}
	return changes, false
}

func decodeAny(b json.RawMessage) any {
	if len(b) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(b)
	}
	return v
}

// flatten puts the leaves of a JSON value into out, under their paths.
func flatten(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for k, member := range v {
			flatten(strings.TrimPrefix(path+" / "+strings.ReplaceAll(k, "_", " "), " / "), member, out)
		}
	case []any:
		var plain []string
		for i, member := range v {
			switch member.(type) {
			case map[string]any, []any:
				flatten(fmt.Sprintf("%s / %d", path, i+1), member, out)
			default:
				plain = append(plain, fmt.Sprint(member))
			}
		}
		if len(plain) > 0 {
			out[path] = strings.Join(plain, ", ")
		}
	default:
		out[path] = fmt.Sprint(v)
	}
}
