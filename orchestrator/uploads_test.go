package orchestrator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/sim"
	"davit/orchestrator"
)

func (e *env) stage(name string, file []byte) orchestrator.Upload {
	e.t.Helper()
	return must[orchestrator.Upload](e.t)(e.StageUpload(ctx, orchestrator.NewUpload{FileName: name}, bytes.NewReader(file)))
}

func TestAnUploadBecomesAnImage(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(0)
	file := sim.BuildDemoImage("2.0.1", 5000, 1)
	u := e.stage("board.bin", file)
	if u.Size != 5000 || u.Format != "binary" || len(u.SHA256) != 64 || u.FileName != "board.bin" || u.Duplicates != nil ||
		u.ExpiresAt.Sub(u.CreatedAt) != orchestrator.UploadKept {
		t.Errorf("staged %+v", u)
	}
	if u.Detected == nil || u.Detected.Format != "davit-demo" || u.Detected.Version != "2.0.1" || u.Detected.Size != 5000 {
		t.Errorf("detected %+v", u.Detected)
	}
	if r := e.checkClean(); r.Blobs != 1 {
		t.Errorf("%d blobs with an upload, want 1", r.Blobs)
	}
	n := newImage("2.0.1")
	n.Tags, n.MinVersion, n.Format = []string{"b", "a"}, "1.9", ""
	m := must[orchestrator.Image](t)(e.CreateImage(ctx, u.ID, n))
	if m.SHA256 != u.SHA256 || m.Size != 5000 || m.FileName != "board.bin" || m.MinVersion != "1.9" || m.Revision != 1 ||
		!slices.Equal(m.Tags, []string{"a", "b"}) || m.Detected == nil || m.Detected.Version != "2.0.1" || m.Warnings != nil {
		t.Errorf("created %+v", m)
	}
	for _, err := range []error{
		func() error { _, err := e.Upload(ctx, u.ID); return err }(),
		func() error { _, err := e.CreateImage(ctx, u.ID, n); return err }(),
		e.DiscardUpload(ctx, u.ID),
	} {
		e.wants(err, orchestrator.ErrNotFound, u.ID)
	}
	if got := e.bytesOf(m.ID); !bytes.Equal(got, file) {
		t.Error("the image has other bytes than the upload")
	}

	// The same content again, and as an upload that is thrown away.
	u = e.stage("again.bin", file)
	if !slices.Equal(u.Duplicates, []string{m.ID}) {
		t.Errorf("duplicates %v, want %s", u.Duplicates, m.ID)
	}
	e.ok(e.DiscardUpload(ctx, u.ID))
	if got := e.bytesOf(m.ID); !bytes.Equal(got, file) {
		t.Error("discarding an upload took the bytes of an image")
	}
	u = e.stage("third.bin", file)
	e.ok(e.DeleteImage(ctx, m.ID))
	u = must[orchestrator.Upload](t)(e.Upload(ctx, u.ID))
	if u.Duplicates != nil {
		t.Errorf("duplicates %v of an image that is gone", u.Duplicates)
	}
	m = must[orchestrator.Image](t)(e.CreateImage(ctx, u.ID, newImage("2.0.1")))
	if got := e.bytesOf(m.ID); !bytes.Equal(got, file) || m.Warnings != nil {
		t.Errorf("deleting an image took the bytes of an upload, or left a warning: %q", m.Warnings)
	}
}

func (e *env) bytesOf(image string) []byte {
	e.t.Helper()
	_, b, err := e.OpenImage(ctx, image)
	e.ok(err)
	defer b.Close()
	got := make([]byte, b.Size())
	_, err = b.ReadAt(got, 0)
	e.ok(err)
	return got
}

