package live_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/recording"
	"davit/bridge/serialport"
	"davit/bridge/sniff"
	"davit/bridge/sniff/live"
	"davit/internal/sim"
	"davit/schemas/tlv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var line = serialport.Settings{Baud: 115200, Parity: serialport.ParityOdd}

// ear is who is told.
type ear struct {
	said chan string
	line live.Config
}

func newEar(taps ...live.Tap) *ear {
	e := &ear{said: make(chan string, 1000)}
	e.line = live.Config{
		Taps: taps, Dialect: sniff.Ayla, Line: line, Start: time.Now(),
		Packet: func(p sniff.Packet) error { e.said <- p.From.String() + ": " + p.Text; return nil },
		Notice: func(text string) { e.said <- "notice: " + text },
	}
	return e
}

// waitFor waits until something is said.
func (e *ear) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var all []string
	for {
		select {
		case s := <-e.said:
			if all = append(all, s); strings.Contains(s, text) {
				return
			}
		case <-deadline:
			t.Fatalf("nobody says %q, but %q", text, all)
		}
	}
}

// TestPseudoTerminal: an MCU is heard on a real pseudo-terminal, which is pulled
// and plugged in under another path.
func TestPseudoTerminal(t *testing.T) {
	link := filepath.Join(t.TempDir(), "port")
	pty, err := sim.OpenPTYAt(sim.LineConfig{}, link)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	power := func() (off func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- sim.NewMCU(sim.MCUConfig{Version: "1.2.3"}).Run(ctx, pty.MCU()) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	off := power()

	var kept bytes.Buffer
	e := newEar(live.Tap{Port: link, From: recording.FromMCU})
	e.line.Record, err = recording.NewWriter(&kept, recording.Header{Dialect: sniff.Ayla, Device: "sniff", Baud: line.Baud, Parity: string(line.Parity), Start: e.line.Start})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- live.Run(ctx, e.line) }()
	e.waitFor(t, "notice: listening to the MCU at "+link)
	e.waitFor(t, `MCU: data 0: SEND_TLV (request 16): "oem_host_version" = "1.2.3"`)
	off()
	pty.Unplug()
	e.waitFor(t, "waiting for it")
	if err := pty.Replug(); err != nil {
		t.Fatal(err)
	}
	e.waitFor(t, "notice: listening to the MCU at "+link)
	off = power()
	e.waitFor(t, "1.2.3")
	off()
	toMCU, _ := pty.Line().Stats()
	if toMCU.Written != 0 {
		t.Errorf("%d bytes were written to the MCU", toMCU.Written)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r, err := recording.NewReader(bufio.NewReader(&kept))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := sniff.Recording(r, func(p sniff.Packet) {
		if strings.Contains(p.Text, "1.2.3") {
			n++
		}
	}); err != nil || n < 2 {
		t.Errorf("the recording has the version %d times, %v", n, err)
	}
}

// ports are simulated ports by name.
type ports map[string]func() (io.ReadCloser, error)

func (p ports) open(name string, _ serialport.Settings) (io.ReadCloser, error) { return p[name]() }

func always(r io.ReadCloser) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return r, nil }
}

