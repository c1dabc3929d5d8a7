package orchestrator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// plant is fleet with a device of another type, labels and reported versions.
func (e *env) plant() []string {
	e.t.Helper()
	ids := e.fleet(6)
	must[orchestrator.DeviceType](e.t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "valve", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	must[orchestrator.Device](e.t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "v000", Type: "valve"}))
	for i, id := range ids {
		labels := map[string]string{"site": []string{"berlin", "paris"}[i%2]}
		must[orchestrator.Device](e.t)(e.UpdateDevice(ctx, id, orchestrator.DevicePatch{Labels: &labels}))
		e.ok(e.Hello(ctx, id, schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": fmt.Sprintf("1.%d", i)}}))
	}
	must[orchestrator.Group](e.t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "first", Devices: ids[:2]}))
	must[orchestrator.Group](e.t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "berlin", Query: `label.site == "berlin"`}))
	return ids
}

// targeted lists the devices of a job that was started.
func (e *env) targeted(job string) string {
	e.t.Helper()
	list, _, err := e.JobExecutions(ctx, job, orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	e.ok(err)
	var out []string
	for _, x := range list {
		out = append(out, x.Device)
	}
	return strings.Join(out, " ")
}

func TestTargets(t *testing.T) {
	e := newEnv(t, func(o *orchestrator.Options) { o.JobBatch = 2 })
	defer e.checkClean()
	e.plant()
	m := e.image("2", content(10, 1))
	for i, c := range []struct {
		n       orchestrator.NewJob
		devices string
	}{
		{orchestrator.NewJob{Devices: []string{"d005", "d001"}}, "d001 d005"},
		{orchestrator.NewJob{Groups: []string{"first"}}, "d000 d001"},
		{orchestrator.NewJob{Groups: []string{"berlin"}}, "d000 d002 d004"},
		{orchestrator.NewJob{Query: `version.app > "1.3"`}, "d004 d005"},
		{orchestrator.NewJob{Devices: []string{"d003", "d000"}, Groups: []string{"berlin", "first"}, Query: `version.app < "1.2"`}, "d000 d001 d002 d003 d004"},
	} {
		c.n.Name, c.n.Image, c.n.Description, c.n.Start = fmt.Sprintf("j%d", i), m.ID, "what for", true
		j, err := e.CreateJob(ctx, c.n)
		e.ok(err)
		if got := e.targeted(j.Name); got != c.devices || j.Targets != len(strings.Fields(got)) || j.Description != "what for" || j.Query != c.n.Query {
			t.Errorf("%+v is for %s (%+v), want %s", c.n, got, j, c.devices)
		}
		p, err := e.PreviewJob(ctx, c.n)
		if err != nil || p.Devices != j.Targets || p.ByType["pump"] != j.Targets || p.Busy != j.Targets || p.UnfitAll != 0 {
			t.Errorf("preview of %+v: %+v, %v", c.n, p, err)
		}
		if got := e.actions(j.Name); got != "start create" {
			t.Errorf("audited %q", got)
		}
	}
}

func TestPreview(t *testing.T) {
	e := newEnv(t)
	e.plant()
	for i := range 14 {
		must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: fmt.Sprintf("w%03d", i), Type: "valve"}))
	}
	m := e.image("1.3", content(10, 1))
	e.job("other", e.image("9", content(10, 2)).ID, "d004")
	p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Query: `type in ["pump", "valve"]`}))
	if p.Devices != 21 || p.ByType["pump"] != 6 || p.ByType["valve"] != 15 || p.Running != 1 || p.Busy != 1 || p.UnfitAll != 15 ||
		len(p.Unfit) != 10 || p.Unfit[0] != "v000 (valve)" {
		t.Errorf("preview %+v", p)
	}
	p = must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID}))
	if p.Devices != 0 || p.Unfit == nil || p.ByType == nil {
		t.Errorf("preview without a target: %+v", p)
	}
	_, err := e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: []string{"d000", "nobody"}})
	e.wants(err, orchestrator.ErrNotFound, `device "nobody"`)
	if list, _, err := e.Jobs(ctx, orchestrator.JobFilter{}, orchestrator.Page{}); err != nil || len(list) != 1 {
		t.Errorf("a preview left jobs behind: %v, %v", list, err)
	}
	e.checkClean()
}

func TestWrongFieldsOfAJob(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.plant()
	m := e.image("2", content(10, 1))
	good := orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"d000", "d001"}}
	for _, c := range []struct {
		field string
		kind  error
		edit  func(*orchestrator.NewJob)
	}{
		{"name", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Name = "" }},
		{"image", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Image = "../x" }},
		{"image", orchestrator.ErrNotFound, func(n *orchestrator.NewJob) { n.Image = "img-none" }},
		{"description", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Description = "a\x00b" }},
		{"devices/1", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Devices[1] = "a/b" }},
		{"devices/1", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Devices[1] = "d000" }},
		{"devices/1", orchestrator.ErrNotFound, func(n *orchestrator.NewJob) { n.Devices[1] = "d999" }},
		{"devices/1", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Devices[1] = "v000" }},
		{"groups/0", orchestrator.ErrNotFound, func(n *orchestrator.NewJob) { n.Groups = []string{"none"} }},
		{"query", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Query = "type ==" }},
		{"query", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Query = `type == "valve"` }},
		{"devices", orchestrator.ErrInvalid, func(n *orchestrator.NewJob) { n.Devices, n.Query = nil, `type == "none"` }},
	} {
		n := good
		n.Devices = slices.Clone(good.Devices)
		c.edit(&n)
		_, err := e.CreateJob(ctx, n)
		var field *orchestrator.FieldError
		if !errors.Is(err, c.kind) || !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%+v: error %v of field %+v, want field %s", n, err, field, c.field)
		}
	}
	_, _, err := e.Jobs(ctx, orchestrator.JobFilter{State: "resting"}, orchestrator.Page{})
	e.wants(err, orchestrator.ErrInvalid, "state")
	_, _, err = e.Jobs(ctx, orchestrator.JobFilter{}, orchestrator.Page{After: "zz"})
	e.wants(err, orchestrator.ErrInvalid, "after")
	_, _, err = e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{States: []schemas.State{"resting"}}, orchestrator.Page{})
	e.wants(err, orchestrator.ErrInvalid, "state/0")
	_, err = e.Job(ctx, "j")
	e.wants(err, orchestrator.ErrNotFound)
}

