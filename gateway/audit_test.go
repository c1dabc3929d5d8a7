package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"davit/gateway"
	"davit/orchestrator"
)

// longAudit is a service with a very long audit log.
type longAudit struct {
	gateway.Service
	pages  int
	failAt int
}

func (l longAudit) AuditEntries(_ context.Context, _ orchestrator.AuditFilter, p orchestrator.Page) ([]orchestrator.AuditEntry, string, error) {
	at, _ := strconv.Atoi(p.After)
	if at == l.failAt && l.failAt > 0 {
		return nil, "", errPower
	}
	items := make([]orchestrator.AuditEntry, p.Limit)
	record, _ := json.Marshal(strings.Repeat("x", 2000))
	for i := range items {
		items[i] = orchestrator.AuditEntry{Seq: uint64(l.pages*p.Limit - at*p.Limit - i), Action: "update", Kind: "device", ID: "d", After: record}
	}
	if at++; at < l.pages {
		return items, strconv.Itoa(at), nil
	}
	return items, "", nil
}

func (r *apiRig) export() *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+"/v1/audit/export", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

// TestAuditExportIsStreamed sends 25 MB of entries, in order and whole, in
// little memory.
func TestAuditExportIsStreamed(t *testing.T) {
	const pages = 12
	r := newAPI(t, func(o *gateway.APIOptions) { o.Service = longAudit{Service: o.Service, pages: pages} })
	peak := samplePeak(t)
	resp := r.export()
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	want, bytes := uint64(pages*1000), 0
	for lines.Scan() {
		bytes += len(lines.Bytes())
		head, _, _ := strings.Cut(lines.Text(), ",")
		if head != `{"seq":`+strconv.FormatUint(want, 10) {
			t.Fatalf("the next line is %.80s, want entry %d", lines.Text(), want)
		}
		want--
	}
	if lines.Err() != nil || want != 0 || resp.Header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("%d entries are missing: %v %v", want, lines.Err(), resp.Header)
	}
	grown := peak()
	t.Logf("an export of %d MB added %.1f MiB to the process's memory", bytes/1e6, float64(grown)/(1<<20))
	if grown > 16<<20 {
		t.Errorf("an export of %d bytes added %d bytes to the process's memory", bytes, grown)
	}
}

// TestAuditExportBreaksOff: a client can tell an export that is not whole.
func TestAuditExportBreaksOff(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.Service = longAudit{Service: o.Service, pages: 10, failAt: 3} })
	resp := r.export()
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("%d bytes arrived and the end looked in order", n)
	}
}
