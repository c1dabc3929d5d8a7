package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"davit/orchestrator"
)

func newImage(version string) orchestrator.NewImage {
	return orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: version, Format: "binary"}
}

func TestImageRoundTrip(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(0)
	want := content(100_000, 1)
	m := e.image("1.0", want, func(n *orchestrator.NewImage) { n.Tags = []string{"stable", "lab"}; n.FileName = "fw.bin" })
	if m.Size != 100_000 || m.Format != "binary" || m.FileName != "fw.bin" || len(m.SHA256) != 64 {
		t.Errorf("uploaded %+v", m)
	}
	same := e.image("1.1", want)
	other := e.image("1.2", content(100, 2))
	if same.ID == m.ID || same.SHA256 != m.SHA256 {
		t.Errorf("the same content made %+v of %+v", same, m)
	}
	if r := e.checkClean(); r.Blobs != 2 {
		t.Errorf("%d blobs for two contents", r.Blobs)
	}
	read := func(id string) []byte {
		_, b, err := e.OpenImage(ctx, id)
		e.ok(err)
		defer b.Close()
		got := make([]byte, b.Size())
		_, err = b.ReadAt(got, 0)
		e.ok(err)
		return got
	}
	if !bytes.Equal(read(m.ID), want) {
		t.Error("the image reads back differently")
	}
	for _, c := range []struct {
		f    orchestrator.ImageFilter
		want int
	}{
		{orchestrator.ImageFilter{}, 3}, {orchestrator.ImageFilter{Tag: "lab"}, 1}, {orchestrator.ImageFilter{Tag: "none"}, 0},
		{orchestrator.ImageFilter{ImageType: "app"}, 3}, {orchestrator.ImageFilter{DeviceType: "pump"}, 3},
		{orchestrator.ImageFilter{Tag: "lab", ImageType: "none"}, 0}, {orchestrator.ImageFilter{ImageType: "app", DeviceType: "pump"}, 3},
	} {
		items, _, err := e.Images(ctx, c.f, orchestrator.Page{})
		if err != nil || len(items) != c.want {
			t.Errorf("filter %+v yields %d (%v), want %d", c.f, len(items), err, c.want)
		}
	}
	seen, after := 0, ""
	for {
		items, next, err := e.Images(ctx, orchestrator.ImageFilter{ImageType: "app"}, orchestrator.Page{After: after, Limit: 2})
		e.ok(err)
		seen += len(items)
		if after = next; next == "" {
			break
		}
	}
	if seen != 3 {
		t.Errorf("pages of a filter yield %d images", seen)
	}
	e.ok(e.DeleteImage(ctx, m.ID))
	if !bytes.Equal(read(same.ID), want) {
		t.Error("deleting one image took the bytes of another")
	}
	e.ok(e.DeleteImage(ctx, same.ID))
	e.ok(e.DeleteImage(ctx, other.ID))
	if r := e.checkClean(); r.Blobs != 0 {
		t.Errorf("%d blobs are left", r.Blobs)
	}
	e.wants(e.DeleteImage(ctx, m.ID), orchestrator.ErrNotFound, m.ID)
}

