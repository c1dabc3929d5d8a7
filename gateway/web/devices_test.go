package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/schemas"
)

// TestDevicesShowWhatIsUnderWay reads the rows of the list of devices.
func TestDevicesShowWhatIsUnderWay(t *testing.T) {
	r, m := jobRig(t)
	for i := range 6 {
		must[orchestrator.Group](t)(r.CreateGroup(background, orchestrator.NewGroup{ID: fmt.Sprint("all-", i), Query: `id == "b-2"`}))
	}
	// What is paused waits for as long as nobody resumes it.
	must[orchestrator.Job](t)(r.CreateJob(background, orchestrator.NewJob{Name: "waits", Image: m.ID, Devices: []string{"b-2"}, Start: true}))
	must[orchestrator.Job](t)(r.PauseJob(background, "waits"))
	must[orchestrator.Job](t)(r.CreateJob(background, orchestrator.NewJob{Name: "runs", Image: m.ID, Devices: []string{"b-1"}, Start: true}))
	r.until("waits", schemas.StateQueued, 1)
	x := r.execution("runs", "b-1")
	r.ok(r.Status(background, "b-1", schemas.Status{V: schemas.Version, Execution: x.ID, Attempt: x.Attempt, Seq: 1, State: schemas.StateInstalling}))
	limit := orchestrator.Duration(time.Nanosecond)
	must[orchestrator.DeviceType](t)(r.UpdateDeviceType(background, "other", orchestrator.DeviceTypePatch{HelloTimeout: &limit}))
	r.ok(r.Presence(background, "o-1", true))
	r.ok(r.Presence(background, "b-3", true))

	w := r.get(people.RoleViewer, "/devices")
	wants(t, w, http.StatusOK, "kind=device", "kind=execution", "kind=group")
	rows := map[string]string{}
	for _, row := range strings.Split(w.Body.String(), `<tr data-href="/devices/`)[1:] {
		id, row, _ := strings.Cut(row, `"`)
		rows[id], _, _ = strings.Cut(row, "</tr>")
	}
	for id, words := range map[string][]string{
		"b-1": {`href="/executions/` + x.ID + `"`, "installing", "application 2.0/β", `href="/groups/pair"`, ">offline<"},
		"b-2": {"1 job waits", `href="/groups/all-0"`, "more</li>"},
		"b-3": {"nothing", "none", ">online<"},
		"o-1": {"nothing", "none", ">silent<"},
	} {
		for _, word := range words {
			if !strings.Contains(rows[id], word) {
				t.Errorf("the row of %s does not say %q: %s", id, word, rows[id])
			}
		}
	}
	if strings.Count(w.Body.String(), ">silent<") != 1 || strings.Contains(rows["b-3"], "/executions/") || strings.Contains(rows["b-2"], "/executions/") {
		t.Errorf("too much is said: %v", rows)
	}
}

// A device is put in quarantine and released on its page, by who may; the list shows it.
func TestQuarantineOnThePage(t *testing.T) {
	r, _ := jobRig(t)
	if w := r.post(people.RoleOperator, "/devices/b-1/quarantine", "reason", "x"); w.Code != http.StatusForbidden {
		t.Errorf("an operator: %d", w.Code)
	}
	if body := r.get(people.RoleOperator, "/devices/b-1").Body.String(); strings.Contains(body, "/devices/b-1/quarantine") {
		t.Error("an operator is offered what he may not do")
	}
	wants(t, r.get(people.RoleDeveloper, "/devices/b-1"), http.StatusOK, `action="/devices/b-1/quarantine"`)
	if w := r.post(people.RoleDeveloper, "/devices/b-1/quarantine", "reason", "stolen <on Monday>"); w.Code != http.StatusSeeOther {
		t.Errorf("a developer: %d %s", w.Code, w.Body)
	}
	wants(t, r.get(people.RoleDeveloper, "/devices/b-1"), http.StatusOK, ">quarantine<", "stolen &lt;on Monday&gt;", `action="/devices/b-1/release"`)
	wants(t, r.get(people.RoleViewer, "/devices"), http.StatusOK, ">quarantine<")
	if w := r.post(people.RoleDeveloper, "/devices/b-1/quarantine", "reason", strings.Repeat("x", 300)); w.Code == http.StatusSeeOther {
		if d := must[orchestrator.Device](t)(r.Device(background, "b-1")); d.QuarantineReason != "stolen <on Monday>" {
			t.Errorf("the reason is %q", d.QuarantineReason)
		}
	}
	r.post(people.RoleDeveloper, "/devices/b-1/release")
	if d := must[orchestrator.Device](t)(r.Device(background, "b-1")); !d.QuarantinedAt.IsZero() {
		t.Errorf("released: %+v", d)
	}
}
