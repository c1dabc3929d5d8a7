package orchestrator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
)

func TestTypesHaveRevisions(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	rev := func(n uint64) orchestrator.Precondition { return orchestrator.Precondition{IfRevision: &n} }
	it := must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	dt := must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla"}))
	if it.Revision != 1 || dt.Revision != 1 {
		t.Errorf("created %+v and %+v, want revision 1", it, dt)
	}
	if a := e.lastAudit(orchestrator.KindImageType, "app"); a.Action != "create" || a.Before != nil || !strings.Contains(string(a.After), `"id":"app"`) {
		t.Errorf("noted %+v", a)
	}
	for i := uint64(1); i < 4; i++ {
		name := fmt.Sprint("edit ", i)
		it = must[orchestrator.ImageType](t)(e.UpdateImageType(ctx, "app", orchestrator.ImageTypePatch{Precondition: rev(i), Name: &name}))
		dt = must[orchestrator.DeviceType](t)(e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{Precondition: rev(i), Name: &name}))
		if it.Revision != i+1 || dt.Revision != i+1 || it.Name != name || dt.Name != name {
			t.Errorf("edited %+v and %+v, want revision %d", it, dt, i+1)
		}
		_, err := e.UpdateImageType(ctx, "app", orchestrator.ImageTypePatch{Precondition: rev(i), Name: ptr("lost")})
		e.wants(err, orchestrator.ErrStale, `image type "app"`, "read it again")
		_, err = e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{Precondition: rev(i + 2), Name: ptr("lost")})
		e.wants(err, orchestrator.ErrStale, `device type "pump"`)
	}
	if it = must[orchestrator.ImageType](t)(e.ImageType(ctx, "app")); it.Name != "edit 3" {
		t.Errorf("a stale edit left %+v", it)
	}
	if a := e.lastAudit(orchestrator.KindDeviceType, "pump"); a.Action != "update" ||
		!strings.Contains(string(a.Before), "edit 2") || !strings.Contains(string(a.After), "edit 3") {
		t.Errorf("noted %+v", a)
	}
	e.ok(e.DeleteDeviceType(ctx, "pump"))
	e.ok(e.DeleteImageType(ctx, "app"))
	for kind, id := range map[string]string{orchestrator.KindDeviceType: "pump", orchestrator.KindImageType: "app"} {
		if a := e.lastAudit(kind, id); a.Action != "delete" || a.Before == nil || a.After != nil {
			t.Errorf("noted %+v", a)
		}
	}
}

func TestDialectsOfDeviceTypes(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	for _, id := range []string{"app", "boot"} {
		must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: id}))
	}
	type enabled = orchestrator.EnabledImageType
	for _, c := range []struct {
		name, dialect string
		list          []enabled
		field, says   string
	}{
		{"unknown dialect", "klingon", nil, "dialect", "ayla, afero"},
		{"no dialect", "", nil, "dialect", "ayla, afero"},
		{"ayla with a number", "ayla", []enabled{{ID: "app", NumericType: 101}}, "image_types/0/numeric_type", "only the afero dialect"},
		{"afero without a number", "afero", []enabled{{ID: "app", NumericType: 101}, {ID: "boot"}}, "image_types/1/numeric_type", "101 to 200"},
		{"number below", "afero", []enabled{{ID: "app", NumericType: 100}}, "image_types/0/numeric_type", "101 to 200"},
		{"number above", "afero", []enabled{{ID: "app", NumericType: 201}}, "image_types/0/numeric_type", "101 to 200"},
		{"one number for two", "afero", []enabled{{ID: "app", NumericType: 150}, {ID: "boot", NumericType: 150}}, "image_types/1/numeric_type", "told apart"},
		{"afero with a property", "afero", []enabled{{ID: "app", NumericType: 150, VersionProperty: "v"}}, "image_types/0/version_property", "attribute 2000"},
		{"one property for two", "ayla", []enabled{{ID: "app"}, {ID: "boot"}}, "image_types/1/version_property", "told apart"},
		{"named twice", "ayla", []enabled{{ID: "app"}, {ID: "app", VersionProperty: "v"}}, "image_types/1/id", "twice"},
		{"no id", "ayla", []enabled{{}}, "image_types/0/id", ""},
		{"too large a limit", "ayla", []enabled{{ID: "app", SizeLimit: 1 << 40}}, "image_types/0/size_limit", "the server's own limit"},
		{"too many", "ayla", make([]enabled, 101), "image_types", "at most 100"},
	} {
		_, err := e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "x", Dialect: c.dialect, ImageTypes: c.list})
		t.Run(c.name, func(t *testing.T) {
			(&env{t: t}).wants(err, orchestrator.ErrInvalid, c.says)
			(&env{t: t}).wantsField(err, c.field)
		})
	}
	_, err := e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "x", Dialect: "ayla", ImageTypes: []enabled{{ID: "app"}, {ID: "gone", VersionProperty: "v"}}})
	e.wants(err, orchestrator.ErrNotFound, `image type "gone"`)
	e.wantsField(err, "image_types/1/id")
	for field, n := range map[string]orchestrator.NewDeviceType{
		"hello_timeout":  {HelloTimeout: orchestrator.Duration(200 * time.Hour)},
		"boot_timeout":   {BootTimeout: orchestrator.Duration(200 * time.Hour)},
		"answer_timeout": {AnswerTimeout: -1},
		"name":           {Name: "a\nb"},
		"description":    {Description: strings.Repeat("x", 5000)},
	} {
		n.ID, n.Dialect = "x", "ayla"
		_, err := e.CreateDeviceType(ctx, n)
		e.wantsField(err, field)
	}

	dt := must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "lamp", Dialect: "afero",
		ImageTypes: []enabled{{ID: "app", NumericType: 101}, {ID: "boot", NumericType: 200}}, HelloTimeout: orchestrator.Duration(time.Minute)}))
	if dt.ImageTypes[0].VersionProperty != "" || dt.ImageTypes[1].NumericType != 200 || dt.HelloTimeout != orchestrator.Duration(time.Minute) {
		t.Errorf("created %+v", dt)
	}
	_, err = e.UpdateDeviceType(ctx, "lamp", orchestrator.DeviceTypePatch{Dialect: ptr("ayla")})
	e.wantsField(err, "image_types/0/numeric_type")
	dt = must[orchestrator.DeviceType](t)(e.UpdateDeviceType(ctx, "lamp", orchestrator.DeviceTypePatch{Dialect: ptr("ayla"),
		ImageTypes: &[]enabled{{ID: "app"}}, HelloTimeout: ptr(orchestrator.Duration(time.Hour))}))
	if dt.Dialect != "ayla" || dt.ImageTypes[0].VersionProperty != orchestrator.DefaultVersionProperty || dt.HelloTimeout != orchestrator.Duration(time.Hour) {
		t.Errorf("changed to %+v", dt)
	}
}

// TestThe101stImageType: the limit is of those that exist, not of those that
// ever did.
func TestThe101stImageType(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	for i := range orchestrator.MaxImageTypes {
		must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: fmt.Sprintf("t%03d", i)}))
	}
	_, err := e.CreateImageType(ctx, orchestrator.NewImageType{ID: "t100"})
	e.wants(err, orchestrator.ErrConflict, "100 image types already", "at most 100", "delete one")
	e.ok(e.DeleteImageType(ctx, "t042"))
	must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "t100"}))
}
