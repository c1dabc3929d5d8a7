package orchestrator_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// lamps makes image types "app" and "boot", device type "lamp" of the afero
// dialect that takes them as 101 and 102, and devices l0...
func (e *env) lamps(n int) {
	e.t.Helper()
	for _, id := range []string{"app", "boot"} {
		must[orchestrator.ImageType](e.t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: id}))
	}
	must[orchestrator.DeviceType](e.t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "lamp", Dialect: "afero", AttributeSize: 510,
		ImageTypes: []orchestrator.EnabledImageType{{ID: "app", NumericType: 101}, {ID: "boot", NumericType: 102}},
	}))
	for i := range n {
		must[orchestrator.Device](e.t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: fmt.Sprintf("l%d", i), Type: "lamp"}))
	}
}

// lampImage uploads an image for the lamps; id is the number wanted, or 0.
func (e *env) lampImage(imageType, version string, id uint64) (orchestrator.Image, error) {
	n := orchestrator.NewImage{ImageType: imageType, DeviceTypes: []string{"lamp"}, Version: version, VersionID: id, Format: "binary"}
	return e.UploadImage(ctx, n, bytes.NewReader(content(300, byte(len(version)))))
}

// numbered uploads an image and expects that its version has the number.
func (e *env) numbered(imageType, version string, want, id uint64) orchestrator.Image {
	e.t.Helper()
	m, err := e.lampImage(imageType, version, want)
	e.ok(err)
	if stored := must[orchestrator.Image](e.t)(e.Image(ctx, m.ID)); m.VersionID != id || stored.VersionID != id {
		e.t.Errorf("version %q of %s has the number %d, stored is %d, want %d", version, imageType, m.VersionID, stored.VersionID, id)
	}
	return m
}

func TestNumbersOfVersions(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(0)
	first := e.numbered("app", "1.0", 0, 1)
	e.numbered("app", "1.1", 0, 2)
	e.numbered("boot", "1.1", 0, 1) // every image type counts for itself
	e.numbered("app", "1.0", 0, 1)  // the same version, another image
	e.numbered("app", "1.0", 1, 1)  // said again
	e.numbered("app", "2.0", 10, 10)
	e.numbered("app", "2.1", 0, 11) // the highest counts
	e.numbered("app", "0.9", 5, 5)  // a gap may be filled
	last := e.numbered("app", "2.2", 0, 12)
	e.ok(e.DeleteImage(ctx, last.ID))
	e.ok(e.DeleteImage(ctx, first.ID))
	e.numbered("app", "2.3", 0, 13) // not given away again
	e.numbered("app", "2.2", 0, 12) // and still the version's own
	for _, c := range []struct {
		version string
		id      uint64
		kind    error
		says    []string
	}{
		{"3.0", 10, orchestrator.ErrConflict, []string{`10 is the number of version "2.0" of image type "app"`, "name another"}},
		{"2.0", 14, orchestrator.ErrConflict, []string{`version "2.0" of image type "app" has the number 10`, "leave the number out"}},
		{"3.0", schemas.MaxVersionID + 1, orchestrator.ErrInvalid, []string{"9007199254740991"}},
		{"#7", 0, orchestrator.ErrInvalid, []string{`"#7"`, "only the number is known"}},
		{"#007", 7, orchestrator.ErrInvalid, []string{`"#007"`}},
	} {
		_, err := e.lampImage("app", c.version, c.id)
		e.wants(err, c.kind, c.says...)
		field := "version_id"
		if strings.HasPrefix(c.version, "#") {
			field = "version"
		}
		e.wantsField(err, field)
	}
	e.numbered("app", "#", 0, 14) // neither of these is the text of a number
	e.numbered("app", "#7a", 0, 15)
	e.numbered("app", "last", schemas.MaxVersionID, schemas.MaxVersionID)
	_, err := e.lampImage("app", "beyond", 0)
	e.wants(err, orchestrator.ErrConflict, "no number left above 9007199254740991", "lower one")
	e.numbered("app", "beyond", 100, 100)
}

// TestUploadNamesTheNumber: the second step of an upload may name the number,
// and an upload that is refused for it is still there.
func TestUploadNamesTheNumber(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(0)
	e.numbered("app", "1.0", 7, 7)
	u := must[orchestrator.Upload](t)(e.StageUpload(ctx, orchestrator.NewUpload{FileName: "a.bin", Format: "binary"}, strings.NewReader("firmware")))
	n := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"lamp"}, Version: "1.1", VersionID: 7}
	_, err := e.CreateImage(ctx, u.ID, n)
	e.wants(err, orchestrator.ErrConflict, `version "1.0"`)
	n.VersionID = 9
	if m := must[orchestrator.Image](t)(e.CreateImage(ctx, u.ID, n)); m.VersionID != 9 {
		t.Errorf("image %+v", m)
	}
}