func TestUploadsThatAreRefused(t *testing.T) {
	e := newEnv(t, func(o *orchestrator.Options) { o.MaxImageSize = 2 << 20 })
	defer e.checkClean()
	e.fleet(0)
	for name, c := range map[string]struct {
		n    orchestrator.NewUpload
		file io.Reader
		kind error
		says string
	}{
		"empty":        {orchestrator.NewUpload{}, bytes.NewReader(nil), orchestrator.ErrInvalid, "is empty"},
		"too large":    {orchestrator.NewUpload{}, bytes.NewReader(make([]byte, 2<<20+1)), orchestrator.ErrTooLarge, "2097152"},
		"bad name":     {orchestrator.NewUpload{FileName: "a\nb"}, nil, orchestrator.ErrInvalid, "file_name"},
		"bad format":   {orchestrator.NewUpload{Format: "elf"}, nil, orchestrator.ErrInvalid, "format"},
		"corrupt HEX":  {orchestrator.NewUpload{FileName: "x.hex"}, strings.NewReader(":0100000001FF\n"), orchestrator.ErrInvalid, "x.hex, line 1"},
		"broken off":   {orchestrator.NewUpload{}, &failing{io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF, ""},
		"HEX, unasked": {orchestrator.NewUpload{Format: "ihex"}, strings.NewReader("\x00"), orchestrator.ErrInvalid, ""},
	} {
		_, err := e.StageUpload(ctx, c.n, c.file)
		t.Run(name, func(t *testing.T) { (&env{t: t}).wants(err, c.kind, c.says) })
	}
	if r := e.checkClean(); r.Blobs != 0 {
		t.Errorf("%d blobs are left", r.Blobs)
	}

	u := e.stage("big.bin", content(1<<20+1, 0))
	_, err := e.CreateImage(ctx, u.ID, newImage("1"))
	e.wants(err, orchestrator.ErrTooLarge, `"pump" for image type "app" is 1048576 bytes`)
	for field, change := range map[string]func(*orchestrator.NewImage){
		"format":         func(n *orchestrator.NewImage) { n.Format = "ihex" },
		"image_type":     func(n *orchestrator.NewImage) { n.ImageType = "gone" },
		"device_types/1": func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"pump", "gone"} },
		"tags/0":         func(n *orchestrator.NewImage) { n.Tags = []string{"a b"} },
		"version":        func(n *orchestrator.NewImage) { n.Version = "" },
		"min_version":    func(n *orchestrator.NewImage) { n.MinVersion = "\x01" },
		"device_types":   func(n *orchestrator.NewImage) { n.DeviceTypes = nil },
		"description":    func(n *orchestrator.NewImage) { n.Description = strings.Repeat("x", 5000) },
	} {
		n := newImage("1")
		change(&n)
		_, err := e.CreateImage(ctx, u.ID, n)
		e.wantsField(err, field)
	}
	_, err = e.CreateImage(ctx, "up-none", newImage("1"))
	e.wants(err, orchestrator.ErrNotFound, "upload the file again")
	must[orchestrator.Upload](t)(e.Upload(ctx, u.ID)) // all this did not use it up
}

// wantsField fails the test unless err is about the field.
func (e *env) wantsField(err error, field string) {
	e.t.Helper()
	var f *orchestrator.FieldError
	if !errors.As(err, &f) || f.Field != field {
		e.t.Errorf("error %v, want one about field %s", err, field)
	}
}

// TestUploadsExpire: an upload that nobody used is gone a day later, with its
// bytes, but for those that an image has.
func TestUploadsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.fleet(0)
		used := e.image("1", content(100, 1))
		e.start()
		early := e.stage("a", content(100, 1))
		e.stage("b", content(100, 2))
		time.Sleep(orchestrator.UploadKept / 2)
		late := e.stage("c", content(100, 3))
		time.Sleep(orchestrator.UploadKept/2 - time.Second)
		synctest.Wait()
		must[orchestrator.Upload](t)(e.Upload(ctx, early.ID))
		time.Sleep(time.Second)
		_, err := e.Upload(ctx, early.ID) // whether or not it was swept already
		e.wants(err, orchestrator.ErrNotFound, "upload the file again")
		_, err = e.CreateImage(ctx, early.ID, newImage("2"))
		e.wants(err, orchestrator.ErrNotFound, "upload the file again")
		time.Sleep(time.Hour)
		synctest.Wait()
		if r := e.checkClean(); r.Blobs != 2 {
			t.Errorf("%d blobs, want those of the image and of the later upload", r.Blobs)
		}
		must[orchestrator.Upload](t)(e.Upload(ctx, late.ID))
		if got := e.bytesOf(used.ID); !bytes.Equal(got, content(100, 1)) {
			t.Error("the image lost its bytes")
		}
		e.stop()
		// What expires while nothing runs is swept at the start.
		time.Sleep(orchestrator.UploadKept)
		e.restart()
		e.start()
		synctest.Wait()
		if r := e.checkClean(); r.Blobs != 1 {
			t.Errorf("%d blobs after the start", r.Blobs)
		}
		e.stop()
	})
}

// TestUploadOfAnAheadClock: what was uploaded while the clock was ahead is not kept for longer, once it is right.
func TestUploadOfAnAheadClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead time.Duration
		e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return time.Now().Add(ahead) } })
		e.fleet(0)
		ahead = 365 * 24 * time.Hour
		far := e.stage("a", content(100, 1))
		ahead = 5 * time.Minute // as NTP may set it back
		near := e.stage("b", content(100, 2))
		ahead = 0
		must[orchestrator.Upload](t)(e.Upload(ctx, near.ID))
		_, err := e.Upload(ctx, far.ID)
		e.wants(err, orchestrator.ErrNotFound, "upload the file again")
		e.start()
		synctest.Wait()
		if r := e.checkClean(); r.Blobs != 1 {
			t.Errorf("%d blobs, want those of the upload that NTP has set the clock back from", r.Blobs)
		}
		must[orchestrator.Upload](t)(e.Upload(ctx, near.ID))
		e.stop()
	})
}

