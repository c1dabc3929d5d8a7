package orchestrator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// inField fails the test unless the error is about the field.
func (e *env) inField(err error, field string) {
	e.t.Helper()
	var f *orchestrator.FieldError
	if !errors.As(err, &f) || f.Field != field {
		e.t.Errorf("error %v is not about field %q", err, field)
	}
}

// audited returns the audit log of one record as actions, the newest first.
func (e *env) audited(kind, id string) []string {
	e.t.Helper()
	entries, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{Kind: kind, ID: id}, orchestrator.Page{})
	e.ok(err)
	actions := []string{}
	for _, a := range entries {
		actions = append(actions, a.Action)
	}
	return actions
}

func TestCreateDevicesAllOrNone(t *testing.T) {
	e := newEnv(t)
	e.fleet(2)
	_, err := e.CreateDevices(ctx, []orchestrator.NewDevice{
		{ID: "new-1", Type: "pump"},
		{ID: "no spaces", Type: "pump"},
		{ID: "new-2", Type: "tank"},
		{ID: "new-1", Type: "pump"},
		{ID: "d001", Type: "pump"},
		{ID: "new-3", Type: "pump", Labels: map[string]string{"a b": "x"}},
		{ID: "new-4", Type: "pump"},
	})
	var batch *orchestrator.BatchError
	if !errors.As(err, &batch) {
		t.Fatalf("error %v", err)
	}
	e.wants(err, orchestrator.ErrInvalid, "5 entries are wrong, nothing was done; the first, entry 2")
	want := []struct {
		index       int
		kind        error
		field, says string
	}{
		{1, orchestrator.ErrInvalid, "id", "position 3"},
		{2, orchestrator.ErrNotFound, "type", `device type "tank"`},
		{3, orchestrator.ErrInvalid, "id", "stands in entry 1 already"},
		{4, orchestrator.ErrExists, "id", `"d001"`},
		{5, orchestrator.ErrInvalid, "", "labels"},
	}
	if len(batch.Lines) != len(want) {
		t.Fatalf("%d lines: %v", len(batch.Lines), batch.Lines)
	}
	for i, w := range want {
		if batch.Lines[i].Index != w.index {
			t.Errorf("line %d is about entry %d, want %d", i, batch.Lines[i].Index, w.index)
		}
		e.wants(batch.Lines[i].Err, w.kind, w.says)
		if w.field != "" {
			e.inField(batch.Lines[i].Err, w.field)
		}
	}
	all, _, err := e.Devices(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{})
	e.ok(err)
	if len(all) != 2 {
		t.Errorf("%d devices exist, want the 2 that did before", len(all))
	}
	e.checkClean()
}

func TestCreateDevicesIsOneImport(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	var n []orchestrator.NewDevice
	for i := range 300 {
		n = append(n, orchestrator.NewDevice{ID: fmt.Sprintf("m-%03d", i), Type: "pump", Labels: map[string]string{"lot": "7"}})
	}
	keyed := orchestrator.WithIdempotency(ctx, orchestrator.IdempotencyKey{Key: "k", Fingerprint: "f"})
	made := must[[]orchestrator.Device](t)(e.CreateDevices(keyed, n))
	if len(made) != 300 || made[299].ID != "m-299" || made[299].Revision != 1 || made[299].CreatedAt.IsZero() {
		t.Errorf("made %d: %+v", len(made), made[len(made)-1])
	}
	_, err := e.CreateDevices(keyed, n)
	if again, ok := orchestrator.IsReplay(err); !ok || again.ID != "m-000" {
		t.Errorf("the second time: %v", err)
	}
	entries, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{Kind: orchestrator.KindDevice}, orchestrator.Page{})
	e.ok(err)
	if len(entries) != 1 || entries[0].Action != "import" || !strings.Contains(string(entries[0].After), `"count":300,"first":["m-000",`) {
		t.Errorf("audit log: %+v", entries)
	}
	for _, bad := range [][]orchestrator.NewDevice{nil, make([]orchestrator.NewDevice, orchestrator.MaxBatch+1)} {
		_, err := e.CreateDevices(ctx, bad)
		e.wants(err, orchestrator.ErrInvalid)
	}
	f := must[orchestrator.FleetSummary](t)(e.Fleet(ctx))
	if f.Devices != 300 || f.ByType["pump"] != 300 {
		t.Errorf("fleet: %+v", f)
	}
	e.checkClean()
}

