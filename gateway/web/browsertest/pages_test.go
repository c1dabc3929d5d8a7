package browsertest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"davit/orchestrator"
	"davit/schemas"
)

// axe-core looks for what keeps people with disabilities out (testdata/README.md).
//
//go:embed testdata/axe.min.js
var axe string

// signedIn opens a tab in which a user has signed in.
func (s *scene) signedIn(t *testing.T, user string) *tab {
	t.Helper()
	b := newTab(t, s.base)
	c := s.session(user)
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: s.base, HTTPOnly: new(true), SameSite: network.CookieSameSiteLax})
		return err
	}))
	return b
}

// mainPage is a page that everything is checked on.
type mainPage struct{ name, path string }

// mainPages are the pages of the console.
func (f *fleet) mainPages() []mainPage {
	image := f.images["thermostat-t2 application 2.1.0"].ID
	failed := f.execution(f.running, "th-berlin-010")
	return []mainPage{
		{"overview", "/"}, {"jobs", "/jobs"}, {"job", "/jobs/" + f.running}, {"job of the past", "/jobs/" + f.done},
		{"new job", "/new/job?image=" + image + "&device=th-berlin-001"}, {"new job by query", "/new/job?image=" + image + "&query=online+and+type+%3D%3D+%22thermostat-t2%22"},
		{"execution", "/executions/" + failed}, {"images", "/images"}, {"image", "/images/" + image}, {"image to edit", "/images/" + image + "/edit"},
		{"upload", "/new/image"}, {"devices", "/devices"}, {"device", "/devices/th-berlin-010"}, {"new device", "/new/device"}, {"import", "/import/devices"},
		{"groups", "/groups"}, {"group", "/groups/thermostats-behind"}, {"new group", "/new/group"}, {"bridges", "/bridges"},
		{"image types", "/image-types"}, {"image type", "/image-types/application"}, {"device types", "/device-types"}, {"device type", "/device-types/valve-v1"},
		{"people", "/people"}, {"account", "/account"}, {"audit", "/audit?kind=job"}, {"help", "/help"},
	}
}

// execution is the id of a job's execution on a device.
func (f *fleet) execution(job, device string) string {
	f.t.Helper()
	_, list, err := f.client.Job(f.t.Context(), job)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range list {
		if e.Device == device {
			return e.ID
		}
	}
	f.t.Fatalf("job %s has no device %s", job, device)
	return ""
}

// violation is what axe-core found.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// accessible fails the test for each serious problem on the page.
func (b *tab) accessible(name string, rules ...string) {
	b.t.Helper()
	for _, v := range b.violations(name, rules...) {
		for _, n := range v.Nodes[:min(len(v.Nodes), 3)] {
			b.t.Errorf("%s: %s (%s): %s\n%s\n%s", name, v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

// violations are the serious and critical problems on the page; rules, if any,
// are the only ones that are looked at.
func (b *tab) violations(name string, rules ...string) []violation {
	b.t.Helper()
	if !eval[bool](b, `typeof axe === "object"`) {
		b.run(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](axe+";true"))
			return err
		}))
	}
	options := `{resultTypes: ["violations"]}`
	if len(rules) > 0 {
		list, err := json.Marshal(rules)
		if err != nil {
			b.t.Fatal(err)
		}
		options = fmt.Sprintf(`{resultTypes: ["violations"], runOnly: {type: "rule", values: %s}}`, list)
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		`axe.run(document, `+options+`).then((r) => JSON.stringify(r.violations.map((v) => ({ID: v.id, Impact: v.impact, Help: v.help,
			Nodes: v.nodes.map((n) => ({HTML: n.html, FailureSummary: n.failureSummary}))}))))`, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("axe-core on %s: %v", name, err)
	}
	var found []violation
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(v violation) bool { return v.Impact != "serious" && v.Impact != "critical" })
}

// fits fails the test if the page has to be scrolled sideways.
func (b *tab) fits(name string) {
	b.t.Helper()
	wide := eval[[]string](b, `(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return [];
		return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1 && !e.closest(".visually-hidden, .table-wrap, .picker"))
			.slice(0, 5).map((e) => e.outerHTML.slice(0, 160));
	})()`)
	if len(wide) > 0 || eval[bool](b, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
		b.t.Errorf("%s is too wide for the window: %s", name, strings.Join(wide, "\n"))
	}
}

func (f *fleet) testPages(t *testing.T) {
	b := f.signedIn(t, "ada")
	b.scheme("light")
	b.goTo("/help")
	eval[bool](b, `(document.querySelector("main").insertAdjacentHTML("beforeend", "<img src='data:,' width=5 height=5>"), true)`)
	if v := b.violations("spoilt page"); len(v) != 1 || v[0].ID != "image-alt" {
		t.Errorf("what is wrong on purpose is not found: %+v", v)
	}
	for i, p := range f.mainPages() {
		if i%3 != 0 && os.Getenv("DAVIT_TEST_FULL") != "1" {
			continue // a third of the pages tells most of it in a third of the time; the whole check looks at all
		}
		b.goTo(p.path)
		b.until(p.name+" has a heading", `document.querySelector("h1")`)
		if title := eval[string](b, `document.querySelector("h1").innerText`); strings.HasPrefix(title, "img-") || strings.HasPrefix(title, "ex-") {
			t.Errorf("%s has the raw id %s as its title", p.name, title)
		}
		b.accessible(p.name)
		b.scheme("dark")
		b.accessible(p.name+", dark", "color-contrast")
		b.scheme("light")
		b.size(360, 740)
		b.fits(p.name)
		b.size(1280, 900)
	}
}

// picture is one that docs/ shows.
type picture struct {
	file, path, scheme string
	width, height      int64
	ready              string // what has to be true before it is taken
}

