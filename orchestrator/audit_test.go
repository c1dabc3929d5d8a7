package orchestrator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
)

// auditing makes entries of three people over two days; it returns how many.
func auditing(t *testing.T) *env {
	t.Helper()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	for i := range 30 {
		actor := orchestrator.Actor{Name: []string{"ann", "bob", "bo"}[i%3], Kind: orchestrator.ActorUser, Role: "admin", Address: "192.0.2.1", Request: fmt.Sprint(i)}
		action := []string{"create", "delete"}[i%2]
		e.ok(e.Audit(orchestrator.WithActor(ctx, actor), action, []string{"device", "devic"}[i%2], fmt.Sprintf("d%d", i%5), nil, map[string]int{"n": i}))
		now = now.Add(2 * time.Hour)
	}
	return e
}

func TestAuditFilters(t *testing.T) {
	e := auditing(t)
	from := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		filter orchestrator.AuditFilter
		keep   func(i int) bool
	}{
		"all":             {orchestrator.AuditFilter{}, func(int) bool { return true }},
		"actor":           {orchestrator.AuditFilter{Actor: "bo"}, func(i int) bool { return i%3 == 2 }},
		"action":          {orchestrator.AuditFilter{Action: "delete"}, func(i int) bool { return i%2 == 1 }},
		"kind":            {orchestrator.AuditFilter{Kind: "devic"}, func(i int) bool { return i%2 == 1 }},
		"object":          {orchestrator.AuditFilter{Kind: "device", ID: "d2"}, func(i int) bool { return i%2 == 0 && i%5 == 2 }},
		"object of actor": {orchestrator.AuditFilter{Kind: "device", ID: "d2", Actor: "ann"}, func(i int) bool { return i%2 == 0 && i%5 == 2 && i%3 == 0 }},
		"from":            {orchestrator.AuditFilter{From: from}, func(i int) bool { return i >= 6 }},
		"kind from to": {orchestrator.AuditFilter{Kind: "device", From: from, To: from.Add(8 * time.Hour)},
			func(i int) bool { return i >= 6 && i < 10 && i%2 == 0 }},
	} {
		for _, limit := range []int{1, 4, 1000} {
			got := map[string]bool{}
			last := ^uint64(0)
			page := orchestrator.Page{Limit: limit}
			for {
				items, next, err := e.AuditEntries(ctx, c.filter, page)
				e.ok(err)
				for _, item := range items {
					if item.Seq >= last && c.filter.Kind != "" && c.filter.ID != "" {
						t.Errorf("%s: entry %d after %d", name, item.Seq, last)
					}
					last = item.Seq
					got[item.Actor.Request] = true
				}
				if page.After = next; next == "" {
					break
				}
			}
			for i := range 30 {
				if got[fmt.Sprint(i)] != c.keep(i) {
					t.Errorf("%s, limit %d: entry %d is there: %v", name, limit, i, got[fmt.Sprint(i)])
				}
			}
		}
	}
	_, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{ID: "d1"}, orchestrator.Page{})
	e.wants(err, orchestrator.ErrInvalid, "kind")
	_, _, err = e.AuditEntries(ctx, orchestrator.AuditFilter{}, orchestrator.Page{After: "zz"})
	e.wants(err, orchestrator.ErrInvalid, "cursor")
	e.checkClean()
}

// TestAuditIsPartOfTheChange: what is refused, or rolled back by the store, is
// not in the log; who did it and both states are, with a long one cut.
func TestAuditIsPartOfTheChange(t *testing.T) {
	e := newEnv(t)
	ann := orchestrator.WithActor(ctx, orchestrator.Actor{Name: "ann", Kind: orchestrator.ActorUser, Role: "admin", Address: "192.0.2.7:1", Request: "r1"})
	e.fleet(1)
	entries := func() []orchestrator.AuditEntry {
		list, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1000})
		e.ok(err)
		return list
	}
	before := len(entries())
	if _, err := e.CreateImageType(ann, orchestrator.NewImageType{ID: "app"}); !errors.Is(err, orchestrator.ErrExists) {
		t.Fatal(err)
	}
	if n := len(entries()); n != before {
		t.Errorf("a refused creation left %d entries", n-before)
	}
	name, long := "Application", strings.Repeat("x", 4000)
	_, err := e.UpdateImageType(ann, "app", orchestrator.ImageTypePatch{Name: &name})
	e.ok(err)
	got := entries()[0]
	if got.Action != "update" || got.Kind != orchestrator.KindImageType || got.ID != "app" || got.Actor.Name != "ann" || got.Actor.Address != "192.0.2.7:1" ||
		!strings.Contains(string(got.Before), `"name":"app"`) || !strings.Contains(string(got.After), `"name":"Application"`) {
		t.Errorf("%+v", got)
	}
	e.ok(e.Audit(ann, "test", orchestrator.KindDevice, "d", nil, []string{long, long, long, long, long}))
	if got := entries()[0]; len(got.After) > 200 || !strings.Contains(string(got.After), "omitted_bytes") {
		t.Errorf("%d bytes: %.300s", len(got.After), got.After)
	}
	e.checkClean()
}

// TestIdempotencyKeys: a repeated creation makes nothing, another request
// under the same key is refused, and a key is forgotten after a day.
func TestIdempotencyKeys(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	e.fleet(1)
	image := e.image("2", content(10, 1))
	key := func(k, fingerprint string) orchestrator.IdempotencyKey {
		return orchestrator.IdempotencyKey{Key: k, Fingerprint: fingerprint}
	}
	create := func(k orchestrator.IdempotencyKey, name string) error {
		_, err := e.CreateJob(orchestrator.WithIdempotency(ctx, k), orchestrator.NewJob{Name: name, Image: image.ID, Devices: []string{"d000"}, Start: true})
		return err
	}
	e.ok(create(key("k", "1"), "j"))
	rev, err := e.LastRev(ctx)
	e.ok(err)
	for range 2 {
		e.restart()
		again, ok := orchestrator.IsReplay(create(key("k", "1"), "j"))
		if !ok || again.Kind != orchestrator.KindJob || again.ID != "j" {
			t.Errorf("%+v %v", again, ok)
		}
	}
	e.wants(create(key("k", "2"), "j2"), orchestrator.ErrInvalid, `job "j"`, "new key")
	if after, err := e.LastRev(ctx); err != nil || after != rev {
		t.Errorf("something changed: %d, %d, %v", rev, after, err)
	}
	// What failed did not use its key up.
	e.wants(create(key("l", "1"), "j"), orchestrator.ErrExists)
	e.ok(create(key("l", "1"), "j3"))
	now = now.Add(25 * time.Hour)
	e.ok(create(key("k", "2"), "j2"))
	now = now.Add(25 * time.Hour)
	e.ok(create(key("m", "1"), "j4"))
	e.checkClean()
}