// TestUploadsSurviveARestart: the sweep of blobs leaves those of uploads.
// TestUploadsThatNobodyUsesMakeRoom: what one user uploads and leaves does not fill the
// disk, and takes nothing from anybody else.
func TestUploadsThatNobodyUsesMakeRoom(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	by := func(name string) context.Context {
		return orchestrator.WithActor(ctx, orchestrator.Actor{Name: name, Kind: orchestrator.ActorToken})
	}
	stage := func(name string, n int) orchestrator.Upload {
		t.Helper()
		return must[orchestrator.Upload](t)(e.StageUpload(by(name), orchestrator.NewUpload{Format: "binary"}, bytes.NewReader(fmt.Appendf(nil, "file %d", n))))
	}
	theirs := stage("bob", 0)
	var mine []orchestrator.Upload
	for i := range 40 {
		mine = append(mine, stage([]string{"ann", "ann/ci"}[i%2], i))
	}
	for i, u := range mine {
		if _, err := e.Upload(ctx, u.ID); (err == nil) != (i >= 24) {
			t.Errorf("upload %d of 40: %v", i, err)
		}
	}
	if u := must[orchestrator.Upload](t)(e.Upload(ctx, theirs.ID)); u.User != "bob" {
		t.Errorf("%+v", u)
	}
	n := 0
	e.ok(e.blobs.List(ctx, func(string, int64) bool { n++; return true }))
	if n != 17 {
		t.Errorf("%d files are on the disk, want 17", n)
	}
}

func TestUploadsSurviveARestart(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	u := e.stage("a", content(100, 1))
	e.start()
	e.stop()
	m := must[orchestrator.Image](t)(e.CreateImage(ctx, u.ID, newImage("1")))
	if !bytes.Equal(e.bytesOf(m.ID), content(100, 1)) {
		t.Error("the bytes are others")
	}
	e.checkClean()
}

