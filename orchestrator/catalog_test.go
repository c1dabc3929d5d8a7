package orchestrator_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"davit/orchestrator"
)

func ptr[T any](v T) *T { return &v }

func TestImageTypes(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	it := must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app", Description: "main\nfirmware"}))
	if it.Name != "app" || it.CreatedAt.IsZero() {
		t.Errorf("created %+v, want the name to be the id", it)
	}
	_, err := e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"})
	e.wants(err, orchestrator.ErrExists, `image type "app"`)
	for _, id := range []string{"", "a b", "a/b", ".."} {
		_, err := e.CreateImageType(ctx, orchestrator.NewImageType{ID: id})
		e.wants(err, orchestrator.ErrInvalid)
	}
	it = must[orchestrator.ImageType](t)(e.UpdateImageType(ctx, "app", orchestrator.ImageTypePatch{Name: ptr("Application")}))
	if it.Name != "Application" || it.Description != "main\nfirmware" {
		t.Errorf("patched %+v", it)
	}
	_, err = e.UpdateImageType(ctx, "app", orchestrator.ImageTypePatch{Name: ptr("a\x00b")})
	e.wants(err, orchestrator.ErrInvalid, "control character")
	_, err = e.UpdateImageType(ctx, "none", orchestrator.ImageTypePatch{})
	e.wants(err, orchestrator.ErrNotFound, `image type "none"`)
	e.ok(e.DeleteImageType(ctx, "app"))
	_, err = e.ImageType(ctx, "app")
	e.wants(err, orchestrator.ErrNotFound)
}

func TestImageTypesAreLimited(t *testing.T) {
	e := newEnv(t)
	for i := range orchestrator.MaxImageTypes {
		must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: fmt.Sprintf("t%03d", i)}))
	}
	_, err := e.CreateImageType(ctx, orchestrator.NewImageType{ID: "one-more"})
	e.wants(err, orchestrator.ErrConflict, "at most 100")

	var got []string
	page := orchestrator.Page{Limit: 33}
	for {
		items, next, err := e.ImageTypes(ctx, page)
		e.ok(err)
		for _, it := range items {
			got = append(got, it.ID)
		}
		if next == "" {
			break
		}
		page.After = next
	}
	if len(got) != 100 || !slices.IsSorted(got) || len(slices.Compact(got)) != 100 {
		t.Errorf("paging yields %d: %v", len(got), got)
	}
}

func TestDeviceTypes(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "boot"}))
	dt := must[orchestrator.DeviceType](t)(e.DeviceType(ctx, "pump"))
	if dt.ImageTypes[0].VersionProperty != orchestrator.DefaultVersionProperty {
		t.Errorf("version property is %q", dt.ImageTypes[0].VersionProperty)
	}
	enabled := func(list ...orchestrator.EnabledImageType) orchestrator.NewDeviceType {
		return orchestrator.NewDeviceType{ID: "x", Dialect: "ayla", ImageTypes: list}
	}
	for _, c := range []struct {
		name string
		n    orchestrator.NewDeviceType
		kind error
		says string
	}{
		{"no dialect", orchestrator.NewDeviceType{ID: "x"}, orchestrator.ErrInvalid, "name one of ayla, afero"},
		{"taken", orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla"}, orchestrator.ErrExists, `"pump"`},
		{"unknown image type", enabled(orchestrator.EnabledImageType{ID: "gone"}), orchestrator.ErrNotFound, `image type "gone"`},
		{"twice", enabled(orchestrator.EnabledImageType{ID: "app"}, orchestrator.EnabledImageType{ID: "app", VersionProperty: "v"}), orchestrator.ErrInvalid, "twice"},
		{"one property for two", enabled(orchestrator.EnabledImageType{ID: "app"}, orchestrator.EnabledImageType{ID: "boot"}), orchestrator.ErrInvalid, "version_property"},
		{"limit over the server's", enabled(orchestrator.EnabledImageType{ID: "app", SizeLimit: 1 << 40}), orchestrator.ErrInvalid, "size_limit"},
		{"endless time", orchestrator.NewDeviceType{ID: "x", Dialect: "ayla", BootTimeout: orchestrator.Duration(1000 * time.Hour)}, orchestrator.ErrInvalid, "boot_timeout"},
	} {
		_, err := e.CreateDeviceType(ctx, c.n)
		t.Run(c.name, func(t *testing.T) { (&env{t: t}).wants(err, c.kind, c.says) })
	}
	m := e.image("1", content(10, 0))
	_, err := e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{ImageTypes: &[]orchestrator.EnabledImageType{{ID: "boot"}}})
	e.wants(err, orchestrator.ErrConflict, `"app" cannot be disabled`, m.ID)
	dt = must[orchestrator.DeviceType](t)(e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{
		ImageTypes: &[]orchestrator.EnabledImageType{{ID: "boot", VersionProperty: "b"}, {ID: "app"}}, Name: ptr("")}))
	if len(dt.ImageTypes) != 2 || dt.Name != "pump" || dt.Dialect != "ayla" {
		t.Errorf("patched %+v", dt)
	}
	e.wants(e.DeleteImageType(ctx, "boot"), orchestrator.ErrConflict, `device type "pump"`)
	e.wants(e.DeleteDeviceType(ctx, "pump"), orchestrator.ErrConflict, `device "d000"`)
	e.ok(e.DeleteDevice(ctx, "d000"))
	e.wants(e.DeleteDeviceType(ctx, "pump"), orchestrator.ErrConflict, m.ID)
	e.ok(e.DeleteImage(ctx, m.ID))
	e.ok(e.DeleteDeviceType(ctx, "pump"))
	e.ok(e.DeleteImageType(ctx, "app"))
}

