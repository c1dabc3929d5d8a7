package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davit/bridge/recording"
)

// tampered writes a recording of the bridge's tests anew, with some bytes of one
// side changed, and returns its path.
func tampered(t *testing.T, name string, from recording.Side, old, new []byte) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../bridge/sniff/testdata", name+recording.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	r, err := recording.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, r.Header())
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		said := slices.Clone(e.Bytes)
		if !changed && e.From == from && bytes.Contains(said, old) {
			said, changed = bytes.Replace(said, old, new, 1), true
		}
		if err := w.Note(e.At, e.From, said); err != nil {
			t.Fatal(err)
		}
	}
	if !changed {
		t.Fatalf("% x is not in %s", old, name)
	}
	path := filepath.Join(t.TempDir(), "tampered"+recording.Suffix)
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReplayNamesTheDifference: exit code 1, and the place in words and in JSON.
func TestReplayNamesTheDifference(t *testing.T) {
	path := tampered(t, "afero", recording.FromMCU, []byte{0x16, 0x05, 128, 0, 0, 0}, []byte{0x16, 0x05, 64, 0, 0, 0})
	var out, complaints strings.Builder
	if code := run([]string{"replay", path}, streams{out: &out, err: &complaints}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"frames of the bridge agree; retries: 99 recorded, ", "\ndifference at frame ", ": the frames differ\n",
		"\n  recorded:     0.902292 UPDATE channel to MCU: OTA transfer at 128: ", "\n  replayed:     0.902292 UPDATE channel to MCU: OTA transfer at 64: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	out.Reset()
	if code := run([]string{"replay", path, "--json"}, streams{out: &out, err: &complaints}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	var r replayed
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	if d := r.Difference; r.Agrees || d == nil || d.Frame < 2 || d.Recorded == nil || d.Recorded.Seconds < 0.9 || d.Replayed == nil || r.Frames >= r.Total {
		t.Errorf("%s", &out)
	}
}

// TestReplayOfTheRecordings: exit code 0 for each recording of the bridge's tests.
func TestReplayOfTheRecordings(t *testing.T) {
	files, err := filepath.Glob("../../bridge/sniff/testdata/*" + recording.Suffix)
	if err != nil || len(files) < 4 {
		t.Fatalf("recordings %q, %v", files, err)
	}
	for _, path := range files {
		var out, complaints strings.Builder
		if code := run([]string{"replay", path}, streams{out: &out, err: &complaints}); code != exitOK || !strings.Contains(out.String(), "update succeeded at ") {
			t.Errorf("%s: exit code %d\n%s%s", path, code, &out, &complaints)
		}
	}
}
