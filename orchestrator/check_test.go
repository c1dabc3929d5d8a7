package orchestrator_test

import (
	"errors"
	"strings"
	"testing"

	"davit/orchestrator"
	"davit/schemas"
)

// TestCheckFindsDamage damages one thing at a time and expects to be told.
func TestCheckFindsDamage(t *testing.T) {
	type w = orchestrator.Writer
	// edit replaces text in a record.
	edit := func(table orchestrator.Table, key, old, replacement string) func(w) error {
		return func(tx w) error {
			b, err := tx.Get(table, []byte(key))
			if err == nil && !strings.Contains(string(b), old) {
				err = errors.New("record " + key + " has no " + old + ": " + string(b))
			}
			return errors.Join(err, tx.Put(table, []byte(key), []byte(strings.Replace(string(b), old, replacement, 1))))
		}
	}
	drop := func(table orchestrator.Table, key string) func(w) error {
		return func(tx w) error { return tx.Delete(table, []byte(key)) }
	}
	first := func(table orchestrator.Table, with func(tx w, key, value []byte) error) func(w) error {
		return func(tx w) error {
			var key, value []byte
			err := tx.Scan(table, nil, nil, func(k, v []byte) bool { key, value = k, v; return false })
			if err == nil && key == nil {
				err = errors.New("table " + string(table) + " is empty")
			}
			return errors.Join(err, with(tx, key, value))
		}
	}
	dropFirst := func(table orchestrator.Table) func(w) error {
		return first(table, func(tx w, key, _ []byte) error { return tx.Delete(table, key) })
	}
	for _, c := range []struct {
		name   string
		damage func(w) error
		says   string
	}{
		{"record does not decode", edit("devices", "d000", "{", "["), "does not decode"},
		{"unknown field", edit("devices", "d000", `"id"`, `"colour":"red","id"`), "does not decode"},
		{"record under another key", edit("devices", "d000", `"d000"`, `"d009"`), `says that it is "d009"`},
		{"missing index entry", dropFirst("executions_open"), "has no entry"},
		{"missing record", drop("devices", "d001"), "d001"},
		{"stray index entry", func(tx w) error { return tx.Put("devices_online", []byte("ghost"), []byte("ghost")) }, "some point to nothing"},
		{"index entry of another", first("executions_by_job", func(tx w, key, _ []byte) error {
			return tx.Put("executions_by_job", key, []byte("ex-other"))
		}), "points to"},
		{"wrong count", edit("job_progress", "j", `"offered":1`, `"offered":3`), `job "j" counts 3 executions offered, there are 1`},
		{"wrong totals", func(tx w) error { return tx.Put("meta", []byte("totals"), make([]byte, 8*len(schemas.States()))) }, "totals count 0"},
		{"lost start number", func(tx w) error { return tx.Delete("meta", []byte("job_seq")) }, "started as number 0"},
		{"damaged start number", func(tx w) error { return tx.Put("meta", []byte("job_seq"), []byte("1")) }, "has 1 bytes, want 8"},
		{"offer not noted", drop("offers", "d000"), "no offer is noted"},
		{"group of a device that is gone", edit("groups", "g", `"d000"`, `"dxxx"`), `refers to devices "dxxx"`},
		{"image out of its list", dropFirst("images_by_time"), "has no entry"},
		{"version id lost", drop("versions", "app\x002"), `has the version id 1, its version "2" has 0`},
		{"version id of another", edit("versions", "app\x002", `"id":1`, `"id":2`), "versions_by_id has no entry"},
		{"version id out of range", edit("versions", "app\x002", `"id":1`, `"id":0`), "has the id 0, allowed are 1 to"},
		{"version id that leads nowhere", dropFirst("versions_by_id"), "versions_by_id has no entry"},
		{"version id that leads elsewhere", first("versions_by_id", func(tx w, key, _ []byte) error {
			return tx.Put("versions_by_id", key, []byte("app\x003"))
		}), "points to"},
		{"stray version id", func(tx w) error { return tx.Put("versions_by_id", []byte("app\x0012345678"), []byte("app\x009")) }, "some point to nothing"},
		{"image with the id of another version", first("images", func(tx w, key, value []byte) error {
			return tx.Put("images", key, []byte(strings.Replace(string(value), `"version_id":1`, `"version_id":5`, 1)))
		}), `has the version id 5, its version "2" has 1`},
		{"stray archived image", func(tx w) error { return tx.Put("images_archived", []byte("ghost"), []byte("ghost")) }, "some point to nothing"},
		{"image type gone", drop("image_types", "app"), `refers to image_types "app"`},
		{"job that should be complete", edit("job_progress", "j", `"running"`, `"completed"`), "is completed, but"},
		{"cause not counted", edit("job_progress", "f", `"serial":1`, `"serial":2`), `job "f" counts the causes map[serial:2]`},
		{"history lost", drop("job_history", "f"), `the history of job "f" counts 0 successes and 0 other ends`},
		{"history of too much", edit("job_history", "f", `[1]`, `[2]`), `the history of job "f" counts`},
		{"attempt lost", func(tx w) error {
			id, err := tx.Get("executions_by_job", []byte("f\x00d001"))
			return errors.Join(err, orchestrator.EditExecution(tx, string(id), func(x *orchestrator.ExecutionRecord) { x.Attempt = 2 }))
		}, "is at attempt 2 and remembers 0 earlier ones"},
		{"work twice", edit("job_progress", "j", `"running"`, `"running","work":[{"kind":"settle"},{"kind":"settle"}]`), "left to do twice"},
		{"retries left over", func(tx w) error {
			return tx.Put("job_retries", append([]byte("j\x00"), make([]byte, 8)...), []byte(`{"rev":1,"devices":["d000"]}`))
		}, "has devices to retry left over"},
		{"targets left over", func(tx w) error {
			return tx.Put("job_targets", append([]byte("j\x00"), make([]byte, 8)...), []byte(`["d000"]`))
		}, "has targets left over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			ids := e.fleet(2)
			must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: ids}))
			m := e.image("2", content(10, 1))
			e.job("f", m.ID, "d001")
			e.ok(e.Status(ctx, "d001", status(e.execution("f", "d001"), 1, schemas.StateFailed)))
			e.job("j", m.ID, ids...)
			e.ok(e.Status(ctx, "d001", status(e.execution("j", "d001"), 1, schemas.StateInstalling)))
			e.checkClean()
			e.ok(e.store.Update(ctx, c.damage))
			r, err := e.Check(ctx)
			if err != nil || r.OK() || !strings.Contains(strings.Join(r.Violations, "\n"), c.says) {
				t.Errorf("check says %q (%v), want %q", r.Violations, err, c.says)
			}
		})
	}
}