// TestOneUploadBecomesOneImage lets several try at once.
func TestOneUploadBecomesOneImage(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	u := e.stage("a", content(100, 1))
	var wg sync.WaitGroup
	made := make(chan string, 8)
	for range 8 {
		wg.Go(func() {
			if m, err := e.CreateImage(ctx, u.ID, newImage("1")); err == nil {
				made <- m.ID
			} else if !errors.Is(err, orchestrator.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d images were made of one upload", len(made))
	}
	e.checkClean()
}

// TestUploadsComeAndGoTogether stages, discards, uses and deletes one content
// from several goroutines while the check runs: the bytes are there whenever a
// record is.
func TestUploadsComeAndGoTogether(t *testing.T) {
	e := newEnv(t)
	e.fleet(0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 8 {
				u, err := e.StageUpload(ctx, orchestrator.NewUpload{}, bytes.NewReader(content(3000, 1)))
				if err != nil {
					t.Error(err)
					return
				}
				if (g+i)%2 == 0 {
					err = e.DiscardUpload(ctx, u.ID)
				} else {
					var m orchestrator.Image
					var b orchestrator.Blob
					if m, err = e.CreateImage(ctx, u.ID, newImage("1")); err == nil {
						if _, b, err = e.OpenImage(ctx, m.ID); err == nil {
							err = errors.Join(b.Close(), e.DeleteImage(ctx, m.ID))
						}
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		e.checkClean()
	}
	wg.Wait()
	if r := e.checkClean(); r.Blobs != 0 {
		t.Errorf("%d blobs are left", r.Blobs)
	}
}

func TestCreationsHappenOnce(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(0)
	once := func(key string) context.Context {
		return orchestrator.WithIdempotency(ctx, orchestrator.IdempotencyKey{Key: key, Fingerprint: "f"})
	}
	wants := func(err error, kind, id string) {
		t.Helper()
		if r, ok := orchestrator.IsReplay(err); !ok || r.Kind != kind || r.ID != id {
			t.Errorf("error %v, want a replay of %s %q", err, kind, id)
		}
	}
	for range 2 {
		_, err := e.CreateImageType(once("1"), orchestrator.NewImageType{ID: "boot"})
		if err != nil {
			wants(err, orchestrator.KindImageType, "boot")
		}
		_, err = e.CreateDeviceType(once("2"), orchestrator.NewDeviceType{ID: "valve", Dialect: "ayla"})
		if err != nil {
			wants(err, orchestrator.KindDeviceType, "valve")
		}
	}
	m := must[orchestrator.Image](t)(e.UploadImage(once("3"), newImage("1"), bytes.NewReader(content(10, 1))))
	_, err := e.UploadImage(once("3"), newImage("1"), bytes.NewReader(content(10, 2)))
	wants(err, orchestrator.KindImage, m.ID)
	u, err := e.StageUpload(once("4"), orchestrator.NewUpload{}, bytes.NewReader(content(10, 3)))
	e.ok(err)
	_, err = e.StageUpload(once("4"), orchestrator.NewUpload{}, bytes.NewReader(content(10, 3)))
	wants(err, orchestrator.KindUpload, u.ID)
	m = must[orchestrator.Image](t)(e.CreateImage(once("5"), u.ID, newImage("1")))
	_, err = e.CreateImage(once("5"), u.ID, newImage("1"))
	wants(err, orchestrator.KindImage, m.ID)
	if r := e.checkClean(); r.Blobs != 2 {
		t.Errorf("%d blobs, want those of two images", r.Blobs)
	}
}

// peak is the most heap that was seen in use.
type peak struct {
	most uint64
	left int
}

// look samples once for every MiB.
func (p *peak) look(n int) {
	if p.left -= n; p.left > 0 {
		return
	}
	p.left = 1 << 20
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.most = max(p.most, m.HeapInuse+m.StackInuse)
}

// watchedBlobs samples while blobs are read.
type watchedBlobs struct {
	orchestrator.Blobs
	peak *peak
}

type watchedBlob struct {
	orchestrator.Blob
	peak *peak
}

func (w watchedBlobs) Open(ctx context.Context, sum string) (orchestrator.Blob, error) {
	b, err := w.Blobs.Open(ctx, sum)
	return watchedBlob{b, w.peak}, err
}

func (w watchedBlob) ReadAt(p []byte, off int64) (int, error) {
	w.peak.look(len(p))
	return w.Blob.ReadAt(p, off)
}

func (w watchedBlobs) Scratch(ctx context.Context) (orchestrator.ScratchFile, error) {
	return w.Blobs.(orchestrator.Scratch).Scratch(ctx)
}

const uploadSize = 64 << 20

// mcubootOf64MiB has the header of an MCUboot image, so that all of it is hashed
// again.
func mcubootOf64MiB() io.Reader {
	head := make([]byte, 32)
	binary.LittleEndian.PutUint32(head, 0x96f3b83d)
	binary.LittleEndian.PutUint16(head[8:], 32)
	binary.LittleEndian.PutUint32(head[12:], uploadSize-32-40)
	tail := append([]byte{0x07, 0x69, 40, 0, 0x10, 0, 32, 0}, make([]byte, 32)...)
	zeros := readerFunc(func(b []byte) (int, error) { return len(b), nil })
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros, uploadSize-32-40), bytes.NewReader(tail))
}

// hexOf64MiB is an Intel HEX file: segments of 64 KiB, whose text repeats.
func hexOf64MiB() io.Reader {
	segment := ihex(make([]byte, 1<<16))
	end := strings.Index(segment, ":00000001FF")
	var files []io.Reader
	for i := range uploadSize / end {
		sum := 6 + byte(i>>8) + byte(i)
		files = append(files, strings.NewReader(fmt.Sprintf(":02000004%04X%02X\n", i, -sum)), strings.NewReader(segment[:end]))
	}
	return io.MultiReader(append(files, strings.NewReader(":00000001FF\n"))...)
}

// TestUploadNeedsLittleMemory: files of 64 MiB pass through in a small part of
// that.
func TestUploadNeedsLittleMemory(t *testing.T) {
	const allowed = 20 << 20
	for name, c := range map[string]struct {
		file io.Reader
		size uint64
	}{
		"binary": {mcubootOf64MiB(), uploadSize}, "ihex": {hexOf64MiB(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peak{}
			e := newEnv(t, func(o *orchestrator.Options) { o.Blobs = watchedBlobs{o.Blobs, p} })
			e.fleet(0)
			debug.FreeOSMemory()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			u, err := e.StageUpload(ctx, orchestrator.NewUpload{}, readerFunc(func(b []byte) (int, error) {
				p.look(len(b))
				return c.file.Read(b)
			}))
			e.ok(err)
			if u.Format != name || c.size != 0 && (u.Size != c.size || u.Detected == nil || u.Detected.Size != c.size) {
				t.Errorf("staged %+v, %+v", u, u.Detected)
			}
			added := int64(p.most) - int64(before.HeapInuse+before.StackInuse)
			t.Logf("a file of %d MiB, %d bytes of image; the process had at most %.2f MiB more in use", uploadSize>>20, u.Size, float64(added)/(1<<20))
			if added > allowed {
				t.Errorf("%d bytes more in use, at most %d are allowed", added, int64(allowed))
			}
		})
	}
}
