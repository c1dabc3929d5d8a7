package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
	"davit/schemas/tlv"
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

// find is the first entry of a recording with a packet that says text.
func find(t *testing.T, h recording.Header, all []piece, from recording.Side, text string) int {
	t.Helper()
	line, err := sniff.New(h.Dialect, h.Baud)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i, p := range all {
		line.Decode(p.at, p.from, p.bytes, func(q sniff.Packet) {
			if at < 0 && q.From == from && strings.Contains(q.Text, text) {
				at = i
			}
		})
	}
	if at < 0 {
		t.Fatalf("%v never says %q", from, text)
	}
	return at
}

// frame is a data frame of the ayla dialect.
func frame(t *testing.T, seq byte, packet []byte, err error) []byte {
	t.Helper()
	b, e := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet})
	if err != nil || e != nil {
		t.Fatal(err, e)
	}
	return b
}

// TestDifferencesAreFound: what was changed in a recording is told of, with the
// place.
func TestDifferencesAreFound(t *testing.T) {
	type changed = func(t *testing.T, h *recording.Header, all []piece) []piece
	bridge, mcu := recording.FromModule, recording.FromMCU
	for _, c := range []struct {
		name, recording string
		change          changed
		recorded        string // what the difference says that was recorded, "" for nothing
		replayed        string
		why             string
	}{
		{
			"the MCU's verdict is another", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				all[find(t, *h, all, mcu, "MCU_OTA_STAT")].bytes = frame(t, 5, tlv.AppendStat(nil, 20, tlv.CodeChecksum), nil)
				return all
			},
			"MCU_OTA_BOOT", "", "does not send it",
		},
		{
			"an answer of the MCU is missing", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				i := find(t, *h, all, mcu, "ack 5")
				return slices.Delete(all, i, i+1)
			},
			"90 bytes at 510", "", "does not send it",
		},
		{
			"a piece is for another place", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				b, err := tlv.AppendLoad(nil, 6, 256, make([]byte, 255))
				all[find(t, *h, all, bridge, "at 255")].bytes = frame(t, 5, b, err)
				return all
			},
			"255 bytes at 256", "255 bytes at 255", "the frames differ",
		},
		{
			"a piece that was sent before is another", "ayla-faults",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				b, err := tlv.AppendLoad(nil, 16, 128, make([]byte, 128))
				all[find(t, *h, all, bridge, "data 15: MCU_OTA_LOAD")].bytes = frame(t, 15, b, err)
				return all
			},
			"128 bytes at 128", "128 bytes at 128", "the frames differ in byte",
		},
		{
			"a frame of the bridge is missing", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				i := find(t, *h, all, bridge, "features")
				return slices.Delete(all, i, i+1)
			},
			"ack 2", "features", "the frames differ",
		},
		{
			"a frame of the bridge comes before its cause", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				i, j := find(t, *h, all, bridge, "MCU_OTA_LOAD"), find(t, *h, all, mcu, "go ahead")
				load := all[i]
				load.at = all[j].at - time.Millisecond
				return slices.Insert(slices.Delete(all, i, i+1), j, load)
			},
			"255 bytes at 0", "", "does not send it",
		},
		{
			"the MCU says something much later than the bridge answers", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				i, j := find(t, *h, all, mcu, "ack 4"), find(t, *h, all, bridge, "at 255")
				extra := piece{all[i].at + 500*time.Millisecond, mcu, frame(t, 5, tlv.AppendListenEnable(nil, 99), nil)}
				for k := j; k < len(all); k++ {
					all[k].at += time.Second
				}
				return slices.Insert(all, j, extra)
			},
			"at 255", "at 255", "before it has heard what the MCU said",
		},
		{
			"a byte of the image is another", "afero",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				b := all[find(t, *h, all, bridge, "OTA transfer at 64")].bytes
				b[len(b)-10] ^= 1
				return all
			},
			"Sync Response (0, 21)", "Sync Response (0, 13)", "the frames differ", // APPLY and FAIL
		},
		{
			"the MCU asks for another place", "afero",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				i := find(t, *h, all, mcu, "next offset 128")
				all[i].bytes = bytes.Replace(all[i].bytes, []byte{128, 0, 0, 0}, []byte{64, 0, 0, 0}, 1)
				return all
			},
			"OTA transfer at 128", "OTA transfer at 64", "the frames differ",
		},
		{
			"the head names the other dialect", "ayla",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				h.Dialect, h.Baud = afero.Name, 9600
				return all
			},
			"mean nothing", "ready", "the frames differ",
		},
		{
			"the other head names the other dialect", "afero",
			func(t *testing.T, h *recording.Header, all []piece) []piece {
				h.Dialect = ayla.Name
				return all
			},
			"", "", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, all := taken(t, recordings(t)[c.recording])
			all = c.change(t, &h, all)
			r, err := run(put(t, h, all), replay.Options{})
			if c.why == "" && err != nil {
				return // nothing in it that could be a frame
			}
			if err != nil {
				t.Fatal(err)
			}
			d := r.Difference
			if d == nil || r.Agrees() {
				t.Fatalf("no difference: %+v", r)
			}
			t.Logf("frame %d: %s: %+v, %+v", d.Frame, d.Why, d.Recorded, d.Replayed)
			if !strings.Contains(d.Why, c.why) || d.Frame < 1 || r.Frames >= r.Total {
				t.Errorf("frame %d: %s; %d of %d agree", d.Frame, d.Why, r.Frames, r.Total)
			}
			for _, s := range []struct {
				said *replay.Said
				want string
			}{{d.Recorded, c.recorded}, {d.Replayed, c.replayed}} {
				if s.want != "" && (s.said == nil || !strings.Contains(s.said.Text, s.want)) {
					t.Errorf("said is %+v, want %q", s.said, s.want)
				}
			}
		})
	}
}

