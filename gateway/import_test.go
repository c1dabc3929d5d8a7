package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"davit/gateway"
	"davit/orchestrator"
)

func (r *apiRig) imports(query, contentType, body string) (answer, gateway.ImportReport) {
	r.t.Helper()
	a := r.ask("POST /v1/devices/import"+query, body, "Content-Type: "+contentType)
	var report gateway.ImportReport
	if a.status == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &report); err != nil {
			r.t.Fatal(err)
		}
	}
	return a, report
}

func (r *apiRig) devices() int {
	r.t.Helper()
	items, _, err := r.service.Devices(r.t.Context(), orchestrator.DeviceFilter{}, orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(items)
}

// TestImport reads what spreadsheets write.
func TestImport(t *testing.T) {
	for name, c := range map[string]struct{ contentType, body string }{
		"plain":         {"text/csv", "id,type,site,label.type\na,pump,north,x\nb,pump,,y\n"},
		"spreadsheet's": {"text/csv; charset=utf-8", "\xef\xbb\xbfID , Type,site,label.type\r\na,pump,\"north\",x\r\nb,pump,,y\r\n,,,\r\n\r\n"},
		"JSON":          {"application/json", `[{"id":"a","type":"pump","labels":{"site":"north","type":"x"}},{"id":"b","type":"pump","labels":{"type":"y"}}]`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAPI(t, nil)
			r.catalog()
			if a, report := r.imports("?dry_run=true", c.contentType, c.body); a.status != 200 || !report.DryRun || report.Wrong != 0 || len(report.Lines) != 2 || report.Lines[1].Result != gateway.ImportOK || r.devices() != 2 {
				t.Fatalf("dry run: %d %s", a.status, a.body)
			}
			a, report := r.imports("", c.contentType, c.body)
			if a.status != 200 || report.Imported != 2 || report.Lines[0].Password == "" || report.Lines[0].Password == report.Lines[1].Password || report.Lines[1].Result != gateway.ImportCreated || report.Lines[1].ID != "b" {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if b := r.must("GET /v1/devices/a", "").body; !strings.Contains(b, `"labels":{"site":"north","type":"x"}`) {
				t.Errorf("imported: %s", b)
			}
			if b := r.must("GET /v1/devices/b", "").body; !strings.Contains(b, `"labels":{"type":"y"}`) {
				t.Errorf("imported: %s", b)
			}
		})
	}
}

// TestImportRefused: every wrong line is named, and nothing is done.
func TestImportRefused(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("POST /v1/bridges", `{"id":"rack","devices":["pump-1"]}`)
	var columns strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&columns, "%x,", i)
	}
	many := "id,type\n"
	for i := range 10_001 {
		many += fmt.Sprintf("d%d,pump\n", i)
	}
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		where             string // of the errors, joined
	}{
		"lines":          {"text/csv", "id,type\nx y,pump\n\"ok\n\",pump\npump-1,pump\nb,none\nc,pump\nc,pump\nrack,pump\nd\n", 422, "line 2 line 5 line 6 line 8 line 9 line 10"},
		"JSON":           {"application/json", `[{"id":"a","type":"pump"},{"id":"b"},{"id":"c","type":"pump","x":1},5,{"id":"a","type":"pump"}]`, 422, "/1/type /2 /3 /4/id"},
		"quotation":      {"text/csv", "id,type\na,pump\n\"b,pump\n", 422, "line 3"},
		"no type":        {"text/csv", "id,name\na,b\n", 422, "body"},
		"column twice":   {"text/csv", "id,type,x,label.x\na,pump,1,2\n", 422, "body"},
		"nameless":       {"text/csv", "id,type,\na,pump,\n", 422, "body"},
		"Latin-1":        {"text/csv", "id,type,ort\na,pump,K\xf6ln\n", 422, "body"},
		"empty":          {"text/csv", "", 422, "body"},
		"columns":        {"text/csv", columns.String(), 422, "body"}, // were they compared with one another, it would take hours
		"no device":      {"text/csv", "id,type\n", 422, "body"},
		"too many":       {"text/csv", many, 422, "body"},
		"JSON, no list":  {"application/json", `{"id":"a"}`, 422, "body"},
		"JSON, empty":    {"application/json", `[]`, 422, "body"},
		"something else": {"application/pdf", "%PDF", 415, ""},
		"too long":       {"text/csv", "id,type\n" + strings.Repeat("x", 9<<20), 413, ""},
	} {
		a, _ := r.imports("", c.contentType, c.body)
		var p gateway.Problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatal(err)
		}
		var where []string
		for _, e := range p.Errors {
			where = append(where, e.Pointer+e.Location)
		}
		if a.status != c.status || strings.Join(where, " ") != c.where || p.Detail == "" {
			t.Errorf("%s: %d %q, want %d %q: %.800s", name, a.status, where, c.status, c.where, a.body)
		}
		if n := r.devices(); n != 2 {
			t.Fatalf("%s: there are %d devices", name, n)
		}
	}
	if a, _ := r.imports("", "text/csv", "id,type\n\na,pump\n\na,pump\n"); !strings.Contains(a.body, "line 3 already") {
		t.Errorf("a device twice: %s", a.body)
	}
	a, report := r.imports("?dry_run=true", "text/csv", "id,type\na,pump\nb,none\n")
	if a.status != 200 || report.Wrong != 1 || report.Lines[1].Result != gateway.ImportError || report.Lines[1].Line != 3 || report.Lines[0].Result != gateway.ImportOK {
		t.Errorf("dry run: %d %s", a.status, a.body)
	}
}

