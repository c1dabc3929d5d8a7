package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim" // plays lines and host MCUs from outside
	"davit/schemas"
)

// TestMain puts the worlds' data folders into memory, if there is such a folder and
// nobody has named another: no test here waits for a crash of this machine, and on a
// disk most of the time would be spent with it.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if os.Getenv("TMPDIR") == "" && unix.Access(memory, unix.W_OK) == nil {
		if err := os.Setenv("TMPDIR", memory); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// step is how far the moments lie apart at which a test does something to the bridge:
// fine with DAVIT_TEST_FULL=1, as in the whole check, and else not quite so fine.
func step(fine time.Duration) time.Duration {
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		return fine
	}
	return 5 * fine / 2
}

// world is a bridge with its ports and everything around it, in virtual time.
type world struct {
	*testing.T
	service *service
	dir     string
	cfg     Config
	lines   map[string]*sim.Line
	mcus    map[string]*sim.MCU
	image   []byte
	bridge  *Bridge
	stop    func()            // ends the bridge
	halt    map[string]func() // switches an MCU off
}

// The world's update.
const (
	oldVersion   = "1.0.0"
	newVersion   = "2.1.0"
	theExecution = "ex-1"
)

// inWorld runs f in virtual time with a bridge and one simulated MCU for each
// device.
func inWorld(t *testing.T, mcu sim.MCUConfig, size int, devices []string, f func(w *world)) {
	t.Helper()
	inBareWorld(t, size, func(w *world) {
		for i, id := range devices {
			mcu.Seed = uint64(i)
			w.lines[id] = sim.NewLine(sim.LineConfig{Seed: uint64(i)})
			w.cfg.Ports = append(w.cfg.Ports, PortConfig{Device: id, Path: id, Dialect: ayla.Name})
			w.power(id, mcu)
		}
	}, f)
}

// inBareWorld runs f in virtual time with a bridge and whatever furnish adds to
// its ports, lines and MCUs.
func inBareWorld(t *testing.T, size int, furnish, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, service: newService(t), dir: t.TempDir(), lines: map[string]*sim.Line{}, mcus: map[string]*sim.MCU{}, halt: map[string]func(){},
			image: sim.BuildDemoImage(newVersion, size, 42),
		}
		w.service.images["img-1"] = w.image
		w.cfg = Config{
			Dialects: map[string]dialect.Dialect{ayla.Name: ayla.Dialect{}, afero.Name: afero.Dialect{}}, Transport: w.service, OpenPort: w.open, Module: "davit test",
			Window: 8 << 10, // so that a download takes its time, and something can happen to it
		}
		furnish(w)
		w.start()
		f(w)
		w.stop()
		for _, off := range w.halt {
			off()
		}
	})
}

// power puts an MCU on a device's line and switches it on.
func (w *world) power(device string, cfg sim.MCUConfig) {
	w.mcus[device] = sim.NewMCU(cfg)
	w.run(device, w.mcus[device])
}

// run switches an MCU on a device's line on.
func (w *world) run(device string, m sim.Host) { w.runOn(device, m, w.lines[device].MCU()) }

// runOn is run with an end that the caller has something between.
func (w *world) runOn(device string, m sim.Host, end io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, end) }()
	w.halt[device] = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("MCU: %v", err)
		}
		delete(w.halt, device)
	}
}

// swap puts another MCU in the place of a device's. The bridge does not see the
// port go.
func (w *world) swap(device string, cfg sim.MCUConfig) {
	w.halt[device]()
	w.power(device, cfg)
}

func (w *world) open(p PortConfig) (io.ReadWriteCloser, error) { return w.lines[p.Device].Open() }

func (w *world) start() {
	w.Helper()
	w.cfg.DataDir = w.dir
	b, err := New(w.cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.bridge = b
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	w.stop = func() {
		w.stop = func() {} // it has ended
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	}
}

// kill ends the bridge as SIGKILL does: the next one finds the files of this
// moment, and nothing was said goodbye to.
func (w *world) kill() {
	w.Helper()
	w.service.disconnect()
	synctest.Wait() // nothing is being written while the files are copied
	to := w.TempDir()
	if err := os.CopyFS(to, os.DirFS(w.dir)); err != nil {
		w.Fatal(err)
	}
	w.bridge.Stop()
	w.stop()
	w.dir = to
	w.service.mu.Lock()
	w.service.up = true
	w.service.mu.Unlock()
}

func (w *world) offerOf(image, version string, data []byte) schemas.Offer {
	sum := sha256.Sum256(data)
	return schemas.Offer{
		V: schemas.Version, Execution: theExecution, Attempt: 1, Image: image, ImageType: "application", Version: version, Size: uint64(len(data)),
		SHA256: hex.EncodeToString(sum[:]), Chunk: schemas.ChunkHint{Preferred: 1024, Max: 4096},
		Host: schemas.HostHint{BootTimeoutMS: 60_000},
	}
}

func (w *world) theOffer() schemas.Offer { return w.offerOf("img-1", newVersion, w.image) }

// await waits until cond holds, looking every 10 ms of virtual time.
func (w *world) await(what string, cond func() bool) {
	w.Helper()
	for range 100 * 3600 * 2 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	w.Fatalf("%s: not within two hours", what)
}

func (w *world) awaitEnd(execution string) schemas.Status {
	w.Helper()
	w.await("the end of "+execution, func() bool { return w.service.last(execution).State.Final() })
	return w.service.last(execution)
}

func (w *world) awaitState(s schemas.State) {
	w.Helper()
	w.await(fmt.Sprintf("state %s", s), func() bool { return w.service.last(theExecution).State.Rank() >= s.Rank() })
}

// wantSuccess waits for the end and compares it with what the MCU really runs.
func (w *world) wantSuccess(device string) {
	w.Helper()
	st := w.awaitEnd(theExecution)
	if st.State != schemas.StateSucceeded || st.HostVersion != newVersion {
		w.Errorf("recorded %s, cause %q, %s", st.State, st.Cause, st.Detail)
	}
	w.wantImage(device)
}

func (w *world) wantImage(device string) {
	w.Helper()
	m := w.mcus[device]
	if m.RunningVersion() != newVersion || !bytes.Equal(m.RunningImage(), w.image) {
		w.Errorf("%s runs %q, and not the image that was uploaded", device, m.RunningVersion())
	}
}

func (w *world) wantEnd(state schemas.State, cause schemas.Cause) schemas.Status {
	w.Helper()
	st := w.awaitEnd(theExecution)
	if st.State != state || st.Cause != cause {
		w.Errorf("recorded %s, cause %q (%s), want %s, %q", st.State, st.Cause, st.Detail, state, cause)
	}
	return st
}
