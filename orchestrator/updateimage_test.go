package orchestrator_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// lastAudit is the entry that was made last for a record.
func (e *env) lastAudit(kind, id string) orchestrator.AuditEntry {
	e.t.Helper()
	entries, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{Kind: kind, ID: id}, orchestrator.Page{Limit: 1})
	e.ok(err)
	if len(entries) == 0 {
		e.t.Fatalf("nothing is noted of %s %q", kind, id)
	}
	return entries[0]
}

func TestImagesAreEdited(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(0)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "tiny", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app", SizeLimit: 50}}}))
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "other", Dialect: "ayla"}))
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "valve", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	m := e.image("1", content(100, 1))
	acting := orchestrator.WithActor(ctx, orchestrator.Actor{Name: "ann", Kind: orchestrator.ActorUser})
	m2 := must[orchestrator.Image](t)(e.UpdateImage(acting, m.ID, orchestrator.ImagePatch{
		Precondition: orchestrator.Precondition{IfRevision: ptr(uint64(1))},
		Version:      ptr("1.1"), MinVersion: ptr("1.0"), Description: ptr("new"), Tags: &[]string{"z", "a"}, DeviceTypes: &[]string{"valve", "pump"},
	}))
	if m2.Revision != 2 || m2.Version != "1.1" || m2.MinVersion != "1.0" || m2.Description != "new" ||
		!slices.Equal(m2.Tags, []string{"a", "z"}) || !slices.Equal(m2.DeviceTypes, []string{"pump", "valve"}) || m2.SHA256 != m.SHA256 {
		t.Errorf("edited %+v", m2)
	}
	if a := e.lastAudit(orchestrator.KindImage, m.ID); a.Action != "update" || a.Actor.Name != "ann" ||
		!strings.Contains(string(a.Before), `"version":"1"`) || !strings.Contains(string(a.After), `"version":"1.1"`) {
		t.Errorf("noted %+v", a)
	}
	_, err := e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Precondition: orchestrator.Precondition{IfRevision: ptr(uint64(1))}, Version: ptr("2")})
	e.wants(err, orchestrator.ErrStale, "revision 2", "read it again")
	_, err = e.UpdateImage(ctx, "img-none", orchestrator.ImagePatch{})
	e.wants(err, orchestrator.ErrNotFound, "img-none")
	for field, p := range map[string]orchestrator.ImagePatch{
		"device_types/0": {DeviceTypes: &[]string{"other"}},
		"device_types":   {DeviceTypes: &[]string{}},
		"tags/1":         {Tags: &[]string{"a", "a"}},
		"version":        {Version: ptr("")},
		"min_version":    {MinVersion: ptr("a\nb")},
		"description":    {Description: ptr("\x00")},
	} {
		_, err := e.UpdateImage(ctx, m.ID, p)
		e.wantsField(err, field)
	}
	_, err = e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{DeviceTypes: &[]string{"pump", "gone"}})
	e.wants(err, orchestrator.ErrNotFound, `device type "gone"`)
	_, err = e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{DeviceTypes: &[]string{"tiny"}})
	e.wants(err, orchestrator.ErrTooLarge, `"tiny"`, "50 bytes")
	if now := must[orchestrator.Image](t)(e.Image(ctx, m.ID)); now.Revision != 2 {
		t.Errorf("refused edits left %+v", now)
	}
}

func TestImagesOfJobsKeepWhatTheyAre(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "valve", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	m := e.image("2", content(100, 1), func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"pump", "valve"} })
	edit := func(p orchestrator.ImagePatch) error {
		_, err := e.UpdateImage(ctx, m.ID, p)
		return err
	}
	refused := func(state string) {
		t.Helper()
		for _, c := range []struct {
			p    orchestrator.ImagePatch
			says string
		}{
			{orchestrator.ImagePatch{Archived: ptr(true)}, "archived"},
			{orchestrator.ImagePatch{DeviceTypes: &[]string{"pump"}}, `"valve" cannot be taken`},
		} {
			e.wants(edit(c.p), orchestrator.ErrConflict, `job "j"`, c.says)
		}
		for _, p := range []orchestrator.ImagePatch{{Version: ptr("3")}, {MinVersion: ptr("3")}} {
			e.wants(edit(p), orchestrator.ErrConflict, `job "j" has used it`)
		}
		e.wants(e.DeleteImage(ctx, m.ID), orchestrator.ErrConflict, `job "j"`)
		// The same again changes nothing, so nothing is refused.
		e.ok(edit(orchestrator.ImagePatch{Version: ptr("2"), MinVersion: ptr(""), Description: ptr("while " + state)}))
	}
	must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"d000"}}))
	refused("it is a draft")
	must[orchestrator.Job](t)(e.StartJob(ctx, "j"))
	refused("it runs")
	must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
	refused("it is paused")
	must[orchestrator.Job](t)(e.ResumeJob(ctx, "j"))
	x := e.execution("j", "d000")
	s := status(x, 1, schemas.StateSucceeded)
	s.Attempt = x.Attempt
	e.ok(e.Status(ctx, "d000", s))
	if j := must[orchestrator.Job](t)(e.Job(ctx, "j")); j.State != orchestrator.JobCompleted {
		t.Fatalf("the job is %s", j.State)
	}
	e.ok(edit(orchestrator.ImagePatch{DeviceTypes: &[]string{"pump"}}))
	e.ok(edit(orchestrator.ImagePatch{Archived: ptr(true)}))
	e.wants(edit(orchestrator.ImagePatch{Version: ptr("3")}), orchestrator.ErrConflict, "has used it")
}

