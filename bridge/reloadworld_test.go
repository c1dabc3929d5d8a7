package bridge

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// wires is what passes on the world's ports, by path.
type wires struct {
	mu     sync.Mutex
	opened map[string][]PortConfig
	open   map[string]int
	sent   map[string]*bytes.Buffer
}

type wire struct {
	io.ReadWriteCloser
	ws   *wires
	path string
	once sync.Once
}

func (ws *wires) add(path string, p PortConfig, port io.ReadWriteCloser) io.ReadWriteCloser {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.opened[path] = append(ws.opened[path], p)
	ws.open[path]++
	if ws.sent[path] == nil {
		ws.sent[path] = &bytes.Buffer{}
	}
	return &wire{ReadWriteCloser: port, ws: ws, path: path}
}

func (w *wire) Write(b []byte) (int, error) {
	w.ws.mu.Lock()
	w.ws.sent[w.path].Write(b)
	w.ws.mu.Unlock()
	return w.ReadWriteCloser.Write(b)
}

func (w *wire) Close() error {
	w.once.Do(func() {
		w.ws.mu.Lock()
		defer w.ws.mu.Unlock()
		w.ws.open[w.path]--
	})
	return w.ReadWriteCloser.Close()
}

// openings are the configurations that a port was opened with.
func (ws *wires) openings(path string) []PortConfig {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return slices.Clone(ws.opened[path])
}

func (ws *wires) isOpen(path string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.open[path] > 0
}

// bytes are those that went to the MCU.
func (ws *wires) bytes(path string) []byte {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return bytes.Clone(ws.sent[path].Bytes())
}

// reloadWorld is a world whose ports are named by paths, so that devices can be
// moved between them. The bridge begins with the first.
type reloadWorld struct {
	*world
	wires    *wires
	registry *prometheus.Registry
}

const (
	mixer    = "mixer-2"
	pumpPath = "/dev/pump"
	mixPath  = "/dev/mixer"
)

func pumpPort() PortConfig  { return PortConfig{Device: pump, Path: pumpPath, Dialect: ayla.Name} }
func mixerPort() PortConfig { return PortConfig{Device: mixer, Path: mixPath, Dialect: ayla.Name} }

// inReloadWorld runs f with the bridge on ports, and MCUs on both paths.
func inReloadWorld(t *testing.T, ports []PortConfig, f func(w *reloadWorld)) {
	t.Helper()
	r := &reloadWorld{
		wires:    &wires{opened: map[string][]PortConfig{}, open: map[string]int{}, sent: map[string]*bytes.Buffer{}},
		registry: prometheus.NewRegistry(),
	}
	inBareWorld(t, 5_000, func(w *world) {
		r.world = w
		w.cfg.Ports, w.cfg.Metrics = ports, NewMetrics(r.registry)
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			port, err := w.lines[p.Path].Open()
			if err != nil {
				return nil, err
			}
			return r.wires.add(p.Path, p, port), nil
		}
		for i, path := range []string{pumpPath, mixPath} {
			w.lines[path] = sim.NewLine(sim.LineConfig{Seed: uint64(i)})
			w.power(path, sim.MCUConfig{Seed: uint64(i)})
		}
	}, func(*world) {
		r.await("the first hellos", func() bool {
			return !slices.ContainsFunc(ports, func(p PortConfig) bool {
				return r.service.hello(p.Device).HostVersions[ayla.DefaultVersionProperty] != oldVersion
			})
		})
		f(r)
	})
}

// reload has the bridge take ports, and says what that did in one line.
func (w *reloadWorld) reload(ports ...PortConfig) string {
	w.Helper()
	c, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: ports})
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, l := range []struct {
		name string
		ids  []string
	}{{"kept", c.Kept}, {"added", c.Added}, {"removed", c.Removed}, {"changed", c.Changed}, {"waiting", c.Waiting}} {
		if len(l.ids) > 0 {
			out = append(out, l.name+" "+strings.Join(l.ids, " "))
		}
	}
	return strings.Join(out, ", ")
}

func (w *reloadWorld) wantReload(want string, ports ...PortConfig) {
	w.Helper()
	if got := w.reload(ports...); got != want {
		w.Errorf("the reload did %q, want %q", got, want)
	}
}

// state is how far the update on a device is, "" for none.
func (w *reloadWorld) state(device string) (s schemas.State) {
	l := w.bridge.line(device)
	if l == nil {
		return ""
	}
	l.dev.do(func() {
		if l.dev.ex != nil {
			s = l.dev.ex.state
		}
	})
	return s
}

// reach offers the image and waits until the update is at s.
func (w *reloadWorld) reach(s schemas.State) {
	w.Helper()
	w.service.offer(pump, w.theOffer())
	for range 100_000 {
		if synctest.Wait(); w.state(pump) == s {
			return
		}
		time.Sleep(time.Millisecond) // virtual
	}
	w.Fatalf("the update does not come to %s", s)
}

// served says whether a device is there for the service, and gone whether
// nothing of it is left.
func (w *reloadWorld) served(device string) bool {
	return w.service.isOnline(device) && w.service.subscriptions(device) == len(subscriptionsOf(device)) && w.toldOf()
}

func (w *reloadWorld) gone(device string) bool {
	return !w.service.isOnline(device) && w.service.subscriptions(device) == 0 && w.toldOf() && w.bridge.line(device) == nil
}

// toldOf says whether the metrics tell of the ports that the lines have and of no others.
func (w *reloadWorld) toldOf() bool {
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	told := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "port" {
					told[l.GetValue()] = true
				}
			}
		}
	}
	there := map[string]bool{}
	for _, l := range w.bridge.lines() {
		there[l.port.figures().port] = true
	}
	return maps.Equal(told, there)
}

// everyState are the moments of an update at which the reloads come. It goes through those that are not here without
// stopping.
func everyState() []schemas.State {
	return []schemas.State{schemas.StateOffered, schemas.StateDownloading, schemas.StateInstalling, schemas.StateBooting}
}

// atEveryState runs f as a test for each moment.
func atEveryState(t *testing.T, ports []PortConfig, f func(w *reloadWorld)) {
	for _, s := range everyState() {
		t.Run(string(s), func(t *testing.T) {
			inReloadWorld(t, ports, func(w *reloadWorld) {
				w.reach(s)
				f(w)
			})
		})
	}
}
