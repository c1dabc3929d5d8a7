package recording

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a file that a test holds back, fills or looks into.
type disk struct {
	mu     sync.Mutex
	bytes  bytes.Buffer
	room   int           // what is taken before it is full; 0 for no end
	hold   chan struct{} // closed: writes go on
	closed bool
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(b []byte) (int, error) {
	if d.hold != nil {
		<-d.hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room > 0 && d.bytes.Len()+len(b) > d.room {
		n, _ := d.bytes.Write(b[:d.room-d.bytes.Len()])
		return n, errFull
	}
	return d.bytes.Write(b)
}

func (d *disk) Close() error { d.closed = true; return nil }

// written is what is on the disk now.
func (d *disk) written() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.bytes.Bytes())
}

// onto returns a folder whose files are all d, and what it logs.
func onto(d *disk) (*Folder, *bytes.Buffer) {
	log := &bytes.Buffer{}
	return &Folder{
		log: slog.New(slog.NewTextHandler(log, nil)), limit: MaxFile, create: func(string) (io.WriteCloser, error) { return d, nil },
	}, log
}

func TestRecorderWritesWhenTheLineIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		f, log := onto(d)
		r := f.Start(header())
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(d.written()); n > 0 {
			t.Fatalf("%d bytes before anything passed", n)
		}
		r.Note(FromMCU, []byte("hello"))
		r.Note(FromModule, bytes.Repeat([]byte{1}, MaxPiece+1))
		time.Sleep(settle)
		synctest.Wait()
		got, err := all(d.written()) // as a bridge that is killed now leaves it
		if !errors.Is(err, io.EOF) || len(got) != 3 || got[0].At != time.Second || string(got[0].Bytes) != "hello" || len(got[2].Bytes) != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		r.Note(FromMCU, []byte("bye"))
		r.Close()
		r.Close()
		r.Note(FromMCU, []byte("too late"))
		f.Wait()
		if got, err = all(d.written()); !errors.Is(err, io.EOF) || len(got) != 4 || !d.closed {
			t.Errorf("at the end: %d entries, %v; closed: %v", len(got), err, d.closed)
		}
		if log.Len() > 0 {
			t.Errorf("logged %s", log)
		}
	})
}

// TestSlowDisk: what the disk does not take is counted, and nobody waits for it.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{hold: make(chan struct{})}
		f, _ := onto(d)
		r := f.Start(header())
		began, sent, piece := time.Now(), 0, bytes.Repeat([]byte{7}, 1000)
		for range 300 {
			r.Note(FromMCU, piece)
			sent += len(piece)
			synctest.Wait()
		}
		if time.Since(began) > 0 {
			t.Errorf("noting took %v", time.Since(began))
		}
		close(d.hold)
		time.Sleep(time.Second)
		r.Note(FromMCU, piece)
		sent += len(piece)
		r.Close()
		f.Wait()
		entries, err := all(d.written())
		kept, lost := 0, 0
		for _, e := range entries {
			kept += len(e.Bytes)
			lost += int(e.Lost)
		}
		if !errors.Is(err, io.EOF) || lost == 0 || kept < bufferSize || kept+lost != sent {
			t.Errorf("kept %d, lost %d of %d; %v", kept, lost, sent, err)
		}
		if last := entries[len(entries)-1]; len(last.Bytes) != len(piece) {
			t.Error("it does not go on behind the loss")
		}
	})
}

// TestFullDisk: one warning, and nothing is recorded any more.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{room: 1000}
		f, log := onto(d)
		r, other := f.Start(header()), f.Start(header())
		for range 10 {
			r.Note(FromMCU, make([]byte, 500))
			other.Note(FromMCU, make([]byte, 500))
			time.Sleep(time.Second)
		}
		if f.Start(header()) != nil {
			t.Error("another recording begins on a full disk")
		}
		r.Close()
		other.Close()
		f.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "no space left") {
			t.Errorf("%d lines logged\n%s", n, log)
		}
	})
}

func TestRecordingEndsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		f, log := onto(d)
		f.limit = 2000
		r := f.Start(header())
		for range 10 {
			r.Note(FromMCU, make([]byte, 500))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		got, err := all(d.written())
		if !errors.Is(err, io.EOF) || len(got) != 3 || !d.closed {
			t.Errorf("%d entries, %v, closed: %v", len(got), err, d.closed)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "as long as one may become") {
			t.Errorf("%d lines logged\n%s", n, log)
		}
		r.Close()
		next := f.Start(header())
		if next == nil {
			t.Fatal("the next opening is not recorded")
		}
		next.Close()
		f.Wait()
	})
}

// TestHangingDisk: the end of the bridge does not wait for ever.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{hold: make(chan struct{})}
		f, log := onto(d)
		r := f.Start(header())
		r.Note(FromMCU, []byte{1})
		r.Close()
		began := time.Now()
		f.Wait()
		if took := time.Since(began); took != farewell || !strings.Contains(log.String(), "does not take the end") {
			t.Errorf("waited %v, logged %s", took, log)
		}
		close(d.hold)
	})
}

func TestNoteDoesNotAllocate(t *testing.T) {
	d := &disk{}
	f, _ := onto(d)
	f.create = func(string) (io.WriteCloser, error) { return discard{}, nil }
	r := f.Start(header())
	b := make([]byte, 200)
	if n := testing.AllocsPerRun(1000, func() { r.Note(FromMCU, b) }); n > 0 {
		t.Errorf("%v allocations for each note", n)
	}
	r.Close()
	f.Wait()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// TestFolder: files get the names that the documents say, and do not overwrite one
// another.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	f, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // the clock stands still: two openings in a millisecond
		for range 2 {
			r := f.Start(header())
			r.Note(FromModule, []byte{1})
			r.Close()
		}
		f.Start(header()).Close()
		f.Wait()
	})
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
		b, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := all(b); len(got) != 1 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d entries, %v", file.Name(), len(got), err)
		}
	}
	if got, want := strings.Join(names, " "), "lab-1-20000101T000000.000Z-2.davitrec lab-1-20000101T000000.000Z.davitrec"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "name one that this user may write to") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// port is one that takes half of what is written and then fails.
type port struct{ in io.Reader }

func (p port) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p port) Write(b []byte) (int, error) { return len(b) / 2, io.ErrShortWrite }
func (p port) Close() error                { return errFull }

func TestTapChangesNothing(t *testing.T) {
	p := port{strings.NewReader("abc")}
	if Tap(p, (*Folder)(nil).Start(header())) != io.ReadWriteCloser(p) {
		t.Error("a tap without a recording")
	}
	(*Folder)(nil).Wait()
	d := &disk{}
	f, _ := onto(d)
	line := Tap(p, f.Start(header()))
	if b, err := io.ReadAll(line); string(b) != "abc" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if n, err := line.Write([]byte("defg")); n != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := line.Close(); !errors.Is(err, errFull) {
		t.Errorf("closed: %v", err)
	}
	f.Wait()
	got, err := all(d.written())
	if len(got) != 2 || string(got[0].Bytes) != "abc" || got[0].From != FromMCU || string(got[1].Bytes) != "defg" || got[1].From != FromModule {
		t.Errorf("recorded %+v, %v", got, err)
	}
}

// flushing is a port that notes how long it may flush.
type flushing struct {
	io.ReadWriteCloser
	within time.Duration
}

func (f *flushing) Flush(within time.Duration) { f.within = within }

// A recorded port is flushed like any other; one that cannot be is none the worse.
func TestTapFlushes(t *testing.T) {
	type flusher interface{ Flush(time.Duration) }
	port := &flushing{}
	rec := &Recorder{}
	Tap(port, rec).(flusher).Flush(3 * time.Second)
	if port.within != 3*time.Second {
		t.Errorf("the port may flush for %v", port.within)
	}
	Tap(struct{ io.ReadWriteCloser }{}, rec).(flusher).Flush(time.Second)
}