func TestImagesAreArchived(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	m := e.image("1", content(100, 1))
	ids := func(archived bool) []string {
		var out []string
		for _, f := range []orchestrator.ImageFilter{{}, {ImageType: "app"}, {DeviceType: "pump"}} {
			f.Archived = archived
			items, _, err := e.Images(ctx, f, orchestrator.Page{})
			e.ok(err)
			for _, i := range items {
				out = append(out, i.ID)
			}
		}
		return out
	}
	thrice := []string{m.ID, m.ID, m.ID}
	archived := must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Archived: ptr(true)}))
	if archived.ArchivedAt.IsZero() || !slices.Equal(ids(true), thrice) || len(ids(false)) != 0 {
		t.Errorf("archived %+v: listed as archived %v, otherwise %v", archived, ids(true), ids(false))
	}
	if a := e.lastAudit(orchestrator.KindImage, m.ID); a.Action != "archive" {
		t.Errorf("noted %+v", a)
	}
	_, err := e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"d000"}})
	if err == nil {
		t.Error("a job took an archived image")
	}
	e.checkClean()
	again := must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Archived: ptr(true), Description: ptr("x")}))
	if !again.ArchivedAt.Equal(archived.ArchivedAt) {
		t.Error("archived twice, the time is another")
	}
	if a := e.lastAudit(orchestrator.KindImage, m.ID); a.Action != "update" {
		t.Errorf("noted %+v", a)
	}
	restored := must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Archived: ptr(false)}))
	if !restored.ArchivedAt.IsZero() || !slices.Equal(ids(false), thrice) || len(ids(true)) != 0 {
		t.Errorf("restored %+v", restored)
	}
	if a := e.lastAudit(orchestrator.KindImage, m.ID); a.Action != "restore" {
		t.Errorf("noted %+v", a)
	}
	e.ok(e.DeleteImage(ctx, m.ID))
	if a := e.lastAudit(orchestrator.KindImage, m.ID); a.Action != "delete" || a.After != nil {
		t.Errorf("noted %+v", a)
	}
}

func TestImagesWarn(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) {
		o.Now = func() time.Time { now = now.Add(time.Second); return now }
	})
	defer e.checkClean()
	e.fleet(0)
	warned := func(m orchestrator.Image, says ...string) {
		t.Helper()
		if len(m.Warnings) != len(says) {
			t.Errorf("image %s version %s warns of %q, want %q", m.ID, m.Version, m.Warnings, says)
			return
		}
		for i, w := range says {
			if !strings.Contains(m.Warnings[i], w) {
				t.Errorf("image %s version %s warns of %q, want %q", m.ID, m.Version, m.Warnings, says)
			}
		}
	}
	file := sim.BuildDemoImage("v2.0+7", 5000, 1)
	upload := func(version string, file []byte) orchestrator.Image {
		t.Helper()
		return must[orchestrator.Image](t)(e.UploadImage(ctx, newImage(version), bytes.NewReader(file)))
	}
	first := upload("2.0", file)
	warned(first)
	wrong := upload("2.1", file)
	warned(wrong, "it is version v2.0+7, the image was given version 2.1", first.ID+" (app, version 2.0)")
	fixed := must[orchestrator.Image](t)(e.UpdateImage(ctx, wrong.ID, orchestrator.ImagePatch{Version: ptr("2.0+7")}))
	warned(fixed, first.ID)
	e.ok(e.DeleteImage(ctx, first.ID))
	after := must[orchestrator.Image](t)(e.Image(ctx, fixed.ID))
	warned(after)
	if after.Revision != fixed.Revision {
		t.Errorf("losing a duplicate made revision %d of %d", after.Revision, fixed.Revision)
	}

	damaged := slices.Clone(file)
	damaged[4000] ^= 1
	warned(upload("v2.0+7", damaged), "damaged")
	warned(upload("2.0", file[:3000]), "The header says 5000 bytes, the file has 3000")
	for range 6 {
		upload("9", content(50, 9))
	}
	many := upload("9", content(50, 9))
	warned(many, "and others")
	if n := strings.Count(many.Warnings[0], "img-"); n != 5 {
		t.Errorf("%d duplicates are named: %q", n, many.Warnings)
	}
	hex := "version 2.0 in a HEX file is found as well"
	n := newImage("2.2")
	n.Format = "auto"
	n.Description = hex
	m := must[orchestrator.Image](t)(e.UploadImage(ctx, n, strings.NewReader(ihex(file))))
	warned(m, "it is version v2.0+7", fixed.ID)
}

// ihex writes a file as Intel HEX from address 0 on; it has less than 64 KiB.
func ihex(file []byte) string {
	var b strings.Builder
	line := func(rec ...byte) {
		sum := byte(0)
		for _, c := range rec {
			sum += c
		}
		b.WriteByte(':')
		for _, c := range append(rec, -sum) {
			const digits = "0123456789ABCDEF"
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
		b.WriteByte('\n')
	}
	for at := 0; at < len(file); at += 16 {
		data := file[at:min(at+16, len(file))]
		line(append([]byte{byte(len(data)), byte(at >> 8), byte(at), 0}, data...)...)
	}
	line(0, 0, 0, 1)
	return b.String()
}
