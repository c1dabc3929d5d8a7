package orchestrator_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
)

// pages reads a listing to its end.
func (e *env) pages(f orchestrator.ImageFilter, limit int) []string {
	e.t.Helper()
	ids, after := []string{}, ""
	for n := 0; ; n++ {
		items, next, err := e.Images(ctx, f, orchestrator.Page{After: after, Limit: limit})
		e.ok(err)
		if len(items) > limit || n > 1000 {
			e.t.Fatalf("page %d has %d items, at most %d were asked for", n, len(items), limit)
		}
		for i := range items {
			ids = append(ids, items[i].ID)
		}
		if after = next; after == "" {
			return ids
		}
	}
}

// naive says whether an image passes a filter, in the plainest way.
func naive(f orchestrator.ImageFilter, m orchestrator.Image) bool {
	text := strings.ToLower(strings.Join(append([]string{m.Version, m.Description, m.FileName}, m.Tags...), "\x00"))
	switch {
	case f.Archived == m.ArchivedAt.IsZero(),
		f.ImageType != "" && f.ImageType != m.ImageType,
		f.DeviceType != "" && !slices.Contains(m.DeviceTypes, f.DeviceType),
		f.Tag != "" && !slices.Contains(m.Tags, f.Tag):
		return false
	}
	return strings.Contains(text, strings.ToLower(f.Text))
}

// TestListsOfImages compares every filter, page by page, with a naive one over
// all images in the order of their making.
func TestListsOfImages(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	defer e.checkClean()
	types := []string{"app", "boot"}
	var enabled []orchestrator.EnabledImageType
	for _, id := range types {
		must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: id}))
		enabled = append(enabled, orchestrator.EnabledImageType{ID: id, VersionProperty: "v_" + id})
	}
	devices := []string{"pump", "pump-2", "valve"}
	for _, id := range devices {
		must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: id, Dialect: "ayla", ImageTypes: enabled}))
	}
	tags := []string{"lab", "lab2", "stable"}
	var all []orchestrator.Image
	rapid.Check(t, func(rt *rapid.T) {
		if len(all) < 60 { // the first checks fill the store
			for range 3 {
				now = now.Add(time.Duration(rapid.IntRange(0, 1).Draw(rt, "later")) * time.Second)
				n := orchestrator.NewImage{
					ImageType: rapid.SampledFrom(types).Draw(rt, "type"), Version: fmt.Sprint(len(all)),
					DeviceTypes: subset(rt, devices, 1), Tags: subset(rt, tags, 0), FileName: rapid.SampledFrom([]string{"", "Board.BIN"}).Draw(rt, "file"),
				}
				m := must[orchestrator.Image](t)(e.UploadImage(ctx, n, bytes.NewReader(content(20, byte(len(all))))))
				if rapid.IntRange(0, 3).Draw(rt, "archive") == 0 {
					m = must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Archived: ptr(true)}))
				}
				all = append(all, m)
			}
			slices.SortFunc(all, func(a, b orchestrator.Image) int {
				return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
			})
		}
		or := func(name string, list []string) string {
			return rapid.SampledFrom(append([]string{""}, list...)).Draw(rt, name)
		}
		f := orchestrator.ImageFilter{
			ImageType: or("by type", types), DeviceType: or("by device type", devices), Tag: or("by tag", tags),
			Text: or("text", []string{"1", "board.b", "LAB", "none of them"}), Archived: rapid.Bool().Draw(rt, "archived"),
		}
		want := []string{}
		for _, m := range all {
			if naive(f, m) {
				want = append(want, m.ID)
			}
		}
		limit := rapid.IntRange(1, 30).Draw(rt, "limit")
		if got := e.pages(f, limit); !slices.Equal(got, want) {
			rt.Fatalf("filter %+v in pages of %d:\n%v\nwant\n%v", f, limit, got, want)
		}
	})
}

func subset(t *rapid.T, list []string, least int) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(list), least, len(list), rapid.ID[string]).Draw(t, "subset")
}

