package bridge

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/bridge/recording"
	"davit/internal/sim"
)

// TestRecording: an update is recorded whole, both ways, and ends as it does
// without a recording.
func TestRecording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	inBareWorld(t, 3000, func(w *world) {
		w.cfg.RecordDir = dir
		w.lines["lab-1"] = sim.NewLine(sim.LineConfig{})
		w.cfg.Ports = append(w.cfg.Ports, PortConfig{Device: "lab-1", Path: "lab-1", Dialect: "ayla"})
		w.power("lab-1", sim.MCUConfig{})
	}, func(w *world) {
		w.service.offer("lab-1", w.theOffer())
		w.wantSuccess("lab-1")
		w.stop()
		toMCU, fromMCU := w.lines["lab-1"].Stats()
		w.stop = func() {}
		h, said := recorded(t, dir)
		if h.Device != "lab-1" || h.Dialect != "ayla" || h.Baud != 115200 || h.Parity != "odd" || !h.RTSCTS {
			t.Errorf("head %+v", h)
		}
		if said[recording.FromModule] != toMCU.Written || said[recording.FromMCU] != fromMCU.Delivered {
			t.Errorf("recorded %d and %d bytes, the line carried %d and %d", said[recording.FromModule], said[recording.FromMCU], toMCU.Written, fromMCU.Delivered)
		}
	})
}

// recorded reads the one recording in dir: its head, and how many bytes each side said.
func recorded(t *testing.T, dir string) (recording.Header, map[recording.Side]int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "lab-1-*"+recording.Suffix))
	if err != nil || len(files) != 1 {
		t.Fatalf("recordings %q, %v", files, err)
	}
	file, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := recording.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	said := map[recording.Side]int64{}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header(), said
		}
		if err != nil {
			t.Fatal(err)
		}
		said[e.From] += int64(len(e.Bytes))
	}
}

// TestRecordingFails: a folder that cannot be used is an error at the start; one that
// vanishes later costs the recording and not the update.
func TestRecordingFails(t *testing.T) {
	dir := t.TempDir()
	vanishing := filepath.Join(dir, "recordings")
	inWorld(t, sim.MCUConfig{}, 3000, []string{"lab-1"}, func(w *world) {
		w.stop()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.cfg.RecordDir, w.cfg.DataDir = filepath.Join(dir, "file"), w.dir
		if _, err := New(w.cfg); err == nil || !strings.Contains(err.Error(), "the folder for recordings cannot be used") {
			t.Fatalf("New: %v", err)
		}
		w.cfg.RecordDir = vanishing
		b, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		open := w.cfg.OpenPort
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			if err := os.RemoveAll(vanishing); err != nil {
				t.Error(err)
			}
			return open(p)
		}
		w.start()
		w.service.offer("lab-1", w.theOffer())
		w.wantSuccess("lab-1")
		if _, err := os.Stat(vanishing); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is back: %v", err)
		}
	})
}
