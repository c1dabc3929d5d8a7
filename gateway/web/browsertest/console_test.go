package browsertest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"davit/internal/signtest"
	"davit/internal/sim"
	"davit/orchestrator"
)

// TestFirstRun goes from an empty server to its first image types.
func TestFirstRun(t *testing.T) {
	s := newScene(t)
	b := newTab(t, s.base)
	b.goTo("/")
	b.at("/welcome")
	b.fill("input[name=admin_token]", "not the token")
	b.fill("input[name=name]", "ada")
	b.fill("input[name=display_name]", "Ada Quist")
	b.fill("input[name=password]", password)
	b.fill("input[name=again]", password)
	b.expectError()
	b.press("Create the first administrator")
	b.until("the wrong token is refused", `document.querySelector(".field-error, .notice.bad")`)
	b.fill("input[name=admin_token]", s.token)
	b.fill("input[name=password]", password)
	b.fill("input[name=again]", password)
	b.press("Create the first administrator")
	b.at("/welcome/image-types")
	eval[bool](b, `(() => { for (const c of document.querySelectorAll("input[name=suggested]")) c.checked = c.value === "application"; return true; })()`)
	b.fill("input[name^=id-]", "graphics")
	b.fill("input[name^=name-]", "Display graphics")
	b.accessible("first image types")
	b.press("Create image types")
	b.until("the wizard ends", `!location.pathname.startsWith("/welcome")`)
	b.goTo("/image-types")
	b.sees("Display graphics")
	types, _, err := s.client.ImageTypes(t.Context(), orchestrator.Page{})
	if err != nil || len(types) != 2 || types[0].ID != "application" || types[1].Name != "Display graphics" {
		t.Errorf("image types %+v, %v", types, err)
	}
	// Nobody can be the first administrator twice.
	b.goTo("/welcome")
	b.until("the way in is closed", `!document.querySelector("input[name=admin_token]")`)
}

// TestConsole works with a fleet of forty devices; the parts follow one another.
func TestConsole(t *testing.T) {
	s := newScene(t)
	s.user("ada", "Ada Quist", "admin")
	s.user("dora", "Dora Lindt", "developer")
	s.user("otto", "Otto Brandt", "operator")
	s.user("vera", "Vera Sand", "viewer")
	f := newFleet(s)
	t.Run("pictures", f.testPictures)
	t.Run("pages", f.testPages)
	t.Run("roles", f.testRoles)
	t.Run("progress", f.testProgress)
	t.Run("pause", f.testPause)
	t.Run("rollout", f.testRollout)
	t.Run("cancel", f.testCancel)
	t.Run("upload", f.testUpload)
	t.Run("upload without script", f.testUploadForm)
	f.board("lab-1", "lab-board", "", 230400)
	f.board("lab-2", "lab-board", "checksum", 230400)
	t.Run("deploy", f.testDeploy)
	t.Run("keyboard", f.testKeyboard)
	t.Run("press", f.testPress)
	t.Run("device type", f.testDeviceType)
	t.Run("sign-in", f.testSignIn)
}

// testProgress watches bytes move and devices finish, on a page that is never
// loaded again.
func (f *fleet) testProgress(t *testing.T) {
	b := f.signedIn(t, "vera")
	b.goTo("/jobs/" + f.running)
	b.until("the page follows", `document.querySelector("[data-live-state]").dataset.state === "live"`)
	const bytes = `[...document.querySelectorAll("progress")].reduce((n, p) => n + p.value, 0)`
	before := eval[float64](b, bytes)
	if before == 0 || eval[int](b, `document.querySelectorAll("progress").length`) != 5 {
		t.Errorf("bars of five devices are wanted: %s", b.state())
	}
	eval[bool](b, `(window.sameePage = true)`)
	percent := eval[string](b, `document.querySelector(".job-percent").innerText`)
	f.proceed.open()
	b.until("all that are online have ended", `document.querySelectorAll("progress").length === 0`)
	b.until("the figure has grown", fmt.Sprintf(`document.querySelector(".job-percent").innerText !== %q`, percent))
	if !eval[bool](b, `window.sameePage === true`) {
		t.Error("the page was loaded anew")
	}
	b.until("the chart has grown", `document.querySelector(".plot desc").textContent.includes("19 have succeeded")`)
}