// testPictures writes the pictures of the main pages, if a folder is given.
func (f *fleet) testPictures(t *testing.T) {
	dir := pictures()
	if dir == "" {
		return
	}
	b := f.signedIn(t, "ada")
	upload := f.upload("thermostat-2.2.0-rc1.bin", "2.2.0-rc1")
	image := f.images["thermostat-t2 application 2.1.0"].ID
	f.pictured()
	for _, p := range []picture{
		{"overview.png", "/", "light", 1440, 960, ""},
		{"overview-dark.png", "/", "dark", 1440, 960, ""},
		{"images.png", "/images", "light", 1440, 860, ""},
		{"upload.png", "/new/image?upload=" + upload + "&image_type=application", "light", 1440, 900, ""},
		{"deploy.png", "/new/job?image=" + image + "&device=th-berlin-010&device=th-berlin-013&device=th-lyon-015", "light", 1440, 900, ""},
		{"rollout-new.png", "/new/job?like=valves-3.6&query=type+%3D%3D+%22valve-v1%22&image=" + f.images["valve-v1 application 3.4.1"].ID, "light", 1280, 1100, ""},
		{"rollout.png", "/jobs/valves-3.6", "light", 1440, 1100, ""},
		{"job.png", "/jobs/" + f.running, "light", 1440, 1100, ""},
		{"job-dark.png", "/jobs/" + f.running, "dark", 1440, 1100, ""},
		{"job-phone.png", "/jobs/" + f.running, "light", 360, 740, ""},
		{"execution.png", "/executions/" + f.execution(f.running, "th-berlin-010"), "light", 1440, 760, ""},
		{"device.png", "/devices/th-berlin-010", "light", 1440, 900, ""},
		{"groups.png", "/groups/thermostats-behind", "light", 1440, 860, ""},
		{"audit.png", "/audit", "light", 1440, 860, ""},
	} {
		b.size(p.width, p.height)
		b.scheme(p.scheme)
		b.goTo(p.path)
		b.until(p.file+" is drawn", `document.fonts.status === "loaded" && (!document.body.dataset.live || document.querySelector("[data-live-state]").dataset.state === "live")`)
		png := b.shot()
		const most = 250 << 10
		if len(png) > most {
			t.Errorf("%s has %d bytes, at most %d are wanted", p.file, len(png), most)
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// pictured brings a rollout to where its second wave waits for approval.
func (f *fleet) pictured() {
	f.t.Helper()
	m := f.image(orchestrator.NewImage{ImageType: "application", DeviceTypes: []string{"valve-v1"}, Version: "3.6.0"}, 96<<10, 360)
	minutes := func(n int) orchestrator.Duration { return orchestrator.Duration(time.Duration(n) * time.Minute) }
	f.create("ada", orchestrator.NewJob{
		Name: "valves-3.6", Image: m.ID, Query: `type == "valve-v1"`, Description: "Longer battery life, a few at first", Start: true,
		Rollout: &orchestrator.Rollout{
			Waves: []orchestrator.Wave{
				{Name: "canaries", Devices: []string{"valve-berlin-001", "valve-hamburg-002"}, Of: orchestrator.OfOnline},
				{Percent: 25, Success: 95, Of: orchestrator.OfOnline, Soak: minutes(60), Approve: true}, {Percent: 100},
			},
			Stop:  []orchestrator.StopRule{{Percent: 20, MinSample: 5}, {Count: 1, Causes: []schemas.Cause{schemas.CauseBoot}}},
			Pace:  &orchestrator.Pace{MaxInProgress: 50},
			Retry: &orchestrator.RetryPolicy{Attempts: 3},
		},
	})
	f.until("the second wave waits for approval", func() bool {
		j, _, err := f.client.Job(f.t.Context(), "valves-3.6")
		return err == nil && len(j.Waves) == 3 && j.Waves[1].State == orchestrator.WaveApproval
	})
}

// roles is what each role sees on the page of a running job.
func (f *fleet) testRoles(t *testing.T) {
	for _, c := range []struct {
		user    string
		buttons []string
	}{
		{"vera", nil},
		{"otto", []string{"Pause"}},
		{"dora", []string{"Pause"}},
		{"ada", []string{"Pause", "Retry failed", "Cancel job"}},
	} {
		t.Run(c.user, func(t *testing.T) {
			b := f.signedIn(t, c.user)
			b.goTo("/jobs/" + f.running)
			got := eval[[]string](b, `[...document.querySelectorAll(".actions button")].map((e) => e.innerText.trim())`)
			if !slices.Equal(got, c.buttons) {
				t.Errorf("%s sees %q, want %q", c.user, got, c.buttons)
			}
			for verb, allowed := range map[string]bool{"start": c.user == "ada", "retry": c.user == "ada", "pause": c.user != "vera"} {
				if allowed {
					continue
				}
				b.expectError()
				status := b.post("/jobs/"+f.running+"/"+verb, "")
				if status != 403 {
					t.Errorf("%s of %s is answered with %d, want 403", verb, c.user, status)
				}
			}
			if c.user == "vera" {
				b.goTo("/images")
				if b.has(".actions a") || b.has(`a[href^="/new/job"]`) {
					t.Error("a viewer is offered to upload or to deploy")
				}
				b.expectError()
				b.goTo("/new/job")
				b.sees("You may not do this")
				b.sees("admin")
			}
		})
	}
}

// post sends a form from the page that is open and returns the status.
func (b *tab) post(path, body string) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	status, err := chromedp.Run(ctx, chromedp.Evaluate[int](fmt.Sprintf(
		`fetch(%q, {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: %q}).then((r) => r.status)`, path, body), chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return status
}
