package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// walkDevices reads a listing of devices to its end and returns the ids in the order
// in which they came; it fails when a page is longer than asked for.
func walkDevices(t rapid.TB, limit int, page func(orchestrator.Page) ([]orchestrator.Device, string, error)) []string {
	t.Helper()
	ids := []string{}
	p := orchestrator.Page{Limit: limit}
	for range 10_000 {
		items, next, err := page(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) > limit {
			t.Fatalf("%d devices on a page of %d", len(items), limit)
		}
		for _, d := range items {
			ids = append(ids, d.ID)
		}
		if next == "" {
			return ids
		}
		p.After = next
	}
	t.Fatal("the listing does not end")
	return nil
}

// hello is a device's hello with the version of its application.
func hello(version string) schemas.Hello {
	return schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024, HostVersions: map[string]string{"app_version": version}}
}

// drawFleet makes devices of two types with labels, versions and presence, and a
// static and a dynamic group.
func drawFleet(t *rapid.T, e *env) {
	must[orchestrator.ImageType](e.t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	for _, id := range []string{"pump", "fan"} {
		must[orchestrator.DeviceType](e.t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
			ID: id, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app", VersionProperty: "app_version"}},
		}))
	}
	label := rapid.MapOf(rapid.SampledFrom([]string{"site", "ring"}), rapid.SampledFrom([]string{"", "Berlin", "berlin2", "a=b"}))
	var all []orchestrator.NewDevice
	for i := range rapid.IntRange(1, 30).Draw(t, "devices") {
		all = append(all, orchestrator.NewDevice{
			ID:     fmt.Sprintf("%s-%02d", rapid.SampledFrom([]string{"lab", "Lab2", "x"}).Draw(t, "id"), i),
			Type:   rapid.SampledFrom([]string{"pump", "fan"}).Draw(t, "type"),
			Labels: label.Draw(t, "labels"),
		})
	}
	must[[]orchestrator.Device](e.t)(e.CreateDevices(ctx, all))
	var members []string
	for _, d := range all {
		if v := rapid.SampledFrom([]string{"", "1.9", "1.10"}).Draw(t, "version"); v != "" {
			e.ok(e.Hello(ctx, d.ID, hello(v)))
		}
		if rapid.Bool().Draw(t, "online") {
			e.ok(e.Presence(ctx, d.ID, true))
		}
		if rapid.Bool().Draw(t, "member") {
			members = append(members, d.ID)
		}
	}
	must[orchestrator.Group](e.t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "static", Devices: members}))
	must[orchestrator.Group](e.t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "dynamic", Query: `type == "pump" and online`}))
}

// condition is a part of a filter, and what it means.
type condition struct {
	set   func(*orchestrator.DeviceFilter)
	holds func(d *orchestrator.Device) bool
}

func conditions(static []string) map[string][]condition {
	type F = orchestrator.DeviceFilter
	type D = orchestrator.Device
	yes, no := true, false
	return map[string][]condition{
		"type":   {{func(f *F) { f.Type = "pump" }, func(d *D) bool { return d.Type == "pump" }}, {func(f *F) { f.Type = "none" }, func(*D) bool { return false }}},
		"online": {{func(f *F) { f.Online = &yes }, func(d *D) bool { return d.Online }}, {func(f *F) { f.Online = &no }, func(d *D) bool { return !d.Online }}},
		"label": {
			{func(f *F) { f.Label = "site" }, func(d *D) bool { _, ok := d.Labels["site"]; return ok }},
			{func(f *F) { f.Label = "site=Berlin" }, func(d *D) bool { return d.Labels["site"] == "Berlin" }},
			{func(f *F) { f.Label = "ring=a=b" }, func(d *D) bool { return d.Labels["ring"] == "a=b" }},
			{func(f *F) { f.Label = "site=" }, func(d *D) bool { v, ok := d.Labels["site"]; return ok && v == "" }},
		},
		"version": {
			{func(f *F) { f.Version = "app=1.9" }, func(d *D) bool { return d.Versions["app"] == "1.9" }},
			{func(f *F) { f.Version = "app=" }, func(d *D) bool { return d.Versions["app"] == "" }},
		},
		"text": {
			{func(f *F) { f.Text = "LAB" }, func(d *D) bool { return d.ID[0] != 'x' }},
			{func(f *F) { f.Text = "berlin2" }, func(d *D) bool { return d.Labels["site"] == "berlin2" || d.Labels["ring"] == "berlin2" }},
			{func(f *F) { f.Text = "rin" }, func(d *D) bool { _, ok := d.Labels["ring"]; return ok }},
		},
		"group": {
			{func(f *F) { f.Group = "static" }, func(d *D) bool { return slices.Contains(static, d.ID) }},
			{func(f *F) { f.Group = "dynamic" }, func(d *D) bool { return d.Type == "pump" && d.Online }},
		},
		"query": {
			{func(f *F) { f.Query = `version.app < "1.10"` }, func(d *D) bool { return d.Versions["app"] == "1.9" }},
			{func(f *F) { f.Query = `version.app == "1.10" and label.site == "Berlin"` }, func(d *D) bool { return d.Versions["app"] == "1.10" && d.Labels["site"] == "Berlin" }},
			{func(f *F) { f.Query = `id startsWith "lab-"` }, func(d *D) bool { return strings.HasPrefix(d.ID, "lab-") }},
			{func(f *F) { f.Query = `id == "lab-00"` }, func(d *D) bool { return d.ID == "lab-00" }},
			{func(f *F) { f.Query = `online or type == "fan"` }, func(d *D) bool { return d.Online || d.Type == "fan" }},
			{func(f *F) { f.Query = `seen > ago("1h") and "site" in label` }, func(d *D) bool { _, ok := d.Labels["site"]; return ok && !d.LastSeen.IsZero() }},
		},
	}
}