// testPause lets an operator pause; going on takes an administrator.
func (f *fleet) testPause(t *testing.T) {
	b := f.signedIn(t, "otto")
	b.goTo("/jobs/" + f.running)
	b.press("Pause")
	b.sees("Paused: nothing new is offered")
	if b.has(".actions button") {
		t.Errorf("an operator is offered more: %s", b.state())
	}
	b.expectError()
	if status := b.post("/jobs/"+f.running+"/resume", ""); status != 403 {
		t.Errorf("resume is answered with %d, want 403", status)
	}
	a := f.signedIn(t, "ada")
	a.goTo("/jobs/" + f.running)
	a.sees("by otto")
	a.press("Resume")
	a.sees("The job goes on")
	b.until("the operator's page says so by itself", `document.querySelector(".job-headline").innerText.includes("running")`)
	f.testSlowAnswer(t, b)
}

// testSlowAnswer changes a job while the answer about the change before is on its way to the page.
func (f *fleet) testSlowAnswer(t *testing.T, b *tab) {
	eval[bool](b, `(() => {
		const send = XMLHttpRequest.prototype.send;
		XMLHttpRequest.prototype.send = function (...body) {
			const load = this.onload;
			this.onload = (...ev) => {
				if (this.responseText.includes("Paused: nothing new")) window.onItsWay = true;
				setTimeout(() => load.apply(this, ev), 1500);
			};
			send.apply(this, body);
		};
		new MutationObserver(() => { // what is shown for a moment only may come between two looks
			if (document.querySelector(".job-headline")?.innerText.includes("paused")) window.saidPaused = true;
		}).observe(document.body, {childList: true, subtree: true, characterData: true});
		return true;
	})()`)
	must[orchestrator.Job](t)(f.client.PauseJob(t.Context(), f.running))
	b.until("the answer is on its way", `window.onItsWay`)
	must[orchestrator.Job](t)(f.client.ResumeJob(t.Context(), f.running))
	b.until("the page has the answer", `window.saidPaused`)
	b.until("the page has asked again", `document.querySelector(".job-headline").innerText.includes("running")`)
}