func TestDevicesAndGroups(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(3)
	_, err := e.CreateDevice(ctx, orchestrator.NewDevice{ID: "d000", Type: "pump"})
	e.wants(err, orchestrator.ErrExists, `device "d000"`)
	_, err = e.CreateDevice(ctx, orchestrator.NewDevice{ID: "x", Type: "gone"})
	e.wants(err, orchestrator.ErrNotFound, `device type "gone"`)
	d := must[orchestrator.Device](t)(e.UpdateDevice(ctx, "d000", orchestrator.DevicePatch{Labels: &map[string]string{"site": "lab"}}))
	if d.Labels["site"] != "lab" || d.Versions == nil {
		t.Errorf("updated %+v", d)
	}
	g := must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "lab", Devices: []string{"d002", "d000", "d002"}}))
	if !slices.Equal(g.Devices, []string{"d000", "d002"}) {
		t.Errorf("members %v, want them in order, each once", g.Devices)
	}
	_, err = e.CreateGroup(ctx, orchestrator.NewGroup{ID: "other", Devices: []string{"gone"}})
	e.wants(err, orchestrator.ErrNotFound, `device "gone"`)
	e.wants(e.DeleteDevice(ctx, "d000"), orchestrator.ErrConflict, `group "lab"`)
	must[orchestrator.Group](t)(e.UpdateGroup(ctx, "lab", orchestrator.GroupPatch{Devices: &[]string{"d001"}}))
	e.ok(e.DeleteDevice(ctx, "d000"))

	m := e.image("2", content(10, 0))
	must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "draft", Image: m.ID, Groups: []string{"lab"}}))
	e.wants(e.DeleteGroup(ctx, "lab"), orchestrator.ErrConflict, `job "draft"`)
	must[orchestrator.Group](t)(e.UpdateGroup(ctx, "lab", orchestrator.GroupPatch{Devices: &[]string{}}))
	e.wants(e.DeleteDevice(ctx, "d001"), orchestrator.ErrConflict, `job "draft"`)
	e.wants(e.DeleteImage(ctx, m.ID), orchestrator.ErrConflict, `job "draft"`)
	must[orchestrator.Job](t)(e.StartJob(ctx, "draft"))
	e.wants(e.DeleteDevice(ctx, "d001"), orchestrator.ErrConflict, `job "draft"`)
	must[orchestrator.Job](t)(e.CancelJob(ctx, "draft", orchestrator.CancelRequest{}))
	e.ok(e.DeleteGroup(ctx, "lab"))
	e.ok(e.DeleteDevice(ctx, "d001"))
	if x := e.execution("draft", "d001"); x.State != "canceled" {
		t.Errorf("the deleted device's execution is %s", x.State)
	}
	_, _, err = e.DeviceExecutions(ctx, "d001", orchestrator.Page{})
	e.wants(err, orchestrator.ErrNotFound)
}