func TestEditedVersionGetsItsOwnNumber(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(1)
	m := e.numbered("app", "1.0", 0, 1)
	e.numbered("app", "1.1", 0, 2)
	edit := func(version string) (orchestrator.Image, error) {
		return e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Version: ptr(version)})
	}
	for _, c := range []struct {
		version string
		id      uint64
	}{{"1.2", 3}, {"1.1", 2}, {"1.0", 1}, {"1.2", 3}} {
		if got := must[orchestrator.Image](t)(edit(c.version)); got.VersionID != c.id {
			t.Errorf("edited to %s, it has the number %d, want %d", c.version, got.VersionID, c.id)
		}
	}
	if got := must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Description: ptr("x")})); got.VersionID != 3 {
		t.Errorf("another edit changed the number to %d", got.VersionID)
	}
	_, err := edit("#3")
	e.wants(err, orchestrator.ErrInvalid, "only the number is known")
	must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"l0"}}))
	_, err = edit("1.0")
	e.wants(err, orchestrator.ErrConflict, `job "j" has used it`)
}

// TestReportedNumbersAreNotAllotted: devices run something with the number
// already, of which no image tells.
func TestReportedNumbersAreNotAllotted(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(4)
	for device, id := range map[string]string{"l0": "2", "l1": "3", "l2": "5", "l3": "20"} {
		e.ok(e.Hello(ctx, device, schemas.Hello{V: 1, Dialect: "afero", HostVersions: map[string]string{"2101": id, "2102": "1"}}))
	}
	e.numbered("app", "1.0", 0, 1)
	e.numbered("app", "1.1", 0, 4) // 2 and 3 are out there
	e.numbered("app", "1.2", 0, 6) // and 5
	e.numbered("app", "from the factory", 5, 5)
	e.numbered("app", "1.3", 0, 7)
	e.numbered("boot", "1.0", 0, 2)
	e.ok(e.Hello(ctx, "l3", schemas.Hello{V: 1, Dialect: "afero", HostVersions: map[string]string{"2101": "8", "2102": ""}}))
	e.numbered("app", "1.4", 0, 9) // 8 is, 20 no longer
}

// TestNumbersOfAnOlderStore: images that were made before versions had numbers
// get them at the start, in the order of their creation.
func TestNumbersOfAnOlderStore(t *testing.T) {
	e := newEnv(t)
	e.lamps(0)
	images := []orchestrator.Image{e.numbered("app", "1.0", 0, 1), e.numbered("app", "1.1", 0, 2), e.numbered("app", "1.0", 0, 1), e.numbered("app", "1.2", 0, 3)}
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		for i, m := range images {
			b, err := w.Get("images", []byte(m.ID))
			old := strings.Replace(string(b), fmt.Sprintf(`"version_id":%d,`, m.VersionID), "", 1)
			if err != nil || old == string(b) {
				return fmt.Errorf("%s: %w", b, err)
			}
			e.ok(w.Put("images", []byte(m.ID), []byte(old)))
			if i == 2 {
				continue
			}
			e.ok(w.Delete("versions", []byte("app\x00"+m.Version)))
			e.ok(w.Delete("versions_by_id", append([]byte("app\x00"), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ^byte(m.VersionID))))
		}
		return nil
	}))
	e.checkClean() // as it was before
	e.start()
	e.stop()
	for _, m := range images {
		if got := must[orchestrator.Image](t)(e.Image(ctx, m.ID)); got.VersionID != m.VersionID || got.Revision != m.Revision {
			t.Errorf("version %s has the number %d at revision %d, want %d at %d", m.Version, got.VersionID, got.Revision, m.VersionID, m.Revision)
		}
	}
	e.checkClean()
	e.numbered("app", "1.3", 0, 4)
}

// TestNumbersNeverMeet: whatever is uploaded, edited and deleted, and however
// numbers are named, a version keeps its number and no other gets it.
func TestNumbersNeverMeet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := newEnv(t)
		e.lamps(0)
		given := map[string]uint64{} // by type and version, for ever
		note := func(m orchestrator.Image) {
			key := m.ImageType + " " + m.Version
			for k, id := range given {
				if (k == key) != (id == m.VersionID) && strings.HasPrefix(k, m.ImageType+" ") {
					rt.Fatalf("%s has %d, %s had %d", key, m.VersionID, k, id)
				}
			}
			given[key] = m.VersionID
		}
		var images []orchestrator.Image
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			version := rapid.SampledFrom([]string{"1", "2", "3", "4", "5"}).Draw(rt, "version")
			what := rapid.IntRange(0, 3).Draw(rt, "what")
			if len(images) == 0 {
				what = 0
			}
			var m orchestrator.Image
			var err error
			switch what {
			case 0, 1:
				imageType := rapid.SampledFrom([]string{"app", "boot"}).Draw(rt, "type")
				m, err = e.lampImage(imageType, version, rapid.Uint64Range(0, 6).Draw(rt, "wanted"))
				if err == nil {
					images = append(images, m)
				}
			case 2:
				i := rapid.IntRange(0, len(images)-1).Draw(rt, "image")
				m, err = e.UpdateImage(ctx, images[i].ID, orchestrator.ImagePatch{Version: &version})
			case 3:
				e.ok(e.DeleteImage(ctx, images[0].ID))
				images = images[1:]
				continue
			}
			if err == nil {
				note(m)
			} else if !errors.Is(err, orchestrator.ErrConflict) {
				rt.Fatal(err)
			}
		}
		e.checkClean()
	})
}