// TestDevicesByAnyFilter compares every combination of filters, page by page,
// with a look at each device.
func TestDevicesByAnyFilter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := newEnv(t)
		drawFleet(rt, e)
		all, _, err := e.Devices(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{Limit: 1000})
		e.ok(err)
		static := must[orchestrator.Group](t)(e.Group(ctx, "static")).Devices
		parts := conditions(static)
		for range 10 {
			var f orchestrator.DeviceFilter
			var holds []func(*orchestrator.Device) bool
			for _, name := range slices.Sorted(maps.Keys(parts)) {
				if rapid.IntRange(0, 2).Draw(rt, name) == 0 {
					c := rapid.SampledFrom(parts[name]).Draw(rt, name)
					c.set(&f)
					holds = append(holds, c.holds)
				}
			}
			want := []string{}
			for i := range all {
				if !slices.ContainsFunc(holds, func(h func(*orchestrator.Device) bool) bool { return !h(&all[i]) }) {
					want = append(want, all[i].ID)
				}
			}
			got := walkDevices(rt, rapid.IntRange(1, 8).Draw(rt, "limit"), func(p orchestrator.Page) ([]orchestrator.Device, string, error) {
				return e.Devices(ctx, f, p)
			})
			if !slices.Equal(got, want) {
				rt.Fatalf("filter %+v yields %q, want %q", f, got, want)
			}
			if f.Query != "" && reflect.DeepEqual(f, orchestrator.DeviceFilter{Query: f.Query}) {
				p := must[orchestrator.QueryPreview](t)(e.PreviewQuery(ctx, f.Query, 3))
				if p.Count != len(want) || len(p.Sample) != min(3, len(want)) || p.Plan == "" {
					rt.Fatalf("preview of %s: %+v, want %d", f.Query, p, len(want))
				}
			}
		}
		e.checkClean()
	})
}

// TestPagesLookAtSomeDevices reads a large fleet by a filter that keeps few: pages
// come short or empty, and nothing is lost or told twice.
func TestPagesLookAtSomeDevices(t *testing.T) {
	const n = 4000
	s := registry(t, memstore.New(), n, 0)
	var want []string
	for i := n - 100; i < n; i++ {
		want = append(want, orchestrator.RegistryDevice(i, n).ID)
	}
	empty := 0
	got := walkDevices(t, 30, func(p orchestrator.Page) ([]orchestrator.Device, string, error) {
		items, next, err := s.Devices(ctx, orchestrator.DeviceFilter{Label: "ring"}, p)
		if len(items) == 0 {
			empty++
		}
		return items, next, err
	})
	if !slices.Equal(got, want) {
		t.Errorf("%d devices, want %d: %q", len(got), len(want), got)
	}
	if empty != 2 {
		t.Errorf("%d pages are empty, want 2", empty)
	}
	// More than one chunk is held at a time, and the order stays.
	p := must[orchestrator.QueryPreview](t)(s.PreviewQuery(ctx, `version.application >= "1.0"`, 1000))
	if p.Count != n || p.Online != (n+2)/3 || len(p.Sample) != 100 || p.Sample[99].ID != "dev-000099" || !strings.Contains(p.Plan, "every device") {
		t.Errorf("preview finds %d, %d online, sample of %d; %s", p.Count, p.Online, len(p.Sample), p.Plan)
	}
}

func TestPlanTakesTheFewest(t *testing.T) {
	s := registry(t, memstore.New(), 2000, 0)
	for query, want := range map[string]string{
		`type == "type-1" and label.ring == "canary"`:         "100 devices in the index of label ring=canary",
		`label.site == "site-1" and type == "type-1"`:         "index of label site=site-1",
		`online and version.bootloader == "3.1"`:              "667 devices in the index of devices that are online",
		`version.application == "1.1.0" and type == "type-0"`: "index of version 1.1.0 of application",
		`type == "type-1" and id == "dev-000001"`:             `the device "dev-000001"`,
		`id startsWith "dev-0001"`:                            `id begins with "dev-0001"`,
		`id startsWith "dev-0001" and online`:                 `online whose id begins with "dev-0001"`,
		`type == "nothing" and online`:                        `0 devices in the index of type "nothing"`,
		`type != "type-1"`:                                    "every device",
	} {
		p := must[orchestrator.QueryPreview](t)(s.PreviewQuery(ctx, query, 0))
		if !strings.Contains(p.Plan, want) {
			t.Errorf("%s: %s; want %q", query, p.Plan, want)
		}
	}
}

