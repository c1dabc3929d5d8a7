package web

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/schemas"
)

const admin = people.RoleAdmin

// lacks fails the test if the answer has one of the words.
func lacks(t testing.TB, body *bytes.Buffer, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(body.String(), word) {
			t.Errorf("the page says %q", word)
		}
	}
}

// TestPlansOfForms fills a form with plans and reads them again.
func TestPlansOfForms(t *testing.T) {
	const hour = orchestrator.Duration(time.Hour)
	at := time.Date(2026, 12, 1, 21, 30, 0, 0, time.UTC)
	for name, want := range map[string]*orchestrator.Rollout{
		"none": nil, "good practice": goodPractice(1000),
		"everything": {
			Seed: "s", Continuous: true, Priority: -7, Action: orchestrator.ActionSoft, DeferLimit: 24 * hour, Via: []string{"img-1", "img-2"},
			Waves: []orchestrator.Wave{
				{Name: "canary", Devices: []string{"a", "b"}, Of: orchestrator.OfAll}, {Group: "lab", Of: orchestrator.OfOnline, Approve: true},
				{Count: 12, Success: 99.5, Of: orchestrator.OfAll, Soak: 90 * orchestrator.Duration(time.Second)}, {Percent: 2.5, Of: orchestrator.OfAll},
			},
			Stop: []orchestrator.StopRule{
				{Causes: []schemas.Cause{schemas.CauseBoot, schemas.CauseFlash}, Count: 3, Percent: 1.5, MinSample: 9, Over: orchestrator.OverWave, Action: orchestrator.StopRecall, RollBack: "img-0"},
				{Count: 1},
			},
			Pace: &orchestrator.Pace{MaxInProgress: 5, PerMinute: 6, Ramp: &orchestrator.Ramp{Start: 1, Factor: 1.5, After: 10}, Groups: []orchestrator.GroupPace{{Group: "lab", PerMinute: 2}}},
			Schedule: &orchestrator.Schedule{Start: at, End: at.Add(48 * time.Hour), DeviceZone: "tz", Recall: true,
				Windows: []orchestrator.Window{{Cron: "0 1 * * mon-fri", Duration: 4 * hour, Zone: "Europe/Berlin"}, {Cron: "0 3 * * *", Duration: hour}}},
			Timeouts: &orchestrator.Timeouts{Answer: hour, Download: 2 * hour, Load: 3 * hour, LoadRate: 400, Boot: 5 * hour, Version: 6 * hour, Total: 24 * hour},
			Retry: &orchestrator.RetryPolicy{Attempts: 4, Budget: 100, Backoff: &orchestrator.Backoff{First: hour, Factor: 3, Max: 9 * hour, Jitter: 0.5},
				Causes: map[schemas.Cause]orchestrator.CauseRetry{schemas.CauseBoot: {Attempts: 1}, schemas.CauseNetwork: {Attempts: 9, Backoff: &orchestrator.Backoff{First: hour}}}},
		},
		"agreement": {Action: orchestrator.ActionConfirm, ConfirmBy: orchestrator.ByProduct},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForm()
			f.fillPlan(want)
			got := f.plan()
			if want != nil {
				for i := range want.Waves { // the form says what is meant where nothing is said
					want.Waves[i].Of = cmp.Or(want.Waves[i].Of, orchestrator.OfAll)
				}
			}
			if f.Bad() || !reflect.DeepEqual(got, want) {
				t.Errorf("errors %v; got\n%+v\nwant\n%+v", f.Errors, got, want)
			}
		})
	}
}

// filled is a form of a new job with the plan of good practice, as a browser sends it,
// and with other values: name, value, name, value.
func filled(image string, pairs ...string) []string {
	f := newForm()
	f.fillPlan(goodPractice(1000))
	f.Values.Set("image", image)
	f.Values.Set("name", "roll")
	f.Values.Set("target", "groups")
	f.Values.Set("group", "pair")
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Values.Set(pairs[i], pairs[i+1])
	}
	return pairsOf(f.Values)
}

func pairsOf(values url.Values) []string {
	var out []string
	for name, list := range values {
		for _, v := range list {
			out = append(out, name, v)
		}
	}
	return out
}

