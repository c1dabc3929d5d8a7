package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/internal/app"
	"davit/internal/sim"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hurry() pace {
	return pace{answer: 2 * time.Second, unplugged: 200 * time.Millisecond, boot: 100 * time.Millisecond, confirm: 50 * time.Millisecond}
}

// runDemo runs a demo that is small and fast and returns what it prints.
func runDemo(t *testing.T, o Options) (Result, string) {
	t.Helper()
	var out bytes.Buffer
	o.Baud, o.Size, o.Out, o.Progress = 921600, 20<<10, &out, &out
	o.pace = hurry()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	result, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return result, out.String()
}

func TestDemoUpdatesThreeDevices(t *testing.T) {
	t.Parallel()
	result, out := runDemo(t, Options{})
	if !result.Succeeded {
		t.Error("the demo says that it failed")
	}
	for _, want := range []string{
		"lab-1    accepted", "lab-2    loading", "lab-3    runs 2.0.0", "3 of 3 devices report version 2.0.0",
		"on 3 the running image is byte for byte the uploaded one", "1.0.0 -> 2.0.0", "20480 of 20480", "OF CEILING",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestDemoTakesAnyFile(t *testing.T) {
	t.Parallel()
	hex := filepath.Join(t.TempDir(), "firmware.hex")
	if err := os.WriteFile(hex, []byte(":020000040800F2\n:10000000000102030405060708090A0B0C0D0E0F78\n:0400100010111213A6\n:00000001FF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	result, out := runDemo(t, Options{Image: hex})
	if !result.Succeeded || !strings.Contains(out, "firmware.hex: 20 bytes (ihex), version 2.0.0") {
		t.Errorf("succeeded %v\n%s", result.Succeeded, out)
	}
}

func TestDemoFailuresEndAsTheyShould(t *testing.T) {
	want := map[string]struct {
		state schemas.State
		cause schemas.Cause
	}{
		"reject-too-large": {schemas.StateRejected, schemas.CauseSize},
		"reject-already":   {schemas.StateRejected, schemas.CauseAlready},
		"checksum":         {schemas.StateFailed, schemas.CauseChecksum},
		"no-boot":          {schemas.StateFailed, schemas.CauseBoot},
		"silent":           {schemas.StateTimedOut, schemas.CauseTimeout},
		"unplug":           {schemas.StateFailed, schemas.CauseSerial},
		"crc-noise":        {schemas.StateFailed, schemas.CauseSerial},
		"replug":           {schemas.StateSucceeded, schemas.CauseNone},
		"mild-noise":       {schemas.StateSucceeded, schemas.CauseNone},
	}
	names := strings.Split(FaultNames(), ", ")
	for _, name := range sim.FaultNames() {
		if !slices.Contains(names, name) {
			t.Errorf("the simulator's case %q is not shown", name)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, out := runDemo(t, Options{Fail: name, JSON: true})
			var faulted publicOutcome
			for line := range strings.Lines(out) {
				var o publicOutcome
				if json.Unmarshal([]byte(line), &o) == nil && o.Device == "lab-2" {
					faulted = o
				}
			}
			w, known := want[name]
			if !known || faulted.State != w.state || faulted.Cause != w.cause {
				t.Errorf("ended as %s with cause %q, want %s with %q", faulted.State, faulted.Cause, w.state, w.cause)
			}
			if ok := w.state == schemas.StateSucceeded; result.Succeeded != ok || faulted.Identical != ok || (faulted.VersionAfter == newVersion) != ok {
				t.Errorf("succeeded %v, identical %v, version %s", result.Succeeded, faulted.Identical, faulted.VersionAfter)
			}
			if len(faulted.Explanation) < 2 {
				t.Errorf("explanation %q", faulted.Explanation)
			}
			if name == "replug" && faulted.LineDropouts != 1 {
				t.Errorf("the cable was pulled %d times", faulted.LineDropouts)
			}
		})
	}
}

// watchWriter keeps what is printed and says when a text was.
type watchWriter struct {
	mu   sync.Mutex
	b    strings.Builder
	want string
	seen chan struct{}
}

func (w *watchWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.b.String(), w.want)
	w.b.Write(p)
	if !before && strings.Contains(w.b.String(), w.want) {
		close(w.seen)
	}
	return len(p), nil
}

func TestKeptDemoServesUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &watchWriter{want: "For example: davit job show", seen: make(chan struct{})}
	o := Options{Baud: 921600, Size: 4096, Out: out, Progress: out, Keep: true, Log: slog.New(slog.DiscardHandler), pace: hurry()}
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, o)
		ended <- err
	}()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatalf("ended by itself: %v", err)
	}
	address := regexp.MustCompile(`(?m)^  HTTP   (http://\S+)$`).FindStringSubmatch(out.b.String())
	if address == nil {
		t.Fatalf("no HTTP address is printed:\n%s", out.b.String())
	}
	if err := app.Health(ctx, address[1]); err != nil {
		t.Error(err)
	}
	signIn := regexp.MustCompile(`(?m)^watch it in the console: (http://\S+), user (\S+), password (\S+)$`).FindStringSubmatch(out.b.String())
	if signIn == nil {
		t.Fatalf("no console is named:\n%s", out.b.String())
	}
	form := strings.NewReader(url.Values{"name": {signIn[2]}, "password": {signIn[3]}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, signIn[1]+"/sign-in", form)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", signIn[1])
	resp, err := http.DefaultTransport.RoundTrip(req) // the redirect is the answer
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) == 0 {
		t.Errorf("signing in with what was printed: %s", resp.Status)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := app.Health(t.Context(), address[1]); err == nil {
		t.Error("the service runs on after the interrupt")
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	good := Options{Baud: 115200, Size: DefaultSize}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		o   Options
		err string
	}{
		{Options{Baud: 3, Size: DefaultSize}, "--baud is 3"},
		{Options{Baud: 115200, Size: 3}, "--size is 3"},
		{Options{Baud: 115200, Size: DefaultSize, Fail: "meteor"}, "there are reject-too-large"},
	} {
		if err := tt.o.Validate(); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v, want %q", err, tt.err)
		}
	}
}
