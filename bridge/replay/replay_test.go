package replay_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/recording"
	"davit/bridge/replay"
	"davit/bridge/sniff"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dialects() map[string]replay.Dialect {
	return map[string]replay.Dialect{ayla.Name: ayla.Dialect{}, afero.Name: afero.Dialect{}}
}

// recordings are those of the bridge's tests.
func recordings(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../sniff/testdata/*" + recording.Suffix)
	if err != nil || len(files) < 4 {
		t.Fatalf("recordings %q, %v", files, err)
	}
	all := map[string][]byte{}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), recording.Suffix)] = b
	}
	return all
}

func run(b []byte, o replay.Options) (replay.Report, error) {
	return replay.Run(bytes.NewReader(b), dialects(), o)
}

// transcript replays b and returns what passed on the line, and the result.
func transcript(t *testing.T, b []byte, strict bool) (string, replay.Report) {
	t.Helper()
	var s strings.Builder
	r, err := run(b, replay.Options{Strict: strict, Trace: func(p sniff.Packet) { fmt.Fprintf(&s, "%v %x\n", p, p.Content) }})
	if err != nil {
		t.Fatal(err)
	}
	return s.String(), r
}

// TestRecordingsAgree: every recording of the bridge's tests comes out the same,
// each time.
func TestRecordingsAgree(t *testing.T) {
	for name, b := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			first, r := transcript(t, b, false)
			second, _ := transcript(t, b, false)
			if first != second {
				t.Errorf("the second replay is another:\n%s\nand\n%s", first, second)
			}
			if d := r.Difference; d != nil {
				t.Fatalf("%+v: recorded %+v, replayed %+v", d, d.Recorded, d.Replayed)
			}
			if !r.Agrees() || r.Frames != r.Total || r.Total < 16 {
				t.Errorf("%+v", r)
			}
			if len(r.Ends) != 1 || r.Ends[0].State != schemas.StateSucceeded {
				t.Errorf("ends %+v", r.Ends)
			}
			if faulty := strings.Contains(name, "faults"); name != "afero" && faulty != (r.RecordedRetries > 0) {
				t.Errorf("%d retries", r.RecordedRetries)
			}
		})
	}
}

// TestCleanRecordingsAgreeStrictly: without faults on the line no timer has a
// say, and all comes out the same.
func TestCleanRecordingsAgreeStrictly(t *testing.T) {
	for _, name := range []string{"ayla", "afero"} {
		if _, r := transcript(t, recordings(t)[name], true); !r.Agrees() || r.Retries != r.RecordedRetries {
			t.Errorf("%s: %+v, %+v", name, r, r.Difference)
		}
	}
}

// piece is an entry of a recording that a test changes.
type piece struct {
	at    time.Duration
	from  recording.Side
	bytes []byte
}

// taken is a recording in pieces.
func taken(t testing.TB, b []byte) (recording.Header, []piece) {
	t.Helper()
	r, err := recording.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var all []piece
	for {
		e, err := r.Next()
		if err != nil {
			return r.Header(), all
		}
		all = append(all, piece{e.At, e.From, slices.Clone(e.Bytes)})
	}
}

// put puts a recording together.
func put(t testing.TB, h recording.Header, all []piece) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := recording.NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if err := w.Note(p.at, p.from, p.bytes); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