func TestUpdateJob(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	e.job("j", e.image("2", content(10, 1)).ID, "d000")
	text, one := "new", uint64(1)
	j := must[orchestrator.Job](t)(e.UpdateJob(ctx, "j", orchestrator.JobPatch{Precondition: orchestrator.Precondition{IfRevision: &one}, Description: &text}))
	if j.Description != "new" || j.Revision != 2 || j.State != orchestrator.JobRunning {
		t.Errorf("updated to %+v", j)
	}
	_, err := e.UpdateJob(ctx, "j", orchestrator.JobPatch{Precondition: orchestrator.Precondition{IfRevision: &one}, Description: &text})
	e.wants(err, orchestrator.ErrStale, "revision 2")
	_, err = e.UpdateJob(ctx, "none", orchestrator.JobPatch{})
	e.wants(err, orchestrator.ErrNotFound)
	if got := e.actions("j"); got != "update start create" {
		t.Errorf("audited %q", got)
	}
	if again := must[orchestrator.Job](t)(e.Job(ctx, "j")); again.Description != "new" || again.Revision != 2 {
		t.Errorf("read %+v", again)
	}
}

// TestRepeatedCreation makes a job once for an idempotency key, started and all.
func TestRepeatedCreation(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	n := orchestrator.NewJob{Name: "j", Image: e.image("2", content(10, 1)).ID, Devices: []string{"d000"}, Start: true}
	keyed := orchestrator.WithIdempotency(ctx, orchestrator.IdempotencyKey{Key: "k", Fingerprint: "f"})
	must[orchestrator.Job](t)(e.CreateJob(keyed, n))
	_, err := e.CreateJob(keyed, n)
	if r, ok := orchestrator.IsReplay(err); !ok || r.Kind != orchestrator.KindJob || r.ID != "j" {
		t.Errorf("repeated: %v", err)
	}
	_, err = e.CreateJob(ctx, n)
	e.wants(err, orchestrator.ErrExists)
	if got := e.actions("j"); got != "start create" {
		t.Errorf("audited %q", got)
	}
}

func TestJobsAreListedNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		e.fleet(1)
		images := []string{e.image("2", content(10, 1)).ID, e.image("3", content(10, 2)).ID}
		for i := range 7 {
			time.Sleep(time.Second)
			n := orchestrator.NewJob{Name: fmt.Sprintf("job-%d", (i*3)%7), Image: images[i%2], Devices: []string{"d000"}, Start: i < 3}
			if i == 5 {
				n.Description = "Of Interest"
			}
			must[orchestrator.Job](t)(e.CreateJob(ctx, n))
		}
		for _, c := range []struct {
			f    orchestrator.JobFilter
			want string
		}{
			{orchestrator.JobFilter{}, "4 1 5 2 6 3 0"},
			{orchestrator.JobFilter{Image: images[0]}, "4 5 6 0"},
			{orchestrator.JobFilter{Image: "img-none"}, ""},
			{orchestrator.JobFilter{State: orchestrator.JobRunning}, "6 3 0"},
			{orchestrator.JobFilter{State: orchestrator.JobDraft, Image: images[1]}, "1 2"},
			{orchestrator.JobFilter{Text: "interest"}, "1"},
			{orchestrator.JobFilter{Text: "JOB-4"}, "4"},
		} {
			for _, limit := range []int{1, 2, 3, 100} {
				var got []string
				after := ""
				for page := 0; page == 0 || after != ""; page++ {
					list, next, err := e.Jobs(ctx, c.f, orchestrator.Page{After: after, Limit: limit})
					e.ok(err)
					for _, j := range list {
						got = append(got, strings.TrimPrefix(j.Name, "job-"))
					}
					after = next
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("%+v by %d: %v, want %s", c.f, limit, got, c.want)
				}
			}
		}
	})
}

func TestExecutionsByState(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	ids := e.fleet(9)
	e.job("j", e.image("2", content(10, 1)).ID, ids...)
	for i, id := range ids {
		if s := []schemas.State{schemas.StateFailed, schemas.StateSucceeded, schemas.StateOffered}[i%3]; s != schemas.StateOffered {
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, s)))
		}
	}
	for _, c := range []struct {
		states []schemas.State
		want   string
	}{
		{[]schemas.State{schemas.StateFailed}, "d000 d003 d006"},
		{[]schemas.State{schemas.StateOffered, schemas.StateFailed, schemas.StateOffered}, "d000 d002 d003 d005 d006 d008"},
		{schemas.States(), "d000 d001 d002 d003 d004 d005 d006 d007 d008"},
		{[]schemas.State{schemas.StateCanceled}, ""},
	} {
		for _, limit := range []int{1, 2, 4, 100} {
			var got []string
			after := ""
			for page := 0; page == 0 || after != ""; page++ {
				list, next, err := e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{States: c.states}, orchestrator.Page{After: after, Limit: limit})
				e.ok(err)
				for _, x := range list {
					got = append(got, x.Device)
				}
				after = next
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v by %d: %v, want %s", c.states, limit, got, c.want)
			}
		}
	}
}
