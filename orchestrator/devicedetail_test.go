package orchestrator_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// detailed is what a test looks at of a device in a listing.
type detailed struct {
	groups    []string
	execution string // job and state of what is under way
	waiting   int
	silent    bool
}

// details lists all devices that pass a filter, in pages of two.
func (e *env) details(f orchestrator.DeviceFilter) map[string]detailed {
	e.t.Helper()
	out := map[string]detailed{}
	for after := ""; ; {
		items, next, err := e.DeviceDetails(ctx, f, orchestrator.Page{After: after, Limit: 2})
		e.ok(err)
		for _, d := range items {
			if one := must[orchestrator.DeviceDetail](e.t)(e.DeviceDetail(ctx, d.ID)); !reflect.DeepEqual(one, d) {
				e.t.Errorf("listed is %+v, by itself it is %+v", d, one)
			}
			got := detailed{groups: d.Groups, waiting: d.Waiting, silent: d.Silent}
			if x := d.Execution; x != nil {
				got.execution = x.Job + " " + string(x.State)
			}
			out[d.ID] = got
		}
		if after = next; next == "" {
			return out
		}
	}
}

func TestDeviceDetails(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	e.fleet(5)
	for id, devices := range map[string][]string{"b": {"d000", "d001"}, "x": {"d001"}} {
		must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: id, Devices: devices}))
	}
	for id, query := range map[string]string{"a": "online", "c": `id == "d001" or id == "d004"`, "late": `online and seen < ago("20m")`} {
		must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: id, Query: query}))
	}
	m := e.image("2", content(10, 1))
	e.job("j0", m.ID, "d000", "d001")
	e.job("j1", m.ID, "d001", "d002")
	e.job("j2", m.ID, "d001", "d003")
	e.job("j3", m.ID, "d003")
	// What waits may stand before what is under way.
	must[orchestrator.Job](t)(e.PauseJob(ctx, "j2"))
	for more := true; more; {
		more = must[bool](t)(orchestrator.Work(ctx, e.Service, "j2"))
	}
	x := e.execution("j0", "d001")
	e.ok(e.Status(ctx, "d001", status(x, 1, schemas.StateDownloading)))
	e.ok(e.Status(ctx, "d002", status(e.execution("j1", "d002"), 1, schemas.StateFailed)))
	for _, id := range []string{"d001", "d002"} {
		e.ok(e.Presence(ctx, id, true))
		e.ok(e.Hello(ctx, id, schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024}))
		now = now.Add(16 * time.Minute)
	}

	want := map[string]detailed{
		"d000": {[]string{"b"}, "j0 offered", 0, false},
		"d001": {[]string{"a", "b", "c", "late", "x"}, "j0 downloading", 2, true},
		"d002": {[]string{"a"}, "", 0, false},
		"d003": {[]string{}, "j3 offered", 1, false},
		"d004": {[]string{"c"}, "", 0, false},
	}
	if got := e.details(orchestrator.DeviceFilter{}); !reflect.DeepEqual(got, want) {
		t.Errorf("all devices: %+v, want %+v", got, want)
	}
	for _, id := range []string{"d000", "d003", "d004"} {
		delete(want, id)
	}
	yes := true
	for name, f := range map[string]orchestrator.DeviceFilter{"online": {Online: &yes}, "group a": {Group: "a"}, "a query": {Query: "online"}} {
		if got := e.details(f); !reflect.DeepEqual(got, want) {
			t.Errorf("devices by %s: %+v, want %+v", name, got, want)
		}
	}
	items, next, err := e.DeviceDetails(ctx, orchestrator.DeviceFilter{Text: "none"}, orchestrator.Page{})
	if e.ok(err); items == nil || len(items) != 0 || next != "" {
		t.Errorf("no device: %v, next %q", items, next)
	}
	_, _, err = e.DeviceDetails(ctx, orchestrator.DeviceFilter{Query: "online and"}, orchestrator.Page{})
	e.inField(err, "query")
	e.checkClean()
}

// TestDetailsReadGroupsOncePerPage reads pages of few and of many devices with
// their details: the dynamic groups, ten of them, and the device types are read once.
func TestDetailsReadGroupsOncePerPage(t *testing.T) {
	store := &countingStore{Store: memstore.New()}
	s := registry(t, store, 1000, 2)
	for _, limit := range []int{4, 400} {
		store.tables = map[orchestrator.Table]int{}
		items, _, err := s.DeviceDetails(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{Limit: limit})
		if err != nil || len(items) != limit {
			t.Fatalf("%d of %d devices: %v", len(items), limit, err)
		}
		for table, want := range map[orchestrator.Table]int{"groups": 10, "groups_dynamic": 10, "device_types": 4} {
			if got := store.tables[table]; got != want {
				t.Errorf("a page of %d reads %d of table %s, want %d", limit, got, table, want)
			}
		}
	}
}

// TestDetailsReadNoExecutionThatWaits lists devices for which many jobs wait: the
// records of these are not read.
func TestDetailsReadNoExecutionThatWaits(t *testing.T) {
	const jobs = 20
	store := &countingStore{Store: memstore.New()}
	e := newEnv(t, func(o *orchestrator.Options) { o.Store = store })
	ids := e.fleet(3)
	m := e.image("2", content(10, 1))
	for i := range jobs {
		e.job(fmt.Sprint("j", i), m.ID, ids...)
	}
	store.tables = map[orchestrator.Table]int{}
	items, _, err := e.DeviceDetails(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{})
	e.ok(err)
	if len(items) != len(ids) || slices.ContainsFunc(items, func(d orchestrator.DeviceDetail) bool { return d.Execution == nil || d.Waiting != jobs-1 }) {
		t.Errorf("listed: %+v", items)
	}
	if n := store.tables["executions"]; n != len(ids) {
		t.Errorf("%d executions were read, %d are under way", n, len(ids))
	}
}
