package bridge

import (
	"os"
	"strings"
	"testing"

	"davit/schemas"
)

func TestRecordSurvives(t *testing.T) {
	r := records{t.TempDir()}
	for _, device := range []string{"pump-1", ".tmp-1", "..."} {
		rec, err := r.load(device)
		if err != nil || rec.Open != nil {
			t.Fatalf("a device without a record: %+v, error %v", rec, err)
		}
		rec.report("version", "1.0")
		rec.name("version")
		rec.Open = &openRecord{Offer: schemas.Offer{V: 1, Execution: "ex-1", Attempt: 2}, State: schemas.StateBooting, SeqLimit: 1000}
		rec.remember(endedRecord{Execution: "ex-0", Attempt: 1, Status: &schemas.Status{Seq: 7}})
		if err := r.save(rec); err != nil {
			t.Fatal(err)
		}
		got, err := r.load(device)
		if err != nil || got.Open == nil || got.Open.State != schemas.StateBooting || got.Open.Offer.Attempt != 2 ||
			got.Versions["version"] != "1.0" || got.ended("ex-0", 1).Status.Seq != 7 || got.ended("ex-0", 2) != nil {
			t.Errorf("%s: read back %+v, error %v", device, got, err)
		}
	}
}

func TestRecordThatCannotBeRead(t *testing.T) {
	r := records{t.TempDir()}
	for _, text := range []string{"", "{", `{"v":9,"device":"p"}`, `{"v":1,"device":"q"}`} {
		if err := os.WriteFile(r.path("p"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.load("p"); err == nil || !strings.Contains(err.Error(), r.path("p")) {
			t.Errorf("%q: error %v, want one with the path", text, err)
		}
	}
}

// A result that the service does not know of is never forgotten for one that
// it does.
func TestRecordForgetsAcknowledgedEndsFirst(t *testing.T) {
	var rec record
	rec.remember(endedRecord{Execution: "owed", Attempt: 1, Status: &schemas.Status{}})
	for i := range 3 * maxEnded {
		rec.remember(endedRecord{Execution: "ex", Attempt: i + 1, Acked: true})
	}
	if len(rec.Ended) != maxEnded || rec.ended("owed", 1) == nil || rec.ended("ex", 3*maxEnded) == nil {
		t.Errorf("%d remembered: %+v", len(rec.Ended), rec.Ended)
	}
}

func TestVersionsAreBounded(t *testing.T) {
	rec := record{Versions: map[string]string{}}
	for i := range 100 {
		property := "p" + strings.Repeat("x", i)
		rec.name(property)
		if !rec.report(property, "1") {
			t.Errorf("property %d was not taken", i)
		}
		if rec.report(property, "1") {
			t.Error("the same version is no news")
		}
	}
	h := schemas.Hello{V: 1, HostVersions: rec.Versions}
	if err := h.Validate(); err != nil || len(rec.Properties) > schemas.MaxHostVersions {
		t.Errorf("%d properties, hello: %v", len(rec.Properties), err)
	}
}
