package browsertest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"davit/orchestrator"
)

// yes answers the question that is open.
func (b *tab) yes() {
	b.t.Helper()
	b.until("the question", `document.querySelector("dialog[open]")`)
	b.run(chromedp.Click(chromedp.CSS("dialog[open] [data-confirm-yes]"), chromedp.NodeVisible))
}

// row is the input of a wave in the form of a new job.
func row(wave int, field string) string {
	return fmt.Sprintf(`[name="rollout/waves/%d/%s"]`, wave, field)
}

// put sets an input without the preview being asked for: a page that is left with an
// answer on its way says so on the browser's console, which fails the test.
func (b *tab) put(selector, value string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(document.querySelector(%q).value = %q, true)`, selector, value))
}

// testRollout creates a job with waves from the form, and watches it and lets its
// second wave begin on a page that is loaded once.
func (f *fleet) testRollout(t *testing.T) {
	onlyInFull(t)
	image := f.image(orchestrator.NewImage{ImageType: "application", DeviceTypes: []string{"valve-v1"}, Version: "3.5.0"}, 24<<10, 350)
	b := f.signedIn(t, "ada")
	b.goTo("/new/job?image=" + image.ID + "&query=" + url.QueryEscape(`type == "valve-v1"`))
	b.until("the preview counts", `document.querySelector("#preview-now .big-number")?.innerText === "14"`)
	if eval[bool](b, `document.querySelector("[data-plan=waves]").checkVisibility()`) {
		t.Error("waves are shown before they are chosen")
	}
	b.click(`label:has(#plan-waves)`)
	b.until("the plan is told", `document.querySelector("#preview-now").innerText.includes("up to 5 % of the devices")`)
	b.planRows(t)
	eval[bool](b, `(document.querySelectorAll("details.plan-part").forEach((d) => d.open = true), true)`)
	b.accessible("new job in waves")
	b.scheme("dark")
	b.accessible("new job in waves, dark", "color-contrast")
	b.scheme("light")
	b.size(360, 740)
	b.fits("new job in waves")
	b.size(1280, 900)

	// What cannot be read stands at its field.
	b.put(row(0, "percent"), "few")
	b.put(`input[name=name]`, "valves-waves")
	b.put(`[name="rollout/stop/0/min_sample"]`, "10")
	b.expectError()
	b.press("Push now")
	b.until("the error at its field", `document.querySelector('`+row(0, "percent")+`[aria-invalid]')?.closest(".field").innerText.includes("is not a number")`)
	b.put(row(0, "percent"), "40")
	b.put(row(0, "soak"), "10ms")
	b.click(row(1, "approve"))
	b.until("the plan is told anew", `document.querySelector("#preview-now").innerText.includes("once somebody has approved it")`)
	b.press("Push now")
	b.at("/jobs/valves-waves")
	f.testApproval(t, b)
}

// planRows takes a row away and adds another; the page stays.
func (b *tab) planRows(t *testing.T) {
	t.Helper()
	eval[bool](b, `(window.sameePage = true)`)
	b.click(`button[value="rollout/waves/1"]`)
	b.until("two waves", `document.querySelectorAll('[name^="rollout/waves/"][name$="/percent"]').length === 2`)
	b.until("the focus is at the button that adds", `document.activeElement.id === "add-waves"`)
	b.click("#add-waves")
	b.until("three waves, and one goes on in the new one", `document.activeElement.name === "rollout/waves/2/kind"`)
	b.choose(row(2, "kind"), "group")
	if !eval[bool](b, `document.querySelector('`+row(2, "group")+`').checkVisibility() && !document.querySelector('`+row(2, "percent")+`').checkVisibility()`) {
		t.Error("a wave of a group does not ask for the group alone")
	}
	b.click(`button[value="rollout/waves/2"]`)
	b.until("two waves again", `document.querySelectorAll('[name^="rollout/waves/"][name$="/percent"]').length === 2`)
	if eval[string](b, `document.querySelector('`+row(1, "percent")+`').value`) != "100" || !eval[bool](b, `window.sameePage === true`) {
		t.Errorf("the rows are not those that are left: %s", b.state())
	}
}

func (f *fleet) testApproval(t *testing.T, b *tab) {
	t.Helper()
	eval[bool](b, `(window.sameePage = true)`)
	b.until("the second wave waits", `document.querySelector('tr[data-wave="2"]')?.innerText.includes("waits for approval")`)
	if text := eval[string](b, `document.querySelector('tr[data-wave="1"]').innerText`); !eval[bool](b, `window.sameePage === true`) {
		t.Errorf("the page was loaded anew; it says %s", text)
	}
	b.sees("6 succeeded")
	b.sees("Waiting: somebody has to approve")
	b.accessible("rollout")
	b.scheme("dark")
	b.accessible("rollout, dark", "color-contrast")
	b.scheme("light")
	b.size(360, 740)
	b.fits("rollout")
	b.size(1280, 900)
	o := f.signedIn(t, "otto")
	o.goTo("/jobs/valves-waves")
	if o.has(`form[action$="/approve"]`) {
		t.Error("an operator is offered to approve")
	}
	o.expectError()
	if status := o.post("/jobs/valves-waves/approve", "wave=2"); status != 403 {
		t.Errorf("an operator's approval is answered with %d, want 403", status)
	}
	o.goTo("/")
	o.sees("valves-waves (running): wave 2 of 2 waits for approval")
	o.goTo("/jobs/valves-waves/waves/2")
	o.until("eight devices", `document.querySelectorAll("tr[data-device]").length === 8`)
	b.click(`tr[data-wave="2"] button`)
	b.yes()
	b.sees("Wave 2 was approved.")
	b.until("the job is completed", `document.querySelector(".job-headline").innerText.includes("completed")`)
	o.until("the page of the wave follows", `document.querySelector("#wave-progress").innerText.includes("8 succeeded")`)
}

// testCancel cancels a job and chooses what becomes of what is in progress.
func (f *fleet) testCancel(t *testing.T) {
	onlyInFull(t)
	f.create("ada", orchestrator.NewJob{
		Name: "valves-later", Image: f.images["valve-v1 application 3.4.1"].ID, Devices: []string{"valve-berlin-001"}, IgnoreValidation: true, Start: true,
		Rollout: &orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: time.Now().Add(24 * time.Hour)}},
	})
	b := f.signedIn(t, "ada")
	b.goTo("/jobs/valves-later")
	b.sees("Waiting: it begins at its start time")
	const choice = `[data-confirm-choice] input[value=finish]`
	if eval[bool](b, `document.querySelector("`+choice+`").checkVisibility()`) {
		t.Error("the choice is shown before the question")
	}
	b.press("Cancel job")
	b.until("the choice", `document.querySelector("dialog[open] `+choice+`")?.checkVisibility()`)
	b.accessible("question before canceling")
	b.click("dialog[open] " + choice)
	// What changes meanwhile does not take the question away.
	if status, body := f.as("ada", "PATCH", "/v1/jobs/valves-later", map[string]string{"description": "In the spring"}); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	b.until("the page has heard of it", `document.querySelector("#job-timeline").innerText.includes("Description changed")`)
	b.yes()
	b.sees("what devices have accepted finishes")
	j, _, err := f.client.Job(t.Context(), "valves-later")
	if err != nil || j.State != orchestrator.JobCanceled {
		t.Errorf("%+v, %v", j, err)
	}
}