// dropFile drops a file that is made in the page.
func (b *tab) dropFile(selector, name string, content []byte) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => {
		const bytes = Uint8Array.from(atob(%q), (c) => c.charCodeAt(0));
		const data = new DataTransfer();
		data.items.add(new File([bytes], %q));
		const target = document.querySelector(%q);
		for (const kind of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
		return true;
	})()`, base64.StdEncoding.EncodeToString(content), name, selector))
}

// attach chooses a file in a field.
func (b *tab) attach(selector, name string, content []byte) {
	b.t.Helper()
	if !eval[bool](b, fmt.Sprintf(`(() => {
		const data = new DataTransfer();
		data.items.add(new File([Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))], %q));
		document.querySelector(%q).files = data.files;
		return true;
	})()`, base64.StdEncoding.EncodeToString(content), name, selector)) {
		b.t.Fatal("not chosen")
	}
}

// testUpload makes an image out of a dropped file in three steps.
func (f *fleet) testUpload(t *testing.T) {
	b := f.signedIn(t, "dora")
	b.goTo("/images")
	b.press("Upload an image")
	b.at("/new/image")
	b.dropFile("[data-upload-drop]", "thermostat-2.2.0.bin", sim.BuildDemoImage("2.2.0", 200<<10, 77))
	b.until("step 2", `new URLSearchParams(location.search).get("upload")`)
	b.sees("demo image")
	if v := eval[string](b, `document.querySelector("input[name=version]").value`); v != "2.2.0" {
		t.Errorf("the version is %q, want what the file says", v)
	}
	b.accessible("upload, step 2")
	b.fill("input[name=version]", "2.2.1")
	b.until("the warning", `!document.querySelector("[data-differs]").hidden`)
	b.choose("select[name=image_type]", "application")
	b.fill("input[name=tags]", "candidate, night-build")
	b.fill("textarea[name=description]", "Built tonight")
	b.press("Next")
	b.sees("The file says that it is version 2.2.0, and you typed 2.2.1")
	b.accessible("upload, step 3")
	// Back keeps what was typed.
	b.press("Back")
	b.until("step 2 again", `document.querySelector("input[name=version]")?.value === "2.2.1"`)
	b.fill("input[name=version]", "2.2.0")
	b.press("Next")
	b.until("step 3 again", `document.querySelector("input[name=device_type]")`)
	b.expectError()
	b.press("Create the image")
	b.sees("Choose at least one device type")
	b.click(`input[name=device_type][value="thermostat-t2"]`)
	// A manifest without its signatures is asked for them, and what was typed is kept.
	signed := signtest.Sign(t, sim.BuildDemoImage("2.2.0", 200<<10, 77), signtest.Terms("application", "thermostat-t2", "2.2.0", time.Now()), signtest.Key(t))
	b.attach("input[name=manifest]", "fw.manifest", signed.Text)
	b.expectError()
	b.press("Create the image")
	b.sees("Choose the file")
	b.accessible("upload, step 3, without signatures")
	b.attach("input[name=manifest]", "fw.manifest", signed.Text)
	b.attach("input[name=signatures]", "fw.manifest.minisig", signed.Signatures)
	b.press("Create the image")
	b.until("the image's page", `location.pathname.startsWith("/images/img-")`)
	b.sees("application 2.2.0")
	b.sees("night-build")
	b.sees("a device never goes back to a lower one")
	if b.has(`a[href^="/new/job"]`) {
		t.Error("a developer is offered to deploy")
	}
	// The same bytes again are recognised.
	b.goTo("/new/image")
	b.dropFile("[data-upload-drop]", "again.bin", sim.BuildDemoImage("2.2.0", 200<<10, 77))
	b.sees("The same bytes are here already")
	b.press("Discard")
	b.yes()
	b.at("/images")
}

// testUploadForm sends the plain form, as a browser without scripts does.
func (f *fleet) testUploadForm(t *testing.T) {
	b := f.signedIn(t, "dora")
	b.goTo("/new/image")
	status := eval[bool](b, `(() => {
		const form = document.querySelector("form[data-upload]"), data = new DataTransfer();
		data.items.add(new File(["plain firmware"], "plain.bin"));
		form.querySelector("input[type=file]").files = data.files;
		HTMLFormElement.prototype.submit.call(form);
		return true;
	})()`)
	if !status {
		t.Fatal("not sent")
	}
	b.until("step 2", `new URLSearchParams(location.search).get("upload")`)
	b.sees("no format that names a version")
	b.sees("plain.bin")
}

// upload stages a demo image and returns its id.
func (f *fleet) upload(name, version string) string {
	f.t.Helper()
	u, err := f.client.StageUpload(f.t.Context(), orchestrator.NewUpload{FileName: name}, strings.NewReader(string(sim.BuildDemoImage(version, 180<<10, 99))))
	if err != nil {
		f.t.Fatal(err)
	}
	return u.ID
}

// testDeploy deploys to two boards with real bridges, one of which has a fault.
func (f *fleet) testDeploy(t *testing.T) {
	b := f.signedIn(t, "ada")
	b.goTo("/images/" + f.images["lab-board application 2.0.0"].ID)
	b.press("Deploy")
	b.at("/new/job")
	b.fill("#f-find", "lab-1")
	b.until("the picker finds lab-1 only", `document.querySelectorAll("#picker input").length === 1`)
	b.click("#pick-lab-1")
	b.until("the preview counts", `document.querySelector("#preview-now .big-number")?.innerText === "1"`)
	// Whoever ticks while the answer is being put in place has ticked.
	eval[bool](b, `(document.addEventListener("htmx:afterSwap", (ev) => {
		const box = document.querySelector("#pick-lab-2");
		if (ev.target.id === "picker" && box && !window.ticked) { window.ticked = true; box.click(); }
	}), true)`)
	b.fill("#f-find", "lab-2")
	b.until("the picker keeps lab-1 and finds lab-2", `document.querySelectorAll("#picker input:checked").length === 2 && !document.querySelector(".htmx-settling")`)
	b.until("the preview counts on", `document.querySelector("#preview-now .big-number")?.innerText === "2"`)
	// The same devices again leave the boxes where they are.
	eval[bool](b, `(window.samePick = document.querySelector("#pick-lab-2"), document.addEventListener("htmx:afterRequest", () => window.answered = true), true)`)
	b.fill("#f-find", "lab-")
	b.until("the answer", `window.answered && !document.querySelector(".htmx-settling")`)
	if !eval[bool](b, `document.querySelector("#pick-lab-2") === window.samePick && window.samePick.checked`) {
		t.Error("the picker was replaced by the same one")
	}
	b.fill("input[name=name]", "lab-first")
	b.press("Push now")
	b.at("/jobs/lab-first")
	eval[bool](b, `(window.sameePage = true)`)
	b.until("lab-1 has the new version", `document.querySelector('tr[data-device="lab-1"]')?.innerText.includes("runs the new version")`)
	b.until("lab-2 says why it failed", `document.querySelector('tr[data-device="lab-2"]')?.innerText.includes("Checksum did not agree")`)
	b.until("the job is completed", `document.querySelector(".job-headline").innerText.includes("completed")`)
	if !eval[bool](b, `window.sameePage === true`) {
		t.Error("the page was loaded anew")
	}
	b.clickOn(chromedp.Click(chromedp.Search(`//tr[@data-device="lab-2"]//th/a`), chromedp.NodeVisible))
	b.until("the execution's page", `location.pathname.startsWith("/executions/")`)
	b.sees("What to do")
	b.sees("If one device fails, suspect its memory")
	b.accessible("failed execution")
	b.press("Retry")
	b.yes()
	b.until("the first attempt is history", `document.body.innerText.includes("Attempt 2") && document.querySelector("tbody")?.innerText.includes("Checksum did not agree")`)
	// lab-1 is spared: only this device was tried again.
	e, err := f.client.Execution(t.Context(), f.execution("lab-first", "lab-1"))
	if err != nil || e.Attempt != 1 {
		t.Errorf("lab-1: %+v, %v", e, err)
	}
}