func TestImagesHaveNames(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	m := e.image("2", content(10, 1), func(n *orchestrator.NewImage) { n.Name = "Pump control" })
	if got, _, err := e.Images(ctx, orchestrator.ImageFilter{Text: "p CONT"}, orchestrator.Page{}); err != nil || len(got) != 1 || got[0].Name != "Pump control" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{strings.Repeat("x", 129), "a\nb", "\xff"} {
		_, err := e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Name: &bad})
		e.wants(err, orchestrator.ErrInvalid, "name")
	}
	m = must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Name: ptr("Pumps")}))
	if m.Name != "Pumps" || m.Revision != 2 {
		t.Errorf("%+v", m)
	}
}

// TestCursorsOfImagesStay: a cursor goes on where it was though images come and
// go, its own among them, and means the same in every listing.
func TestCursorsOfImagesStay(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) {
		o.Now = func() time.Time { now = now.Add(time.Second); return now }
	})
	defer e.checkClean()
	e.fleet(0)
	var ids []string
	for i := range 6 {
		ids = append(ids, e.image(fmt.Sprint(i), content(10, byte(i))).ID)
	}
	slices.Reverse(ids)
	items, next, err := e.Images(ctx, orchestrator.ImageFilter{}, orchestrator.Page{Limit: 2})
	e.ok(err)
	if len(items) != 2 || items[0].ID != ids[0] || items[1].ID != ids[1] || next == "" {
		t.Fatalf("first page %v, %q; want the newest of %v", items, next, ids)
	}
	e.image("new", content(10, 99))
	e.ok(e.DeleteImage(ctx, ids[1]))
	for _, f := range []orchestrator.ImageFilter{{}, {ImageType: "app"}, {DeviceType: "pump"}} {
		items, _, err := e.Images(ctx, f, orchestrator.Page{After: next, Limit: 2})
		if err != nil || len(items) != 2 || items[0].ID != ids[2] || items[1].ID != ids[3] {
			t.Errorf("filter %+v goes on with %v, %v; want %v", f, items, err, ids[2:4])
		}
	}
	for field, call := range map[string]func() error{
		"after": func() error {
			_, _, err := e.Images(ctx, orchestrator.ImageFilter{}, orchestrator.Page{After: "not hex"})
			return err
		},
		"tag": func() error {
			_, _, err := e.Images(ctx, orchestrator.ImageFilter{Tag: "a b"}, orchestrator.Page{})
			return err
		},
		"text": func() error {
			_, _, err := e.Images(ctx, orchestrator.ImageFilter{Text: "a\x00"}, orchestrator.Page{})
			return err
		},
	} {
		e.wantsField(call(), field)
	}
}

// TestAPageOfImagesLooksAtFew: a text that only the oldest of many images has
// is found, but not by looking at all of them for one page.
func TestAPageOfImagesLooksAtFew(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	oldest := e.image("1", content(10, 1), func(n *orchestrator.NewImage) { n.Description = "Needle" })
	// As the service would have written them; uploading so many takes too long.
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		for i := range 1001 {
			m := oldest
			m.ID, m.Description, m.CreatedAt = fmt.Sprintf("img-%05d", i), "", oldest.CreatedAt.Add(time.Duration(i+1)*time.Second)
			b, err := json.Marshal(m)
			place := append(binary.BigEndian.AppendUint64(nil, ^uint64(m.CreatedAt.UnixNano())), m.ID...)
			if err := errors.Join(err, w.Put("images", []byte(m.ID), b), w.Put("images_by_time", place, []byte(m.ID))); err != nil {
				return err
			}
		}
		return nil
	}))
	f := orchestrator.ImageFilter{Text: "needle"}
	began := time.Now()
	items, next, err := e.Images(ctx, f, orchestrator.Page{})
	t.Logf("a page that looked at 1000 images took %v", time.Since(began))
	if err != nil || len(items) != 0 || next == "" {
		t.Errorf("the first page has %d images, cursor %q, %v; want none and a next page", len(items), next, err)
	}
	if got := e.pages(f, 10); !slices.Equal(got, []string{oldest.ID}) {
		t.Errorf("found %v, want %s", got, oldest.ID)
	}
}
