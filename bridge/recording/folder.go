package recording

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/logevent"
)

// MaxFile is how long one recording may become in bytes; then it ends.
const MaxFile = 64 << 20

// Suffix is how the names of recordings end.
const Suffix = ".davitrec"

// farewell is how long Wait waits for the disk.
const farewell = 2 * time.Second

// Folder holds recordings. A nil Folder records nothing.
type Folder struct {
	dir     string
	log     *slog.Logger
	limit   int64
	create  func(path string) (io.WriteCloser, error)
	broken  atomic.Bool // the disk failed: nothing is recorded any more
	writers sync.WaitGroup
}

// Open makes the folder if it is not there, and proves that files can be made in
// it. The error says what to do. log receives at most one warning for a disk that
// fails, which ends all recording, and one for each recording that has become
// MaxFile long.
func Open(dir string, log *slog.Logger) (*Folder, error) {
	if err := prove(dir); err != nil {
		return nil, fmt.Errorf("the folder for recordings cannot be used: %w; name one that this user may write to", err)
	}
	return &Folder{dir: dir, log: log, limit: MaxFile, create: create}, nil
}

func prove(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".davit-proof-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// create opens a file that was not there. Only its owner may read it: a recording
// has all that passed, the firmware included.
func create(path string) (io.WriteCloser, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Start begins a recording of what passes from now on; it sets h.Start. The file is
// made when the first byte passes. After a failure of the disk it returns
// nil, as a nil Folder does.
func (f *Folder) Start(h Header) *Recorder {
	if f == nil || f.broken.Load() {
		return nil
	}
	began := time.Now()
	h.Start = began.UTC().Round(0) // the wall clock alone; Recorder counts by the other
	head, err := appendHead(nil, h)
	if err != nil {
		f.log.Warn("this port is not recorded", "event", logevent.RecordingFailed, "device", h.Device, "error", err)
		return nil
	}
	r := newRecorder(began, head, f.limit)
	f.writers.Go(func() { f.write(r, h) })
	return r
}

// write is the goroutine of one recording.
func (f *Folder) write(r *Recorder, h Header) {
	var path string
	err := r.write(func() (file io.WriteCloser, err error) {
		file, path, err = f.file(h)
		return guarded{file, &f.broken}, err
	})
	switch {
	case err != nil:
		if !f.broken.Swap(true) {
			f.log.Warn("recording has ended for all ports, updates go on; make room on the disk and start the bridge again to record", "event", logevent.RecordingEnded, "device", h.Device, "error", err)
		}
	case r.filled():
		f.log.Warn("a recording is as long as one may become and has ended; the next opening of the port begins another", "event", logevent.RecordingFull, "device", h.Device, "path", path, "bytes", f.limit)
	}
}

// errBroken ends a recording after another one has met a failure of the disk.
var errBroken = errors.New("the disk has failed before")

// guarded is a file that takes nothing once the disk has failed.
type guarded struct {
	io.WriteCloser
	broken *atomic.Bool
}

// Write implements io.Writer.
func (g guarded) Write(b []byte) (int, error) {
	if g.broken.Load() {
		return 0, errBroken
	}
	return g.WriteCloser.Write(b)
}

// file makes the file of a recording. A clock that was set back may find names
// taken.
func (f *Folder) file(h Header) (io.WriteCloser, string, error) {
	name := filepath.Join(f.dir, h.Device+"-"+h.Start.Format("20060102T150405.000Z"))
	path := name + Suffix
	for n := 2; ; n++ {
		file, err := f.create(path)
		if !errors.Is(err, fs.ErrExist) || n > 9 {
			return file, path, err
		}
		path = fmt.Sprintf("%s-%d%s", name, n, Suffix)
	}
}

// Wait waits until everything that was closed is written, two seconds at most: a
// disk that hangs does not hold up the bridge's end.
func (f *Folder) Wait() {
	if f == nil {
		return
	}
	written := make(chan struct{})
	go func() {
		f.writers.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(farewell):
		f.log.Warn("the disk does not take the end of the recordings", "event", logevent.RecordingCut)
	}
}
