package dialecttest

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"davit/bridge/dialect"
	"davit/bridge/recording"
)

// recorded is a dialect whose lines are recorded.
type recorded struct {
	dialect.Dialect
	folder *recording.Folder
}

// NewSession implements dialect.Dialect.
func (d recorded) NewSession(line io.ReadWriteCloser, cfg dialect.Config, e dialect.Events) dialect.Session {
	s := d.Line()
	return d.Dialect.NewSession(recording.Tap(line, d.folder.Start(recording.Header{
		Dialect: d.Name(), Device: "lab-1", Baud: s.Baud, Parity: string(s.Parity), RTSCTS: s.RTSCTS,
	})), cfg, e)
}

// Record is Run, and returns the recording of the session.
func Record(t *testing.T, s Setup, f func(r *Rig)) []byte {
	t.Helper()
	dir := t.TempDir()
	folder, err := recording.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Dialect = recorded{s.Dialect, folder}
	Run(t, s, f) // ends when all goroutines have, the writer too
	files, err := filepath.Glob(filepath.Join(dir, "*"+recording.Suffix))
	if err != nil || len(files) != 1 {
		t.Fatalf("recordings %q, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}
