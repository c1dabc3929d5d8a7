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
	"davit/orchestrator"
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
	if o.Dialect != "" {
		o.Size = 10 << 10 // every chunk turns the line around ten times
		if o.Fail == "replug" {
			o.pace.answer = 0 // an MCU that was cut off needs a second or two to find back into step
		}
	}
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
	if strings.Contains(out, "afero") || strings.Contains(out, "DIALECT") {
		t.Error("a demo of ayla speaks of dialects")
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

// TestDemoInOtherDialects: ports that name no dialect and ports that do, three
// afero devices, and one job for devices of both dialects.
func TestDemoInOtherDialects(t *testing.T) {
	t.Parallel()
	afero := func(device string) string {
		return device + " afero succeeded - 1.0.0 (1) -> 2.0.0 (2) 10240 of 10240 "
	}
	ayla := func(device string) string { return device + " ayla succeeded - 1.0.0 -> 2.0.0 10240 of 10240 " }
	for dialect, want := range map[string][]string{
		orchestrator.DialectAfero: {
			"921600 bit/s, 8N1)", "versions by number: 1.0.0 is 1, 2.0.0 is 2", afero("lab-1"), afero("lab-2"), afero("lab-3"), "(8 data bits, no parity, 1 stop bit)",
		},
		Mixed: {
			"lab-1 is a lab-board, ayla, 8O1: at", "lab-2 is a lab-lamp, afero, 8N1: at", ayla("lab-1"), afero("lab-2"), ayla("lab-3"),
			"(8 data bits, no parity, 1 stop bit)", "(8 data bits, odd parity, 1 stop bit)",
		},
	} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			result, out := runDemo(t, Options{Dialect: dialect})
			if !result.Succeeded {
				t.Error("the demo says that it failed")
			}
			out = strings.Join(strings.Fields(out), " ")
			for _, text := range append(want, "3 of 3 devices report version 2.0.0", "on 3 the running image is byte for byte the uploaded one") {
				if !strings.Contains(out, text) {
					t.Errorf("%q is missing", text)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
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

// ending is how a device ends that something is wrong with.
type ending struct {
	state schemas.State
	cause schemas.Cause
}

// endings are by failure case, in the ayla dialect.
func endings() map[string]ending {
	return map[string]ending{
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
}

func TestDemoFailuresEndAsTheyShould(t *testing.T) {
	t.Parallel()
	names := strings.Split(FaultNames(), ", ")
	for _, name := range sim.FaultNames() {
		if !slices.Contains(names, name) {
			t.Errorf("the simulator's case %q is not shown", name)
		}
	}
	slowest := slices.Index(names, "crc-noise") // first, the others run beside it
	names[0], names[slowest] = names[slowest], names[0]
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failsAs(t, Options{Fail: name}, endings()[name])
		})
	}
}

// TestAferoFailuresEndAsTheyShould leaves the others, which take longer in this
// dialect, to the CI.
func TestAferoFailuresEndAsTheyShould(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dialect, name string
		want          ending
	}{
		{orchestrator.DialectAfero, "reject-too-large", ending{schemas.StateRejected, schemas.CauseRejected}},
		{orchestrator.DialectAfero, "replug", endings()["replug"]},
		{Mixed, "unplug", endings()["unplug"]},
	} {
		t.Run(tt.dialect+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			failsAs(t, Options{Dialect: tt.dialect, Fail: tt.name}, tt.want)
		})
	}
}

// failsAs runs a demo with a failure and holds the device that it is injected at
// against what is to become of it. The others have to be updated.
func failsAs(t *testing.T, o Options, want ending) {
	t.Helper()
	o.JSON = true
	result, out := runDemo(t, o)
	all := map[string]publicOutcome{}
	for line := range strings.Lines(out) {
		var one publicOutcome
		if json.Unmarshal([]byte(line), &one) == nil && one.Device != "" {
			all[one.Device] = one
		}
	}
	for i, p := range products(o.Dialect) {
		device := deviceNames()[i]
		got, ok := all[device], i != faulty || want.state == schemas.StateSucceeded
		after := running{oldVersion, 0}
		if ok {
			after.version = newVersion
		}
		if p.numbered() {
			after.id = map[string]uint64{oldVersion: 1, newVersion: 2}[after.version]
		}
		if got.Dialect != p.dialect || got.Identical != ok || got.VersionAfter != after.version || got.VersionIDAfter != after.id {
			t.Errorf("%s: %+v", device, got)
		}
		if i == faulty && (got.State != want.state || got.Cause != want.cause || len(got.Explanation) < 2) {
			t.Errorf("ended as %s with cause %q and explanation %q, want %s with %q", got.State, got.Cause, got.Explanation, want.state, want.cause)
		}
		if i == faulty && o.Fail == "replug" && got.LineDropouts != 1 {
			t.Errorf("the cable was pulled %d times", got.LineDropouts)
		}
	}
	if result.Succeeded != (want.state == schemas.StateSucceeded) {
		t.Errorf("succeeded %v", result.Succeeded)
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
		{Options{Baud: 115200, Size: DefaultSize, Dialect: "morse"}, `--dialect is "morse"; allowed are ayla, afero, mixed`},
	} {
		if err := tt.o.Validate(); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v, want %q", err, tt.err)
		}
	}
}