func TestEditsOfDevices(t *testing.T) {
	e := newEnv(t)
	e.fleet(1)
	labels := map[string]string{"site": "berlin"}
	d := must[orchestrator.Device](t)(e.UpdateDevice(ctx, "d000", orchestrator.DevicePatch{Labels: &labels}))
	if d.Revision != 2 || d.Labels["site"] != "berlin" {
		t.Errorf("device %+v", d)
	}
	// What the device says is no edit.
	e.ok(e.Presence(ctx, "d000", true))
	e.ok(e.Hello(ctx, "d000", schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024}))
	first := uint64(1)
	_, err := e.UpdateDevice(ctx, "d000", orchestrator.DevicePatch{Precondition: orchestrator.Precondition{IfRevision: &first}, Labels: &labels})
	e.wants(err, orchestrator.ErrStale, "revision 2")
	none := map[string]string{}
	second := uint64(2)
	d = must[orchestrator.Device](t)(e.UpdateDevice(ctx, "d000", orchestrator.DevicePatch{Precondition: orchestrator.Precondition{IfRevision: &second}, Labels: &none}))
	if d.Revision != 3 || len(d.Labels) != 0 || !d.Online || d.HelloAt.IsZero() {
		t.Errorf("device %+v", d)
	}
	e.ok(e.DeleteDevice(ctx, "d000"))
	if got := e.audited(orchestrator.KindDevice, "d000"); !slices.Equal(got, []string{"delete", "update", "update", "create"}) {
		t.Errorf("audit log: %q", got)
	}
	_, err = e.CreateDevice(ctx, orchestrator.NewDevice{ID: "x", Type: "tank"})
	e.wants(err, orchestrator.ErrNotFound)
	e.inField(err, "type")
	keyed := orchestrator.WithIdempotency(ctx, orchestrator.IdempotencyKey{Key: "k", Fingerprint: "f"})
	must[orchestrator.Device](t)(e.CreateDevice(keyed, orchestrator.NewDevice{ID: "x", Type: "pump"}))
	_, err = e.CreateDevice(keyed, orchestrator.NewDevice{ID: "x", Type: "pump"})
	if again, ok := orchestrator.IsReplay(err); !ok || again.Kind != orchestrator.KindDevice || again.ID != "x" {
		t.Errorf("the second time: %v", err)
	}
	e.checkClean()
}

func TestGroupsStayWhatTheyAre(t *testing.T) {
	e := newEnv(t)
	ids := e.fleet(3)
	_, err := e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: ids, Query: "online"})
	e.inField(err, "devices")
	_, err = e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Query: "online and colour"})
	e.wants(err, orchestrator.ErrInvalid, "line 1, column 12", `unknown name "colour"`)
	e.inField(err, "query")
	_, err = e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"d001", "d009"}})
	e.wants(err, orchestrator.ErrNotFound, `"d009"`)
	e.inField(err, "devices/1")
	_, err = e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"d001", "a b"}})
	e.inField(err, "devices/1")

	g := must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"d002", "d000", "d002"}}))
	if !slices.Equal(g.Devices, []string{"d000", "d002"}) || g.Revision != 1 {
		t.Errorf("group %+v", g)
	}
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "q", Query: `online and id startsWith "d"`}))
	online, empty := "online", ""
	_, err = e.UpdateGroup(ctx, "g", orchestrator.GroupPatch{Query: &online})
	e.wants(err, orchestrator.ErrInvalid, "lists its devices")
	_, err = e.UpdateGroup(ctx, "q", orchestrator.GroupPatch{Query: &empty})
	e.wants(err, orchestrator.ErrInvalid, "cannot be empty")
	_, err = e.UpdateGroup(ctx, "q", orchestrator.GroupPatch{Devices: &ids})
	e.wants(err, orchestrator.ErrInvalid, "what its query finds")

	first := uint64(1)
	must[orchestrator.Group](t)(e.UpdateGroup(ctx, "q", orchestrator.GroupPatch{Precondition: orchestrator.Precondition{IfRevision: &first}, Query: &online}))
	_, err = e.UpdateGroup(ctx, "q", orchestrator.GroupPatch{Precondition: orchestrator.Precondition{IfRevision: &first}, Query: &online})
	e.wants(err, orchestrator.ErrStale)
	e.ok(e.Presence(ctx, "d001", true))
	e.ok(e.Presence(ctx, "d002", true))
	for group, want := range map[string][]string{"g": {"d000", "d002"}, "q": {"d001", "d002"}} {
		got := walkDevices(t, 1, func(p orchestrator.Page) ([]orchestrator.Device, string, error) { return e.GroupDevices(ctx, group, p) })
		if !slices.Equal(got, want) {
			t.Errorf("group %s has %q, want %q", group, got, want)
		}
	}
	for device, want := range map[string][]string{"d000": {"g"}, "d001": {"q"}, "d002": {"g", "q"}} {
		d := must[orchestrator.DeviceDetail](t)(e.DeviceDetail(ctx, device))
		if !slices.Equal(d.Groups, want) {
			t.Errorf("device %s belongs to %q, want %q", device, d.Groups, want)
		}
	}
	e.checkClean()
	e.ok(e.DeleteGroup(ctx, "q"))
	if got := e.audited(orchestrator.KindGroup, "q"); !slices.Equal(got, []string{"delete", "update", "create"}) {
		t.Errorf("audit log: %q", got)
	}
	e.checkClean()
}