// testKeyboard signs in and opens a job without a pointer.
func (f *fleet) testKeyboard(t *testing.T) {
	b := newTab(t, f.base)
	b.goTo("/jobs")
	b.at("/sign-in")
	b.until("the name has the focus", `document.activeElement.name === "name"`)
	b.run(chromedp.KeyEvent("ada\t" + password + "\r"))
	b.at("/jobs")
	focused := fmt.Sprintf(`document.activeElement.getAttribute("href") === "/jobs/%s"`, f.done)
	for tabs := 1; ; tabs++ {
		b.run(chromedp.KeyEvent("\t"))
		if eval[bool](b, focused) {
			break
		}
		if tabs == 60 {
			t.Fatalf("sixty times Tab do not lead to the job; %s", b.state())
		}
	}
	b.sees(f.describe(t))
	if !eval[bool](b, focused) {
		t.Errorf("the focus went away with the list: %s has it", eval[string](b, `document.activeElement.outerHTML.slice(0, 200)`))
	}
	if !eval[bool](b, `document.activeElement.matches(":focus-visible")`) {
		t.Error("the focus cannot be seen")
	}
	b.run(chromedp.KeyEvent("\r"))
	b.at("/jobs/" + f.done)
	b.sees("completed")
}

// describe gives the oldest job another description, so that pages that show it are read anew.
func (f *fleet) describe(t *testing.T) (description string) {
	t.Helper()
	description = fmt.Sprint("Described anew at ", time.Now().UnixNano())
	must[orchestrator.Job](t)(f.client.UpdateJob(t.Context(), f.done, orchestrator.JobPatch{Description: &description}))
	return description
}