func frame(t *testing.T, seq byte, shared bool, packet []byte) []byte {
	t.Helper()
	add := tlv.AppendFrame
	if shared {
		add = tlv.AppendFrameShared
	}
	b, err := add(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBothDirections: two adapters hear one line. A packet is told of as soon as it
// is whole, and a frame that shares its flag with the one before, after a pause, is
// one.
func TestBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fromMCU, mcu := io.Pipe()
		toMCU, module := io.Pipe()
		e := newEar(live.Tap{Port: "rx", From: recording.FromMCU}, live.Tap{Port: "tx", From: recording.FromModule})
		e.line.Open = ports{"rx": always(fromMCU), "tx": always(toMCU)}.open
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- live.Run(ctx, e.line) }()
		say := func(w io.Writer, b []byte, want string) {
			t.Helper()
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := strings.Join(drain(e.said), "; "); got != want {
				t.Errorf("said is %q, want %q", got, want)
			}
		}
		synctest.Wait()
		drain(e.said)
		offer := tlv.AppendGo(nil, 1)
		whole := frame(t, 7, false, offer)
		say(mcu, whole[:5], "")
		say(module, frame(t, 3, false, tlv.AppendPing(nil, 2)), "module: data 3: ping (request 2)")
		time.Sleep(time.Second)
		say(mcu, whole[5:], "MCU: data 7: MCU_OTA (request 1): go ahead")
		time.Sleep(time.Minute)
		say(mcu, frame(t, 8, true, offer), "MCU: data 8: MCU_OTA (request 1): go ahead")
		say(mcu, []byte("\x1b[2Jhello\x7e"), "MCU: bad frame: checksum does not agree: 1b 5b 32 4a 68 65 6c 6c 6f 7e")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func drain(said chan string) (all []string) {
	for {
		select {
		case s := <-said:
			all = append(all, s)
		default:
			return all
		}
	}
}

// TestPortsThatAreNotThere: what is missing is waited for, unless that is not
// wanted; what waiting does not mend is an error, but not for a port that was there.
func TestPortsThatAreNotThere(t *testing.T) {
	missing := fmt.Errorf("open x: %w", serialport.ErrMissing)
	denied := fmt.Errorf("open x: %w", serialport.ErrPermission)
	for _, c := range []struct {
		name  string
		opens []error // nil: it opens, and is gone at once
		once  bool
		want  error
		after time.Duration
	}{
		{"missing", []error{missing, missing, missing, denied}, false, denied, 250*time.Millisecond + 500*time.Millisecond + time.Second},
		{"missing once", []error{missing}, true, missing, 0},
		{"denied", []error{denied}, false, denied, 0},
		{"gone once", []error{nil}, true, io.EOF, 0},
		{"gone, and denied for a while", []error{nil, denied, denied, missing, nil, errEnough}, false, errEnough, 250*time.Millisecond + 500*time.Millisecond + time.Second + 2*time.Second + 250*time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				e := newEar(live.Tap{Port: "x", From: recording.FromMCU})
				e.line.Once = c.once
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e.line.Open = func(string, serialport.Settings) (io.ReadCloser, error) {
					err := c.opens[n]
					if n++; err == nil {
						return io.NopCloser(strings.NewReader("")), nil
					}
					if errors.Is(err, errEnough) {
						cancel()
					}
					return nil, err
				}
				began := time.Now()
				err := live.Run(ctx, e.line)
				if want := c.want; want == errEnough && err != nil || want != errEnough && !errors.Is(err, want) {
					t.Errorf("ended with %v, want %v", err, want)
				}
				if took := time.Since(began); took != c.after || n != len(c.opens) {
					t.Errorf("ended after %v and %d openings, want %v and %d", took, n, c.after, len(c.opens))
				}
				if said := drain(e.said); len(c.opens) > 1 && !strings.Contains(strings.Join(said, "\n"), "waiting for it") {
					t.Errorf("said is %q", said)
				}
			})
		})
	}
}

var errEnough = errors.New("enough")

// TestErrorsEndIt: who cannot be told, or a disk that fails, ends the listening.
func TestErrorsEndIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(l *live.Config)
	}{
		{"output", func(l *live.Config) { l.Packet = func(sniff.Packet) error { return errEnough } }},
		{"disk", func(l *live.Config) {
			w, err := recording.NewWriter(io.Discard, recording.Header{Dialect: sniff.Ayla, Device: "sniff", Parity: "odd"})
			if err != nil {
				t.Fatal(err)
			}
			l.Record = w
			*w = *full(t)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				e := newEar(live.Tap{Port: "x", From: recording.FromMCU})
				e.line.Open = ports{"x": always(r)}.open
				c.spoil(&e.line)
				ended := make(chan error, 1)
				go func() { ended <- live.Run(t.Context(), e.line) }()
				if _, err := w.Write(frame(t, 0, false, tlv.AppendGo(nil, 1))); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; !errors.Is(err, errEnough) {
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}

// full is a recording on a disk that takes no more than the head.
func full(t *testing.T) *recording.Writer {
	t.Helper()
	w, err := recording.NewWriter(&fullDisk{}, recording.Header{Dialect: sniff.Ayla, Device: "sniff", Parity: "odd"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

type fullDisk struct{ head bool }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.head {
		return 0, errEnough
	}
	d.head = true
	return len(b), nil
}

// TestGarbageIsBounded: ten megabytes without a flag, or a ready byte, cost no
// memory.
func TestGarbageIsBounded(t *testing.T) {
	const size = 10 << 20
	garbage := bytes.Repeat([]byte{0x55, 0xaa, 0x03, 0x1b}, 1<<10)
	for _, dialect := range []string{sniff.Ayla, sniff.Afero} {
		t.Run(dialect, func(t *testing.T) {
			e := newEar(live.Tap{Port: "x", From: recording.FromMCU})
			e.line.Dialect, e.line.Once = dialect, true
			longest := 0
			e.line.Packet = func(p sniff.Packet) error { longest = max(longest, len(p.Text)); return nil }
			e.line.Open = ports{"x": always(io.NopCloser(io.LimitReader(endless{garbage}, size)))}.open
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			if err := live.Run(t.Context(), e.line); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 || longest > 500 {
				t.Errorf("the heap has grown by %d bytes, the longest text has %d", grown, longest)
			}
		})
	}
}

type endless struct{ b []byte }

func (e endless) Read(b []byte) (int, error) { return copy(b, e.b), nil }

// TestOpenTellsWhatIsWrong: the errors of a real port are those of the bridge.
func TestOpenTellsWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		port string
		want error
	}{
		{filepath.Join(t.TempDir(), "nowhere"), serialport.ErrMissing}, {file, serialport.ErrNotSerial},
		{"usb:ffff:fffe:NOSUCH", serialport.ErrMissing}, {"usb:x", nil},
	} {
		if p, err := live.Open(c.port, line); err == nil || p != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", c.port, p, err)
		}
	}
}