func TestNewJobWithAPlan(t *testing.T) {
	r, m := jobRig(t)
	// Good practice is filled in, but counts only when it is chosen.
	w := r.get(admin, "/new/job?image="+m.ID)
	wants(t, w, http.StatusOK, `value="once" id="plan-once" checked`, `name="rollout/waves/1/percent" type="text" value="25"`, `name="rollout/waves/1/soak" type="text" value="1h"`,
		`name="rollout/stop/0/min_sample" type="text" value="1"`, `name="rollout/retry/attempts" type="text" value="3"`)
	checkHTML(t, "new job", w.Body.String())
	if f := newForm(filled(m.ID, "rollout_mode", "once")...); f.plan() != nil {
		t.Error("a plan that was not chosen counts")
	}
	w = r.post(admin, "/new/job/preview", filled(m.ID)...)
	wants(t, w, http.StatusOK, "The plan in words", "Wave 1: up to 5 % of the devices", "tried 3 times in all")
	// What the service refuses stands at its field: the job has two devices.
	wants(t, r.post(admin, "/new/job", filled(m.ID)...), http.StatusUnprocessableEntity, `id="f-rollout-stop-0-min_sample-error"`)
	leads(t, r.post(admin, "/new/job", filled(m.ID, "rollout/stop/0/min_sample", "")...), "/jobs/roll", "created")
}