// TestRecordingsThatBreakOff: what is there is replayed, and what is not is no
// agreement.
func TestRecordingsThatBreakOff(t *testing.T) {
	all := recordings(t)
	whole := all["ayla"]
	for name, b := range map[string][]byte{
		"one byte short":    whole[:len(whole)-1],
		"in the middle":     whole[:len(whole)/2],
		"a gap at the end":  lose(whole),
		"afero, cut off":    all["afero"][:len(all["afero"])-100],
		"faults, cut off":   all["ayla-faults"][:3000],
		"noise, cut off":    all["afero-faults"][:3000],
		"noise, with a gap": lose(all["afero-faults"]),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := run(b, replay.Options{})
			if err != nil || r.Difference != nil || r.Agrees() || r.Incomplete == "" || r.Frames != r.Total || r.Total < 3 {
				t.Errorf("%+v, %+v, %v", r, r.Difference, err)
			}
		})
	}
}

// lose appends an entry about bytes that are missing.
func lose(b []byte) []byte {
	at := len(b)
	b = append(slices.Clone(b), 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

// TestCuts: wherever a recording is cut off, the replay ends with a result or
// a sentence, and never with a difference.
func TestCuts(t *testing.T) {
	b := recordings(t)["ayla"]
	for n := 0; n < len(b); n += 5 {
		r, err := run(b[:n], replay.Options{})
		switch {
		case err != nil && err.Error() == "", err == nil && r.Difference != nil:
			t.Errorf("cut off at %d: %+v, %v", n, r.Difference, err)
		}
	}
}

// TestBadRecordings: what cannot be replayed is told of in a sentence.
func TestBadRecordings(t *testing.T) {
	whole := recordings(t)["ayla"]
	h, all := taken(t, whole)
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	foreign, still, slow, late := h, h, h, slices.Clone(all)
	foreign.Dialect, still.Baud, slow.Baud = "klingon", 0, -5
	late[len(late)-1].at = 1 << 62
	onlyMCU := slices.DeleteFunc(slices.Clone(all), func(p piece) bool { return p.from == recording.FromModule })
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "cut off in its head, after 0 bytes"},
		{"one byte of the head is missing", put(t, h, nil)[:len(put(t, h, nil))-1], "cut off in its head"},
		{"no head", whole[bytes.Index(whole, []byte("}")):], recording.ErrForeign.Error()},
		{"another file", []byte("#!/bin/sh\n"), recording.ErrForeign.Error()},
		{"nothing but the head", put(t, h, nil), "nothing passed on the line"},
		{"cut off within the first entry", whole[:len(put(t, h, nil))+5], "the bridge sent nothing"},
		{"damaged", damaged, recording.ErrDamaged.Error()},
		{"no such dialect", put(t, foreign, all), `"klingon", which cannot be replayed`},
		{"no speed", put(t, still, all), "0 bit/s"},
		{"negative speed", put(t, slow, all), "-5 bit/s"},
		{"a time far off", put(t, h, late), "not plausible"},
		{"one side only", put(t, h, onlyMCU), "both sides of the line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := run(c.b, replay.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