func TestUploadIsRefused(t *testing.T) {
	e := newEnv(t, func(o *orchestrator.Options) { o.MaxImageSize = 2 << 20 })
	defer e.checkClean()
	e.fleet(0)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "plain", Dialect: "ayla"}))
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "roomy", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	with := func(change func(*orchestrator.NewImage)) orchestrator.NewImage {
		n := newImage("1")
		change(&n)
		return n
	}
	for _, c := range []struct {
		name string
		n    orchestrator.NewImage
		r    io.Reader
		kind error
		says string
	}{
		{"empty", newImage("1"), bytes.NewReader(nil), orchestrator.ErrInvalid, "1048576 bytes, which is the limit"},
		{"over the device type's limit", newImage("1"), bytes.NewReader(content(1<<20+1, 0)), orchestrator.ErrTooLarge, `"pump" for image type "app" is 1048576 bytes`},
		{"over the server's limit", with(func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"roomy"} }),
			bytes.NewReader(content(2<<20+1, 0)), orchestrator.ErrTooLarge, "the server is 2097152 bytes"},
		{"not enabled", with(func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"plain"} }), nil, orchestrator.ErrInvalid, "does not take"},
		{"unknown device type", with(func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"x"} }), nil, orchestrator.ErrNotFound, `"x"`},
		{"unknown image type", with(func(n *orchestrator.NewImage) { n.ImageType = "x" }), nil, orchestrator.ErrNotFound, `"x"`},
		{"no device type", with(func(n *orchestrator.NewImage) { n.DeviceTypes = nil }), nil, orchestrator.ErrInvalid, "device_types"},
		{"no version", newImage(""), nil, orchestrator.ErrInvalid, "version"},
		{"bad version", newImage("1\n"), nil, orchestrator.ErrInvalid, "control character"},
		{"bad tag", with(func(n *orchestrator.NewImage) { n.Tags = []string{"a b"} }), nil, orchestrator.ErrInvalid, "tags"},
		{"bad format", with(func(n *orchestrator.NewImage) { n.Format = "elf" }), nil, orchestrator.ErrInvalid, `"elf"`},
		{"corrupt HEX", with(func(n *orchestrator.NewImage) { n.Format = "auto"; n.FileName = "fw.hex" }),
			strings.NewReader(":0400000001020304F2\n:00000001FE\n"), orchestrator.ErrInvalid, "fw.hex, line 2"},
		{"broken upload", newImage("1"), io.MultiReader(bytes.NewReader(content(5000, 0)), &failing{io.ErrUnexpectedEOF}), io.ErrUnexpectedEOF, ""},
	} {
		_, err := e.UploadImage(ctx, c.n, c.r)
		t.Run(c.name, func(t *testing.T) { (&env{t: t}).wants(err, c.kind, c.says) })
	}
	must[orchestrator.Image](t)(e.UploadImage(ctx, newImage("1"), bytes.NewReader(content(1<<20, 0)))) // just at the limit
	canceled, cancel := context.WithCancel(ctx)
	_, err := e.UploadImage(canceled, newImage("1"), readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	e.wants(err, context.Canceled)
	if r := e.checkClean(); r.Blobs != 1 {
		t.Errorf("%d blobs are left", r.Blobs)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestUploadStopsReadingAtTheLimit feeds an endless file.
func TestUploadStopsReadingAtTheLimit(t *testing.T) {
	for _, format := range []string{"binary", "auto"} {
		e := newEnv(t)
		e.fleet(0)
		read := 0
		n := newImage("1")
		n.Format = format
		_, err := e.UploadImage(ctx, n, readerFunc(func(p []byte) (int, error) { read += len(p); return len(p), nil }))
		e.wants(err, orchestrator.ErrTooLarge, "1048576")
		if read > 1<<20+256<<10 {
			t.Errorf("%s: %d bytes were read for a limit of 1 MiB", format, read)
		}
		e.checkClean()
	}
}

// fullDisk is a Blobs whose disk is full after some bytes.
type fullDisk struct {
	orchestrator.Blobs
	room int
}

type fullWriter struct {
	orchestrator.BlobWriter
	disk *fullDisk
}

func (f *fullDisk) Create(ctx context.Context) (orchestrator.BlobWriter, error) {
	w, err := f.Blobs.Create(ctx)
	return &fullWriter{w, f}, err
}

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.disk.room {
		return 0, fmt.Errorf("%w: %w", orchestrator.ErrNoSpace, syscall.ENOSPC)
	}
	w.disk.room -= len(p)
	return w.BlobWriter.Write(p)
}

func TestUploadToAFullDisk(t *testing.T) {
	disk := &fullDisk{room: 40_000}
	e := newEnv(t, func(o *orchestrator.Options) { disk.Blobs = o.Blobs; o.Blobs = disk })
	e.fleet(0)
	_, err := e.UploadImage(ctx, newImage("1"), bytes.NewReader(content(100_000, 0)))
	e.wants(err, orchestrator.ErrNoSpace)
	if r := e.checkClean(); r.Blobs != 0 {
		t.Errorf("%d blobs are left", r.Blobs)
	}
}

// TestBlobsWithoutImagesAreSwept puts a blob in place without a record, as a
// crash in the middle of an upload does.
func TestBlobsWithoutImagesAreSwept(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	e.image("1", content(10, 0))
	w, err := e.blobs.Create(ctx)
	e.ok(err)
	_, err = w.Write([]byte("orphan"))
	_, _, cerr := w.Commit()
	e.ok(errors.Join(err, cerr))
	r, err := e.Check(ctx)
	if err != nil || r.Count != 1 {
		t.Errorf("check of an orphan: %+v, %v", r, err)
	}
	e.start()
	e.stop()
	if r := e.checkClean(); r.Blobs != 1 {
		t.Errorf("%d blobs after the sweep, want the image's", r.Blobs)
	}
}

func TestUploadOfIntelHEX(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(0)
	n := newImage("1")
	n.Format = ""
	m := must[orchestrator.Image](t)(e.UploadImage(ctx, n, strings.NewReader(":0401000001020304F1\n:0101080009ED\n:00000001FF\n")))
	if m.Format != "ihex" || m.Size != 9 || m.StartAddress == nil || *m.StartAddress != 0x100 {
		t.Errorf("uploaded %+v", m)
	}
	_, b, err := e.OpenImage(ctx, m.ID)
	e.ok(err)
	defer b.Close()
	got := make([]byte, 9)
	_, err = b.ReadAt(got, 0)
	e.ok(err)
	if want := []byte{1, 2, 3, 4, 255, 255, 255, 255, 9}; !bytes.Equal(got, want) {
		t.Errorf("flattened to %v, want %v", got, want)
	}
}

// TestSameContentComesAndGoes uploads and deletes one content from several
// goroutines: an image's bytes are there whenever its record is.
func TestSameContentComesAndGoes(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				m, err := e.UploadImage(ctx, newImage("1"), bytes.NewReader(content(3000, 1)))
				if err != nil {
					t.Error(err)
					return
				}
				_, b, err := e.OpenImage(ctx, m.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(b.Close(), e.DeleteImage(ctx, m.ID)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r := e.checkClean(); r.Blobs != 0 {
		t.Errorf("%d blobs are left", r.Blobs)
	}
}