func TestRowsWithoutScripts(t *testing.T) {
	r, m := jobRig(t)
	w := r.post(admin, "/new/job/preview", filled(m.ID, "add", "rollout/waves")...)
	wants(t, w, http.StatusOK, "<legend>Wave 4</legend>", `name="rollout/waves/3/kind" autofocus`)
	lacks(t, w.Body, "Wave 5", "This was not saved")
	checkHTML(t, "one more wave", w.Body.String())
	w = r.post(admin, "/new/job/preview", filled(m.ID, "remove", "rollout/waves/0")...)
	wants(t, w, http.StatusOK, "<legend>Wave 2</legend>", `name="rollout/waves/0/percent" type="text" value="25"`, `id="add-waves" formaction="/new/job/preview" formnovalidate autofocus`)
	lacks(t, w.Body, "Wave 3", `value="5" inputmode="decimal">\n</div></div>\n<div data-kind="count">`)
	for list, words := range map[string]string{"stop": "Rule 2", "pace/groups": "Group 1", "schedule/windows": "Window 1", "retry/causes": "Cause 1"} {
		w = r.post(admin, "/new/job/preview", filled(m.ID, "add", "rollout/"+list)...)
		wants(t, w, http.StatusOK, "<legend>"+words+"</legend>")
		checkHTML(t, list, w.Body.String())
	}
	// What is no row, or one too many, is left alone.
	for _, odd := range []string{"rollout/waves/9", "rollout/waves/x", "rollout", "rollout/waves/-1"} {
		wants(t, r.post(admin, "/new/job/preview", filled(m.ID, "remove", odd)...), http.StatusOK, "<legend>Wave 3</legend>")
	}
	f := newForm("rollout/waves/999999999/percent", "5")
	if n := f.rows(planWaves); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestPlanErrorsStandAtTheirField(t *testing.T) {
	r, m := jobRig(t)
	at := func(body, field string) {
		t.Helper()
		id := "f-" + strings.ReplaceAll(field, "/", "-")
		if !strings.Contains(body, `aria-describedby="`+id+`-error" aria-invalid="true"`) || !strings.Contains(body, `id="`+id+`-error"`) {
			t.Errorf("no error at %s", field)
		}
	}
	for field, typed := range map[string]string{
		"rollout/waves/0/percent": "few", "rollout/waves/1/soak": "long", "rollout/stop/0/count": "1.5", "rollout/pace/ramp/factor": "NaN",
		"rollout/schedule/start": "tomorrow", "rollout/retry/backoff/first": "-1s", "rollout/priority": "high",
	} {
		w := r.post(admin, "/new/job", filled(m.ID, field, typed)...)
		wants(t, w, http.StatusUnprocessableEntity, "This was not saved")
		at(w.Body.String(), field)
		w = r.post(admin, "/new/job/preview", filled(m.ID, field, typed)...) // htmx shows only what was answered with 200
		wants(t, w, http.StatusOK, "This cannot be counted as it stands")
		at(w.Body.String(), field)
	}
	// The service's own errors; causes are rows.
	r.staged.preview = func(n orchestrator.NewJob) (orchestrator.JobPreview, error) {
		return orchestrator.JobPreview{}, orchestrator.InvalidField(n.Description, "does not fit")
	}
	for _, field := range []string{"rollout/waves/2/percent", "rollout/retry/causes/boot/attempts", "rollout/stop/0/percent"} {
		pairs := filled(m.ID, "description", field, "rollout/retry/causes/0/cause", "network", "rollout/retry/causes/1/cause", "boot")
		w := r.post(admin, "/new/job/preview", pairs...)
		wants(t, w, http.StatusOK, "Does not fit.")
		at(w.Body.String(), strings.Replace(field, "causes/boot", "causes/1", 1))
		checkHTML(t, field, w.Body.String())
	}
	// Lists, rows and parts as a whole.
	for _, field := range []string{"rollout", "rollout/waves", "rollout/stop/0", "rollout/schedule", "rollout/via/0", "rollout/stop/0/causes/0"} {
		w := r.post(admin, "/new/job/preview", filled(m.ID, "description", field)...)
		if n := strings.Count(w.Body.String(), "Does not fit."); n != 2 && field != "rollout/via/0" {
			t.Errorf("the error of %s is told %d times, want in the preview and at its place", field, n)
		}
	}
	wants(t, r.post(admin, "/new/job/preview", filled(m.ID, "rollout/retry/causes/0/cause", "boot", "rollout/retry/causes/1/cause", "boot")...), http.StatusOK, "This cause has a row already")
}

func TestPlanAsText(t *testing.T) {
	r, m := jobRig(t)
	form := func(text string) []string { return filled(m.ID, "rollout_mode", "json", "rollout_text", text) }
	for text, words := range map[string]string{
		"": "Paste a plan", "{": "not a plan in JSON", `{"wave":[]}`: `unknown field &#34;wave&#34;`, `{} {}`: "something follows it", `{"waves":[{"soak":"long"}]}`: "not a plan in JSON",
	} {
		wants(t, r.post(admin, "/new/job", form(text)...), http.StatusUnprocessableEntity, words, `id="f-rollout_text-error"`)
	}
	r.staged.preview = func(orchestrator.NewJob) (orchestrator.JobPreview, error) {
		return orchestrator.JobPreview{}, orchestrator.InvalidField("rollout/waves/0/percent", "more than 100")
	}
	w := r.post(admin, "/new/job/preview", form(`{"waves":[{"percent":101}]}`)...)
	wants(t, w, http.StatusOK, "Waves 1, percent: More than 100", `id="f-rollout_text-error"`)
	f := newForm(form(`{"waves":[{"percent":5,"soak":"1h"}]}`)...)
	if got := f.plan(); f.Bad() || got.Waves[0].Soak != orchestrator.Duration(time.Hour) {
		t.Errorf("%+v, %v", got, f.Errors)
	}
}

func TestPreviewOfARollout(t *testing.T) {
	r, m := jobRig(t)
	r.staged.preview = func(n orchestrator.NewJob) (orchestrator.JobPreview, error) {
		return orchestrator.JobPreview{
			Devices: 120, Waves: []orchestrator.PreviewWave{{Name: "canary", Devices: 7, First: []string{"b-1", "b-2"}, Duration: orchestrator.Duration(90 * time.Minute)}},
			Excluded:   map[orchestrator.ExclusionKind]int{orchestrator.ExcludedUnreachable: 3, orchestrator.ExcludedRunning: 1200, orchestrator.ExcludedQuarantined: 2},
			Exclusions: []orchestrator.Exclusion{{Device: "b-9", Reason: "no image leads from 0.1 to 2.0"}, {Device: "b-8", Reason: "quarantined since 2026-05-04 10:00 UTC: stolen"}},
			Paths:      map[string]int{"1.0 > 1.5 > 2.0": 40}, Bytes: 5 << 20, Duration: orchestrator.Duration(26 * time.Hour), DeviceTime: orchestrator.Duration(4 * time.Minute), Offline: 11,
			Assumes: []string{"A serial line takes 11,520 bytes a second."},
		}, nil
	}
	w := r.post(admin, "/new/job/preview", filled(m.ID)...)
	wants(t, w, http.StatusOK, "<strong>canary</strong> 7 devices", "1 h 30 min", "b-1, b-2", "1\u202f200 run it already, 3 cannot get there, 2 are in quarantine", "quarantined since 2026-05-04 10:00 UTC: stolen", "no image leads from 0.1 to 2.0",
		"1.0 &gt; 1.5 &gt; 2.0: 40 devices", "5 MiB", "26 h", "4 min for one", "11,520 bytes", ">11 <")
	checkHTML(t, "preview", w.Body.String())
}

func TestRolloutPage(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	w := r.get(admin, "/jobs/"+rolloutJob)
	wants(t, w, http.StatusOK,
		"<strong>Waiting:</strong> somebody has to approve wave 2", "Approve wave 2", `href="/jobs/winter/waves/3">3. rest</a>`, `aria-label="3 succeeded, 1 failed, 1 under way, 1 waiting of 6"`,
		"3 of 4", "soak time ends <time", "waits for approval", "7 retries", "tried again <time", "time limit <time", "downloaded, waits for the command to install",
		"The job is paused when 5 % of at least 20 devices", "The plan in JSON", `href="/new/job?like=winter"`, "wave 1, attempt 2")
	lacks(t, w.Body, "Begin now", "Agree for all", "Install on all", "It was stopped")
	wants(t, r.get(admin, "/new/job?like=winter&image="+must[orchestrator.Job](t)(r.Job(background, rolloutJob)).Image), http.StatusOK, `value="waves" id="plan-waves" checked`, `value="b-1, b-2"`)
	viewer := r.get(people.RoleViewer, "/jobs/"+rolloutJob)
	lacks(t, viewer.Body, "/approve", "/install", "/confirm", "/cancel")
	wants(t, r.get(admin, "/jobs"), http.StatusOK, "wave 2 of 3 waits for approval")
	wants(t, r.get(admin, "/"), http.StatusOK, "Jobs that need attention", "wave 2 of 3 waits for approval")
	wants(t, r.get(admin, "/help"), http.StatusOK, `id="rollouts"`)
}

// staged changes the job that stageRollout made further.
func (r *rig) restage(edit func(*orchestrator.Job)) {
	first := r.staged.edit[rolloutJob]
	r.staged.edit[rolloutJob] = func(j *orchestrator.Job) { first(j); edit(j) }
}

func TestRolloutThatARuleStopped(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	system := orchestrator.Actor{Name: "system", Kind: orchestrator.ActorSystem}
	r.staged.entries = map[string][]orchestrator.AuditEntry{rolloutJob: {
		{Action: "pause", Actor: system, Time: time.Now()}, {Action: "approve", Actor: orchestrator.Actor{Name: "ada", Kind: orchestrator.ActorUser}, Time: time.Now()}}}
	r.restage(func(j *orchestrator.Job) {
		j.State, j.Reason, j.Waiting = orchestrator.JobPaused, "6 of 30 devices have failed (20 %)", ""
		j.Waves[1].State, j.Rollout.Action = orchestrator.WaveWaiting, orchestrator.ActionDownload
	})
	w := r.get(admin, "/jobs/"+rolloutJob)
	wants(t, w, http.StatusOK, "It was stopped by a rule: 6 of 30 devices have failed (20 %)", "Begin now", `name="force" value="on"`, "Install on all", "Resume", "Paused by a rule</strong>", "Wave approved</strong> by ada")
	lacks(t, w.Body, "Approve wave", "by system")
	checkHTML(t, "paused", w.Body.String())
	wants(t, r.get(admin, "/jobs"), http.StatusOK, `bad-text">wave 1 of 3: 6 of 30 devices have failed (20 %)`)
	wants(t, r.get(admin, "/"), http.StatusOK, "Jobs that need attention", "6 of 30 devices")
	r.restage(func(j *orchestrator.Job) {
		j.State, j.RollBackJob, j.Rollout.Action = orchestrator.JobCanceled, "winter-roll-back", orchestrator.ActionConfirm
	})
	w = r.get(admin, "/jobs/"+rolloutJob)
	wants(t, w, http.StatusOK, "It was canceled by a rule: 6 of 30", `href="/jobs/winter-roll-back"`)
	lacks(t, w.Body, "Begin now", "Agree for all", "Cancel job")
	wants(t, r.get(admin, "/"), http.StatusOK, "Jobs that need attention")
	r.restage(func(j *orchestrator.Job) { j.CompletedAt = time.Now().Add(-8 * 24 * time.Hour) })
	lacks(t, r.get(admin, "/").Body, "Jobs that need attention")
}

func TestRolloutActions(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	at := "/jobs/" + rolloutJob
	for _, c := range []struct {
		path  string
		form  []string
		asked any
		to    string
		says  string
	}{
		{"/approve", []string{"wave", "2"}, orchestrator.ApproveRequest{Wave: 2}, at, "Wave 2 was approved"},
		{"/approve", []string{"wave", "3", "force", "on"}, orchestrator.ApproveRequest{Wave: 3, Force: true}, at, "Wave 3 begins now"},
		{"/install", nil, orchestrator.DevicesRequest{}, at, "All devices that waited are told to install"},
		{"/install", []string{"device", "b-1", "next", "/executions/x"}, orchestrator.DevicesRequest{Devices: []string{"b-1"}}, "/executions/x", "b-1 is told to install"},
		{"/confirm", []string{"device", "b-1", "next", "//evil"}, orchestrator.DevicesRequest{Devices: []string{"b-1"}}, at, "b-1 may be updated now"},
		{"/cancel", []string{"in_progress", "finish"}, orchestrator.CancelRequest{Finish: true}, at, "what devices have accepted finishes"},
		{"/cancel", []string{"in_progress", "recall"}, orchestrator.CancelRequest{}, at, "The job was canceled."},
		{"/cancel", nil, orchestrator.CancelRequest{}, at, "The job was canceled."},
	} {
		r.staged.asked = nil
		leads(t, r.post(admin, at+c.path, c.form...), c.to, c.says)
		if !reflect.DeepEqual(r.staged.asked, []any{c.asked}) {
			t.Errorf("%s with %q asks for %+v, want %+v", c.path, c.form, r.staged.asked, c.asked)
		}
		wants(t, r.post(people.RoleDeveloper, at+c.path, c.form...), http.StatusForbidden)
	}
	wants(t, r.post(admin, at+"/approve", "wave", "two"), http.StatusUnprocessableEntity, "not a whole number")
}

func TestAgreement(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	r.restage(func(j *orchestrator.Job) { j.Rollout.Action = orchestrator.ActionConfirm })
	r.staged.members[rolloutJob][2].Execution.Downloaded = false
	third := r.staged.members[rolloutJob][2].Execution
	wants(t, r.get(admin, "/jobs/"+rolloutJob), http.StatusOK, "Agree for all", "waits for agreement", `action="/jobs/winter/confirm"`)
	wants(t, r.get(admin, "/executions/"+third.ID), http.StatusOK, "waits for agreement", `name="device" value="`+third.Device+`"`)
	lacks(t, r.get(people.RoleOperator, "/executions/"+third.ID).Body, "/confirm")
	third.Confirmed = true
	lacks(t, r.get(admin, "/executions/"+third.ID).Body, "waits for agreement")
	r.restage(func(j *orchestrator.Job) { j.Rollout.ConfirmBy = orchestrator.ByProduct })
	lacks(t, r.get(admin, "/jobs/"+rolloutJob).Body, "Agree for all", "waits for agreement")
}

func TestWavePage(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	wants(t, r.get(people.RoleViewer, "/jobs/winter/waves/1"), http.StatusOK, "Wave 1: canary", "3 have succeeded; the next wave takes 4", "tried again <time", "not started", "Soak time ends")
	for _, odd := range []string{"0", "4", "x", "-1"} {
		wants(t, r.get(admin, "/jobs/winter/waves/"+odd), http.StatusNotFound)
	}
	wants(t, r.get(admin, "/jobs/nothing/waves/1"), http.StatusNotFound)
}

func TestExecutionOfARollout(t *testing.T) {
	r, _ := jobRig(t)
	r.stageRollout()
	members := r.staged.members[rolloutJob]
	wants(t, r.get(admin, "/executions/"+members[0].Execution.ID), http.StatusOK, "waits to be offered again", "Not before", `href="/jobs/winter/waves/1">1. canary`, "Download failed", "no route")
	w := r.get(admin, "/executions/"+members[1].Execution.ID)
	wants(t, w, http.StatusOK, "<dt>Goal</dt><dd>9.0", "Time limit", "it reached 1.5", "The offer was withdrawn for job urgent, which has a higher priority.")
	if n := strings.Count(w.Body.String(), "withdrawn for job urgent"); n != 1 {
		t.Errorf("the reason is told %d times", n)
	}
	wants(t, r.get(admin, "/executions/"+members[2].Execution.ID), http.StatusOK, "waits for the command to install", `action="/jobs/winter/install"`)
}

// TestPagesFollowFromWhereTheyWereMade: what changes before the browser has opened the
// stream is in it.
func TestPagesFollowFromWhereTheyWereMade(t *testing.T) {
	r, _ := jobRig(t)
	before := must[uint64](t)(r.LastRev(background))
	wants(t, r.get(admin, "/jobs"), http.StatusOK, fmt.Sprintf(`data-live="kind=job" data-live-since="%d"`, before))
}