// TestLongGroupsMakeShortPages lists groups of so many devices that a page of
// them all would be long to read.
func TestLongGroupsMakeShortPages(t *testing.T) {
	e := newEnv(t)
	devices := make([]string, 40_000)
	for i := range devices {
		devices[i] = fmt.Sprintf("device-%06d", i)
	}
	for i := range 7 {
		g := orchestrator.Group{ID: fmt.Sprint("g", i), Devices: devices}
		b := must[[]byte](t)(json.Marshal(&g))
		e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error { return w.Put("groups", []byte(g.ID), b) }))
	}
	var sizes []int
	for after := ""; ; {
		groups, next, err := e.Groups(ctx, orchestrator.Page{After: after})
		e.ok(err)
		sizes = append(sizes, len(groups))
		if after = next; next == "" {
			break
		}
	}
	if !slices.Equal(sizes, []int{2, 2, 2, 1}) {
		t.Errorf("pages of %v groups of 600 KB each, want at most 2", sizes)
	}
}

func TestDeviceDetail(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	e.fleet(1)
	detail := func() orchestrator.DeviceDetail {
		return must[orchestrator.DeviceDetail](t)(e.DeviceDetail(ctx, "d000"))
	}
	if d := detail(); d.Execution != nil || d.Waiting != 0 || d.Silent || d.Groups == nil {
		t.Errorf("a new device: %+v", d)
	}
	m := e.image("2", content(10, 1))
	for i := range 3 {
		e.job(fmt.Sprint("j", i), m.ID, "d000")
	}
	if d := detail(); d.Execution == nil || d.Execution.Job != "j0" || d.Waiting != 2 {
		t.Errorf("with three jobs: %+v", d)
	}
	e.ok(e.Presence(ctx, "d000", true))
	e.ok(e.Hello(ctx, "d000", schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024}))
	if d := detail(); !d.HelloAt.Equal(now) {
		t.Errorf("hello at %v, want %v", d.HelloAt, now)
	}
	silent := func(after time.Duration) bool {
		now = now.Add(after)
		return detail().Silent
	}
	if silent(30*time.Minute) || !silent(time.Second) {
		t.Error("a device is silent after 30 minutes and one second")
	}
	e.ok(e.Hello(ctx, "d000", schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024}))
	minute := orchestrator.Duration(time.Minute)
	must[orchestrator.DeviceType](t)(e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{HelloTimeout: &minute}))
	if silent(time.Minute) || !silent(time.Second) {
		t.Error("the timeout of the device type is a minute")
	}
	e.ok(e.Presence(ctx, "d000", false))
	if silent(time.Hour) {
		t.Error("a device that is not connected is not silent")
	}
	_, err := e.DeviceDetail(ctx, "none")
	e.wants(err, orchestrator.ErrNotFound)
}

func TestFleetInFigures(t *testing.T) {
	e := newEnv(t)
	e.fleet(4)
	m := e.image("2", content(10, 1))
	e.job("j", m.ID, "d000", "d001")
	e.ok(e.Presence(ctx, "d000", true))
	for i, v := range []string{"1", "1", "2"} {
		e.ok(e.Hello(ctx, fmt.Sprintf("d%03d", i), schemas.Hello{V: schemas.Version, Module: "m", Dialect: "ayla", MaxChunk: 1024,
			HostVersions: map[string]string{orchestrator.DefaultVersionProperty: v}}))
	}
	e.ok(e.DeleteDevice(ctx, "d003"))
	f := must[orchestrator.FleetSummary](t)(e.Fleet(ctx))
	if f.Devices != 3 || f.Online != 1 || f.ByType["pump"] != 3 || f.Versions["app"]["1"] != 2 || f.Versions["app"]["2"] != 1 ||
		f.Images["app"] != 1 || f.Jobs[orchestrator.JobRunning] != 1 || f.Executions[schemas.StateOffered] != 2 {
		t.Errorf("fleet: %+v", f)
	}
	e.checkClean()
}

// TestCheckFindsDevicesThatIndexesMiss takes one entry out of every index of
// devices and groups.
func TestCheckFindsDevicesThatIndexesMiss(t *testing.T) {
	for _, table := range []orchestrator.Table{
		"devices_by_type", "devices_online", "devices_by_label", "devices_by_version", "groups_by_device", "devices_by_group", "groups_dynamic",
	} {
		e := newEnv(t)
		e.fleet(1)
		labels := map[string]string{"site": "berlin"}
		must[orchestrator.Device](t)(e.UpdateDevice(ctx, "d000", orchestrator.DevicePatch{Labels: &labels}))
		e.ok(e.Presence(ctx, "d000", true))
		e.ok(e.Hello(ctx, "d000", schemas.Hello{V: schemas.Version, Module: "m", Dialect: "ayla", MaxChunk: 1024,
			HostVersions: map[string]string{orchestrator.DefaultVersionProperty: "1"}}))
		must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"d000"}}))
		must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "q", Query: "online"}))
		e.checkClean()
		e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
			var key []byte
			err := w.Scan(table, nil, nil, func(k, _ []byte) bool { key = k; return false })
			return errors.Join(err, w.Delete(table, key))
		}))
		r, err := e.Check(ctx)
		if err != nil || r.Count != 1 || !strings.Contains(r.Violations[0], "index "+string(table)+" has no entry") {
			t.Errorf("%s: check says %q, %v", table, r.Violations, err)
		}
	}
}