// TestCheckFindsTwoUnderWay moves an execution to another device's name.
func TestCheckFindsTwoUnderWay(t *testing.T) {
	e := newEnv(t)
	e.fleet(1)
	e.job("one", e.image("2", content(10, 1)).ID, "d000")
	e.job("two", e.image("3", content(10, 2)).ID, "d000")
	x := e.execution("two", "d000")
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		return orchestrator.EditExecution(w, x.ID, func(x *orchestrator.ExecutionRecord) { x.State = schemas.StateOffered })
	}))
	r, err := e.Check(ctx)
	if err != nil || !strings.Contains(strings.Join(r.Violations, "\n"), "two executions under way") {
		t.Errorf("check says %q, %v", r.Violations, err)
	}
}

func TestCheckFindsBlobDamage(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	m := e.image("2", content(10, 1))
	r := e.checkClean()
	if r.Blobs != 1 || r.BlobBytes != 10 || r.Records < 3 || r.Indexes < 3 {
		t.Errorf("report %+v", r)
	}
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		b, err := w.Get("images", []byte(m.ID))
		return errors.Join(err, w.Put("images", []byte(m.ID), []byte(strings.Replace(string(b), `"size":10`, `"size":11`, 1))))
	}))
	r, err := e.Check(ctx)
	if err != nil || r.Count != 1 || !strings.Contains(r.Violations[0], "has 10 bytes, its image 11") {
		t.Errorf("check of a wrong size: %+v, %v", r, err)
	}
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		b, err := w.Get("images", []byte(m.ID))
		return errors.Join(err, w.Put("images", []byte(m.ID), []byte(strings.Replace(string(b), `"size":11`, `"size":10`, 1))))
	}))
	u := e.stage("a", content(20, 2))
	if r := e.checkClean(); r.Blobs != 2 || r.BlobBytes != 30 {
		t.Errorf("report with an upload %+v", r)
	}
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		return errors.Join(w.Delete("uploads", []byte(u.ID)), w.Delete("uploads_by_blob", []byte(u.SHA256+"\x00"+u.ID)))
	}))
	r, err = e.Check(ctx)
	if err != nil || r.Count != 1 || !strings.Contains(r.Violations[0], "belongs to no image and no upload") {
		t.Errorf("check of a lost upload: %+v, %v", r, err)
	}
	e.ok(e.blobs.Remove(ctx, u.SHA256))
	e.ok(e.blobs.Remove(ctx, m.SHA256))
	r, err = e.Check(ctx)
	if err != nil || r.Count != 1 || !strings.Contains(r.Violations[0], "cannot be read") {
		t.Errorf("check of a missing blob: %+v, %v", r, err)
	}
}