func TestBadFilters(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		filter orchestrator.DeviceFilter
		kind   error
		field  string
	}{
		{orchestrator.DeviceFilter{Query: "colour"}, orchestrator.ErrInvalid, "query"},
		{orchestrator.DeviceFilter{Group: "none"}, orchestrator.ErrInvalid, "group"},
		{orchestrator.DeviceFilter{Version: "1.0"}, orchestrator.ErrInvalid, "version"},
	} {
		_, _, err := e.Devices(ctx, c.filter, orchestrator.Page{})
		e.wants(err, c.kind)
		e.inField(err, c.field)
	}
	_, err := e.PreviewQuery(ctx, "", 1)
	e.inField(err, "query")
	_, _, err = e.GroupDevices(ctx, "none", orchestrator.Page{})
	e.wants(err, orchestrator.ErrNotFound, `group "none"`)
	// What no key holds finds nothing, and harms nothing.
	e.fleet(1)
	for _, f := range []orchestrator.DeviceFilter{
		{Type: "a\x00b"}, {Label: "a=\x00"}, {Version: "app=\x00"}, {Text: "\x00"}, {Query: `id == "\u0000"`}, {Query: `id startsWith "\u0000"`}, {Query: `label.a == "\u0000"`},
	} {
		items, next, err := e.Devices(ctx, f, orchestrator.Page{After: "\x00"})
		e.ok(err)
		if len(items) > 0 || next != "" {
			t.Errorf("%+v finds %v, then %q", f, items, next)
		}
	}
}

// TestRecordsOfDevicesAreRead compares the reader of queries with json.Unmarshal.
func TestRecordsOfDevicesAreRead(t *testing.T) {
	text := rapid.OneOf(rapid.StringMatching(`[a-z<"\\]{0,4}`), rapid.String())
	texts := rapid.MapOf(text, text)
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
	})
	var into orchestrator.Device // used again and again, as queries do
	same := func(t *rapid.T, b []byte) {
		var want orchestrator.Device
		wantErr := json.Unmarshal(b, &want)
		err := orchestrator.ParseDevice(b, &into)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, want %v", b, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(into, want) {
			t.Fatalf("%s:\n%+v, want\n%+v", b, into, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := orchestrator.Device{
			ID: text.Draw(t, "id"), Type: text.Draw(t, "type"), Versions: texts.Draw(t, "versions"), Labels: texts.Draw(t, "labels"),
			Unconfirmed: rapid.SliceOf(text).Draw(t, "unconfirmed"), Module: text.Draw(t, "module"), Dialect: text.Draw(t, "dialect"),
			MaxChunk: rapid.IntRange(-1, 1<<20).Draw(t, "chunk"), Online: rapid.Bool().Draw(t, "online"), Revision: rapid.Uint64().Draw(t, "revision"),
			CreatedAt: at.Draw(t, "created"),
		}
		if rapid.Bool().Draw(t, "seen") {
			d.LastSeen, d.HelloAt = at.Draw(t, "last"), at.Draw(t, "hello")
		}
		b, err := json.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		same(t, b)
		// Damaged anywhere, both fail or both read the same.
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		same(t, append(slices.Clone(b[:i]), b[i+1:]...))
		b[i] = rapid.SampledFrom([]byte(`{}[]":,0 x`)).Draw(t, "byte")
		same(t, b)
	})
}

// TestRecordsOfGroupsAreRead compares the reader of lists with json.Unmarshal.
func TestRecordsOfGroupsAreRead(t *testing.T) {
	text := rapid.OneOf(rapid.StringMatching(`[a-z<"\\]{0,4}`), rapid.StringMatching(`[a-z]{1,4}`))
	rapid.Check(t, func(t *rapid.T) {
		g := orchestrator.Group{
			ID: text.Draw(t, "id"), Description: text.Draw(t, "description"), Devices: rapid.SliceOf(text).Draw(t, "devices"),
			Query: text.Draw(t, "query"), Revision: rapid.Uint64().Draw(t, "revision"), CreatedAt: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), 5).UTC(),
		}
		b, err := json.Marshal(&g)
		if err != nil {
			t.Fatal(err)
		}
		if i := rapid.IntRange(-len(b), len(b)-1).Draw(t, "at"); i >= 0 {
			b[i] = rapid.SampledFrom([]byte(`{}[]":,0 x`)).Draw(t, "byte")
		}
		var want, got orchestrator.Group
		err = json.Unmarshal(b, &want)
		if ok := orchestrator.ParseGroup(b, &got); ok && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("%s:\n%+v, want\n%+v (%v)", b, got, want, err)
		}
	})
}
