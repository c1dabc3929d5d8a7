package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

// Settings that are no good change nothing, and say what is wrong.
func TestReloadOfBadSettings(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		klingon := mixerPort()
		klingon.Dialect = "klingon"
		broken := mixerPort()
		if err := os.WriteFile(w.bridge.records.path(mixer), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			s    Settings
			want string
		}{
			{Settings{}, "0 ports are given"},
			{Settings{Ports: []PortConfig{pumpPort(), pumpPort()}}, "has two ports"},
			{Settings{Ports: []PortConfig{klingon}}, `dialect "klingon" is not known`},
			{Settings{Ports: []PortConfig{broken}}, "record of device mixer-2"},
			{Settings{Ports: []PortConfig{pumpPort()}, RecordDir: file}, "the folder for recordings cannot be used"},
		} {
			if _, err := w.bridge.Reconfigure(w.Context(), c.s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %q", c.s, err, c.want)
			}
		}
		w.wantSuccess(pumpPath)
		if n := len(w.wires.openings(pumpPath)); n != 1 || !w.served(pump) || w.bridge.line(mixer) != nil {
			t.Errorf("opened %d times", n)
		}
	})
}

// The will is the first device's of the configuration at the time of connecting.
func TestReloadRemovesTheDeviceOfTheWill(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		will := func() string {
			topic, err := schemas.ParseTopic(w.service.will.Topic)
			if err != nil {
				t.Fatal(err)
			}
			return topic.Device
		}
		if got := will(); got != pump {
			t.Fatalf("the will speaks for %s", got)
		}
		w.wantReload("kept mixer-2, removed pump-1", mixerPort())
		w.await("the end of the device", func() bool { return w.gone(pump) })
		w.service.disconnect()
		w.service.connect()
		if got := will(); got != mixer {
			t.Errorf("the will of the next connection speaks for %s", got)
		}
		w.wantReload("kept mixer-2, added pump-1", pumpPort(), mixerPort())
		w.service.disconnect()
		w.service.connect()
		if got := will(); got != pump {
			t.Errorf("the will of the last connection speaks for %s", got)
		}
	})
}

// Other recordings and other intervals hold for the next opening of a port.
func TestReloadChangesHowPortsAreOpened(t *testing.T) {
	dir := t.TempDir()
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		if _, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: []PortConfig{pumpPort(), mixerPort()}, RecordDir: dir, OfferInterval: time.Minute}); err != nil {
			t.Fatal(err)
		}
		w.await("the new device", func() bool { return w.served(mixer) && w.wires.isOpen(mixPath) })
		if got := w.bridge.openings().offerInterval; got != time.Minute {
			t.Errorf("the interval is %v", got)
		}
		w.await("the first recording", func() bool { return len(names(t, dir)) == 1 })
		w.lines[pumpPath].Unplug()
		w.lines[pumpPath].Replug()
		w.await("the recording of the other port", func() bool { return len(names(t, dir)) == 2 })
		if _, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: []PortConfig{pumpPort(), mixerPort()}}); err != nil {
			t.Fatal(err)
		}
	})
}

func names(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A bridge that does not run yet is waited for, one that has run says so.
func TestReloadBeforeAndAfterRun(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.stop()
		settings := Settings{Ports: []PortConfig{mixerPort()}}
		if _, err := w.bridge.Reconfigure(w.Context(), settings); err != errNotRunning {
			t.Errorf("after Run: %v", err)
		}
		w.cfg.DataDir = w.dir
		b, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		early, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := b.Reconfigure(early, settings); err != context.DeadlineExceeded {
			t.Errorf("before Run: %v", err)
		}
		ctx, stop := context.WithCancel(w.Context())
		done := make(chan error, 1)
		reloaded := make(chan error, 1)
		go func() {
			_, err := b.Reconfigure(ctx, settings)
			reloaded <- err
		}()
		synctest.Wait()
		go func() { done <- b.Run(ctx) }()
		if err := <-reloaded; err != nil {
			t.Error(err)
		}
		w.await("the device", func() bool { return w.service.isOnline(mixer) && !w.service.isOnline(pump) })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.stop = func() {}
	})
}

// The bridge is stopped while devices are on their way out or in.
func TestReloadWhileStopping(t *testing.T) {
	for at := range 12 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
				w.reload(mixerPort())
				time.Sleep(time.Duration(at) * 3 * time.Millisecond) // virtual
				w.reload(pumpPort())
				w.stop()
				w.stop = func() {}
				if w.service.isOnline(pump) || w.service.isOnline(mixer) {
					t.Error("still online after the bridge went")
				}
			})
		})
	}
}

// Reloads at random while updates go on: no update is lost, and in the end the
// bridge serves what the last configuration says and nothing else.
func TestReloadsAtRandom(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) { reloadsAtRandom(w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// drawPorts is a configuration of one or both of the devices.
func drawPorts(r *rand.Rand) []PortConfig {
	var ports []PortConfig
	for _, p := range []PortConfig{pumpPort(), mixerPort()} {
		if r.IntN(3) == 0 {
			continue
		}
		if r.IntN(2) == 0 {
			p.Baud = 57_600
		}
		ports = append(ports, p)
	}
	if len(ports) == 2 && r.IntN(4) == 0 {
		ports[0].Path, ports[1].Path = ports[1].Path, ports[0].Path
	}
	if len(ports) == 0 {
		return []PortConfig{pumpPort()}
	}
	return ports
}

func reloadsAtRandom(w *reloadWorld, r *rand.Rand) {
	other := w.theOffer()
	other.Execution = "ex-2"
	w.service.offer(pump, w.theOffer())
	w.service.offer(mixer, other)
	for range 12 {
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond) // virtual
		w.reload(drawPorts(r)...)
	}
	time.Sleep(10 * time.Minute) // virtual: everything is settled, with the ports as they are
	w.reload(pumpPort(), mixerPort())
	for _, execution := range []string{theExecution, "ex-2"} {
		if st := w.awaitEnd(execution); st.State != schemas.StateSucceeded {
			w.Errorf("%s: %s, %s", execution, st.State, st.Detail)
		}
	}
	last := drawPorts(r)
	w.reload(last...)
	time.Sleep(time.Minute) // virtual
	served := byDevice(last)
	for _, id := range []string{pump, mixer} {
		p, wanted := served[id]
		if wanted && (!w.served(id) || !w.wires.isOpen(p.Path)) || !wanted && !w.gone(id) {
			w.Errorf("%s: wanted %t, but that is not so", id, wanted)
		}
	}
	if problems, err := testutil.GatherAndLint(w.registry); err != nil || len(problems) > 0 {
		w.Errorf("metrics: %v %v", problems, err)
	}
}