// TestImportSurvivesCrashes: repeated, an import that broke off before its
// passwords is finished; one that is complete is refused.
func TestImportSurvivesCrashes(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	const list = "id,type\na,pump\nb,pump\n"
	r.credentials.fail(true, false)
	if a, _ := r.imports("", "text/csv", list); a.status != 500 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.credentials.fail(false, false)
	if a, report := r.imports("", "text/csv", list); a.status != 200 || report.Imported != 2 || report.Lines[1].Password == "" {
		t.Errorf("repeated: %d %s", a.status, a.body)
	}
	if last := r.must("GET /v1/audit?limit=1", "").body; !strings.Contains(last, `"action":"rotate","kind":"device","id":"","after":{"count":2,"first":["a","b"]}`) {
		t.Errorf("that devices got passwords is not in the audit log: %s", last)
	}
	if a, _ := r.imports("", "text/csv", list); a.status != 422 || !strings.Contains(a.body, "line 3") {
		t.Errorf("repeated when complete: %d %s", a.status, a.body)
	}
	if a, report := r.imports("?credentials=false", "text/csv", "id,type\nc,pump\n"); a.status != 200 || report.Lines[0].Password != "" {
		t.Errorf("without credentials: %d %s", a.status, a.body)
	}
}

// TestDeletedDeviceLeavesBridges: a device that gets a deleted one's id is not
// its bridge's, even if the deletion broke off half-way.
func TestDeletedDeviceLeavesBridges(t *testing.T) {
	for _, breaks := range []bool{false, true} {
		r := newAPI(t, nil)
		r.catalog()
		r.must("POST /v1/bridges", `{"id":"rack","devices":["pump-1","pump-2"]}`)
		r.credentials.fail(breaks, false)
		if a := r.do("DELETE /v1/devices/pump-1", ""); breaks != (a.status == 500) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		r.credentials.fail(false, false)
		r.must("POST /v1/devices", `{"id":"pump-1","type":"pump"}`)
		if a := r.must("GET /v1/bridges/rack", ""); strings.Contains(a.body, "pump-1") {
			t.Errorf("breaks off %v: the bridge acts for the new device: %s", breaks, a.body)
		}
	}
}

// TestCredentialsAreAudited, without passwords.
func TestCredentialsAreAudited(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("POST /v1/devices/pump-1/credentials", "")
	r.must("POST /v1/bridges", `{"id":"rack","devices":["pump-1"]}`)
	r.must("POST /v1/bridges/rack/credentials", "")
	r.must("DELETE /v1/bridges/rack", "")
	a := r.must("GET /v1/audit?limit=4", "")
	var page gateway.Page[orchestrator.AuditEntry]
	if err := json.Unmarshal([]byte(a.body), &page); err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, e := range page.Items {
		did = append(did, e.Action+" "+e.Kind+" "+e.ID+" by "+e.Actor.Name)
	}
	want := "delete bridge rack by admin.token, rotate bridge rack by admin.token, create bridge rack by admin.token, rotate device pump-1 by admin.token"
	if got := strings.Join(did, ", "); got != want {
		t.Errorf("the audit log has %s, want %s", got, want)
	}
	if all := r.must("GET /v1/audit/export", "").body; strings.Contains(all, "password-") || strings.Count(all, "\n") < 8 {
		t.Errorf("the whole log: %s", all)
	}
}
