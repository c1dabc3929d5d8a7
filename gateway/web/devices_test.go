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