// testPress presses what stands in the list of jobs while that changes.
func (f *fleet) testPress(t *testing.T) {
	b := f.signedIn(t, "vera")
	b.goTo("/jobs")
	b.until("the page follows", `document.querySelector("[data-live-state]").dataset.state === "live"`)
	eval[bool](b, `(document.addEventListener("htmx:beforeRequest", (ev) => { window.heldBack ||= ev.defaultPrevented; }), true)`)
	mouse := func(what input.DispatchMouseEventType, x, y float64) {
		t.Helper()
		b.run(chromedp.MouseEvent(what, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	}
	// press presses a part of the oldest job's row, and says what changed meanwhile.
	press := func(part string) (x, y float64, description string) {
		t.Helper()
		at := eval[[]float64](b, fmt.Sprintf(`(() => { const r = document.querySelector('tr[data-href="/jobs/%s"] %s').getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, f.done, part))
		eval[bool](b, `(window.heldBack = false, true)`)
		mouse(input.DispatchMouseEventTypeMousePressed, at[0], at[1])
		description = f.describe(t)
		b.until("what changed waits", `window.heldBack`)
		return at[0], at[1], description
	}
	x, _, description := press("td.num")
	mouse(input.DispatchMouseEventTypeMouseMoved, x, 2) // somebody thinks better of it
	mouse(input.DispatchMouseEventTypeMouseReleased, x, 2)
	b.sees(description)
	x, y, _ := press("a")
	mouse(input.DispatchMouseEventTypeMouseReleased, x, y)
	b.at("/jobs/" + f.done)
}

// testDeviceType shows what is wrong beside the row that it is about.
func (f *fleet) testDeviceType(t *testing.T) {
	b := f.signedIn(t, "dora")
	b.goTo("/device-types/valve-v1")
	b.fill(`input[name="limit-bootloader"]`, "many")
	b.expectError()
	b.press("Save")
	b.until("the error", `document.querySelector("tr.has-error .field-error")`)
	if row := eval[string](b, `document.querySelector("tr.has-error").innerText`); !strings.Contains(row, "Bootloader") || !strings.Contains(row, "is not a size") {
		t.Errorf("the error stands in %q", row)
	}
	b.fill(`input[name="limit-bootloader"]`, "64 KiB")
	b.press("Save")
	b.at("/device-types")
	dt, err := f.client.DeviceType(t.Context(), "valve-v1")
	if err != nil || dt.ImageTypes[1].SizeLimit != 64<<10 {
		t.Errorf("%+v, %v", dt, err)
	}
	b.goTo("/image-types/application")
	b.sees("cannot be deleted while it is used by")
}

// testSignIn tries a wrong password until the name is locked.
func (f *fleet) testSignIn(t *testing.T) {
	b := newTab(t, f.base)
	b.goTo("/sign-in")
	b.accessible("sign-in")
	for try := range 20 {
		b.fill("input[name=name]", "otto")
		b.fill("input[name=password]", "wrong password")
		b.expectError()
		eval[bool](b, `(window.before = true)`)
		b.press("Sign in")
		b.until("the answer", `!window.before && document.querySelector(".notice.bad")`)
		text := eval[string](b, `document.querySelector(".notice.bad").innerText`)
		if strings.Contains(text, "ocked") || strings.Contains(text, "too many") || strings.Contains(text, "Too many") {
			if try == 0 {
				t.Errorf("locked at once: %s", text)
			}
			return
		}
	}
	t.Error("a name is never locked")
}
