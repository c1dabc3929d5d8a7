package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/bridge/dialect/afero"
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
	return w.service.isOnline(device) && w.service.subscriptions(device) == len(subscriptionsOf(device)) && w.seriesOf(device) > 0
}

func (w *reloadWorld) gone(device string) bool {
	return !w.service.isOnline(device) && w.service.subscriptions(device) == 0 && w.seriesOf(device) == 0 && w.bridge.line(device) == nil
}

// seriesOf is how many series of metrics a port has.
func (w *reloadWorld) seriesOf(device string) int {
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	n := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "port" && l.GetValue() == device {
					n++
				}
			}
		}
	}
	return n
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

// A port that the reload leaves as it is: its bytes and its update are those of a
// bridge that is not reloaded, whatever happens to the others.
func TestReloadLeavesAnUpdateAlone(t *testing.T) {
	carriedOut := func(s schemas.State, reload bool) (sent []byte, states string) {
		inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
			w.reach(s)
			if reload {
				w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
				w.await("the new device", func() bool { return w.served(mixer) })
				w.wantReload("kept pump-1, removed mixer-2", pumpPort())
				w.await("the end of it", func() bool { return w.gone(mixer) })
			}
			w.wantSuccess(pumpPath)
			time.Sleep(time.Minute) // virtual
			if n := len(w.wires.openings(pumpPath)); n != 1 {
				t.Errorf("the port was opened %d times", n)
			}
			sent, states = w.wires.bytes(pumpPath), w.service.states(theExecution)
		})
		return sent, states
	}
	for _, s := range everyState() {
		t.Run(string(s), func(t *testing.T) {
			want, wantStates := carriedOut(s, false)
			got, states := carriedOut(s, true)
			if len(want) < 5_000 || !bytes.Equal(got, want) {
				t.Errorf("%d bytes went to the MCU, and not the %d of a bridge that is not reloaded", len(got), len(want))
			}
			if states != wantStates {
				t.Errorf("states %s, want %s", states, wantStates)
			}
		})
	}
}

// A device that is added is served on the connection that stands, and updated.
func TestReloadAdds(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.service.offer(mixer, w.theOffer()) // retained: nobody has subscribed to it yet
		w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
		w.await("the hello", func() bool { return w.service.hello(mixer).HostVersions[ayla.DefaultVersionProperty] == oldVersion })
		w.wantSuccess(mixPath)
		if !w.served(pump) || !w.served(mixer) {
			t.Error("not both are served")
		}
	})
}

// A device that is added while the broker is away is served when it is back.
func TestReloadAddsWithoutTheBroker(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.service.disconnect()
		w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
		time.Sleep(time.Minute) // virtual
		if w.service.isOnline(mixer) {
			t.Error("online without a connection")
		}
		w.service.offer(mixer, w.theOffer())
		w.service.connect()
		w.wantSuccess(mixPath)
	})
}

// A device that is removed while it is updated: the update ends as ever and is
// reported, then the port is closed and the device gone but for its record.
func TestReloadRemovesAfterTheUpdate(t *testing.T) {
	atEveryState(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort()) // once more changes nothing
		w.wantSuccess(pumpPath)
		w.await("the end of the device", func() bool { return w.gone(pump) })
		if w.wires.isOpen(pumpPath) || len(w.wires.openings(pumpPath)) != 1 {
			w.Error("the port is open yet, or was opened again")
		}
		rec, err := w.bridge.records.load(pump)
		if err != nil || len(rec.Ended) != 1 || !rec.Ended[0].Acked {
			w.Errorf("the record has %+v, %v", rec, err)
		}
		if !w.served(mixer) {
			w.Error("the other device is not served any more")
		}
	})
}

// A device that has nothing under way goes at once, and comes back as it was.
func TestReloadRemovesAndTakesBack(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1", mixerPort())
		w.await("the end of the device", func() bool { return w.gone(pump) && !w.wires.isOpen(pumpPath) })
		w.service.offer(pump, w.theOffer())
		time.Sleep(time.Hour) // virtual
		if n := w.mcus[pumpPath].Stats().Offers; n != 0 || !w.gone(pump) {
			t.Errorf("offered %d times to a device that is gone", n)
		}
		w.wantReload("kept mixer-2, added pump-1", mixerPort(), pumpPort())
		w.wantSuccess(pumpPath)
		if !w.served(pump) {
			t.Error("not served")
		}
	})
}

// The newest configuration wins: a device that is back before its update has
// ended notices nothing of having been removed.
func TestReloadTakesARemovalBack(t *testing.T) {
	atEveryState(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
		w.wantReload("kept pump-1 mixer-2", pumpPort(), mixerPort())
		w.wantSuccess(pumpPath)
		time.Sleep(time.Hour) // virtual
		if !w.served(pump) || len(w.wires.openings(pumpPath)) != 1 {
			w.Errorf("opened %d times", len(w.wires.openings(pumpPath)))
		}
	})
}

// A device on its way out takes up nothing new, unless it is taken back.
func TestReloadOfferForALeavingDevice(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %t", back), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
				w.service.acks = false // it waits for them
				w.reach(schemas.StateBooting)
				w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
				second := sim.BuildDemoImage("3.0.0", 4_000, 9)
				w.service.images["img-2"] = second
				o := w.offerOf("img-2", "3.0.0", second)
				o.Execution = "ex-2"
				w.service.offer(pump, o) // to come after the boot
				w.wantSuccess(pumpPath)
				time.Sleep(30 * time.Second) // virtual
				if got := w.service.states("ex-2"); got != "" || w.wires.isOpen(pumpPath) {
					t.Fatalf("the next update is %s", got)
				}
				if back {
					w.wantReload("kept mixer-2 pump-1", mixerPort(), pumpPort())
					if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
						t.Errorf("%s: %s", st.State, st.Detail)
					}
					return
				}
				time.Sleep(departPatience) // virtual: the service acknowledges nothing
				w.await("the end of the device", func() bool { return w.gone(pump) })
				rec, err := w.bridge.records.load(pump)
				if err != nil || len(rec.Ended) != 1 || rec.Ended[0].Acked {
					t.Errorf("the record has %+v, %v", rec, err)
				}
			})
		})
	}
}

// A change of the port waits for the end of the update, then it is there.
func TestReloadChangesAfterTheUpdate(t *testing.T) {
	slow := pumpPort()
	slow.Baud = 57_600
	atEveryState(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.wantReload("changed pump-1, waiting pump-1", slow)
		w.wantSuccess(pumpPath)
		w.await("the port with the new speed", func() bool { return len(w.wires.openings(pumpPath)) == 2 })
		if o := w.wires.openings(pumpPath); o[0].Baud != 115_200 || o[1].Baud != 57_600 {
			w.Errorf("opened with %d and %d bit/s", o[0].Baud, o[1].Baud)
		}
		time.Sleep(time.Minute) // virtual
		if len(w.wires.openings(pumpPath)) != 2 || !w.served(pump) {
			w.Error("opened again, or not served")
		}
	})
}

// An update that waits for the end of the one under way is carried out on the
// changed port.
func TestReloadChangesBeforeTheNextUpdate(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateBooting)
		slow := pumpPort()
		slow.Baud = 57_600
		w.wantReload("changed pump-1, waiting pump-1", slow)
		second := sim.BuildDemoImage("3.0.0", 4_000, 9)
		w.service.images["img-2"] = second
		o := w.offerOf("img-2", "3.0.0", second)
		o.Execution = "ex-2"
		w.service.offer(pump, o)
		w.wantSuccess(pumpPath)
		if st := w.service.last("ex-2"); st.State.Final() || len(w.wires.openings(pumpPath)) > 2 {
			t.Errorf("the next update is %s", st.State)
		}
		w.await("the port with the new speed", func() bool { return len(w.wires.openings(pumpPath)) == 2 })
		if w.service.last("ex-2").State.Rank() >= schemas.StateInstalling.Rank() {
			t.Error("the next update was carried out on the port as it was")
		}
		if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded || len(w.wires.openings(pumpPath)) != 2 {
			t.Errorf("%s, %s; opened %d times", st.State, st.Detail, len(w.wires.openings(pumpPath)))
		}
	})
}

// A device that is taken back while it says goodbye: another begins in its place.
func TestReloadTakesBackDuringTheFarewell(t *testing.T) {
	for at := range 8 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
				w.wantReload("kept mixer-2, removed pump-1", mixerPort())
				time.Sleep(time.Duration(at) * 4 * time.Millisecond) // virtual
				slow := pumpPort()
				slow.Baud = 57_600
				if got := w.reload(slow, mixerPort()); !strings.Contains(got, "added pump-1") {
					t.Errorf("the reload did %q", got)
				}
				w.await("the device", func() bool { return w.served(pump) && w.wires.isOpen(pumpPath) })
				if o := w.wires.openings(pumpPath); o[len(o)-1].Baud != 57_600 {
					t.Errorf("opened with %d bit/s", o[len(o)-1].Baud)
				}
				w.service.offer(pump, w.theOffer())
				w.wantSuccess(pumpPath)
				time.Sleep(time.Minute) // virtual: no farewell comes late
				if !w.served(pump) {
					t.Error("not served any more")
				}
			})
		})
	}
}

// What an MCU says on a port that is being closed for a change is not taken for
// the word of the one on the new port.
func TestReloadDoesNotBelieveTheOldPort(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		d := w.bridge.line(pump).dev
		var old speech
		d.do(func() { old = d.speech() })
		moved := pumpPort()
		moved.Path = mixPath
		w.wantReload("changed pump-1", moved)
		(&lineEvents{d: d, over: old.over}).Version("old", "9.9.9")
		d.do(func() {
			if d.believed["old"] || d.rec.Versions["old"] != "" {
				t.Error("believed")
			}
		})
	})
}

// A change that is taken back before it was carried out never happened.
func TestReloadTakesAChangeBack(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		slow := pumpPort()
		slow.Baud = 57_600
		w.wantReload("changed pump-1, waiting pump-1", slow)
		w.wantReload("kept pump-1", pumpPort())
		w.wantSuccess(pumpPath)
		time.Sleep(time.Minute) // virtual
		if n := len(w.wires.openings(pumpPath)); n != 1 {
			t.Errorf("opened %d times", n)
		}
	})
}

// With nothing under way, a change is there at once, even if the port is missing.
func TestReloadChangesAtOnce(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.lines[pumpPath].Unplug()
		time.Sleep(time.Hour) // virtual: it is tried seldom by now
		began := time.Now()
		moved := pumpPort()
		moved.Path = mixPath
		w.wantReload("changed pump-1", moved)
		w.await("the other port", func() bool { return w.wires.isOpen(mixPath) })
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(mixPath)
	})
}

// Two devices change places while one of them is being updated: the other waits
// for its port, and an update that is offered to it meanwhile waits with it.
func TestReloadSwapsPorts(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		a, b := pumpPort(), mixerPort()
		a.Path, b.Path = b.Path, a.Path
		w.wantReload("changed pump-1 mixer-2, waiting pump-1", a, b)
		second := w.theOffer()
		second.Execution = "ex-2"
		second.Host.AnswerTimeoutMS = 1 // a port that is missing would be waited for no longer
		w.service.offer(mixer, second)
		time.Sleep(100 * time.Millisecond) // virtual
		if w.wires.isOpen(mixPath) || w.state(mixer) != schemas.StateOffered {
			t.Errorf("the port that nobody wants now is open, or the update is at %q", w.state(mixer))
		}
		w.wantSuccess(pumpPath)
		w.await("both ports", func() bool { return len(w.wires.openings(pumpPath)) == 2 && len(w.wires.openings(mixPath)) == 2 })
		if got := w.wires.openings(pumpPath)[1].Device; got != mixer {
			t.Errorf("%s has the pump's port", got)
		}
		if n := w.mcus[pumpPath].Stats().Offers; n != 1 {
			t.Errorf("offered %d times", n)
		}
	})
}

// A device takes the place of another one on its port, whose update ends first.
func TestReloadReplacesADevice(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		next := PortConfig{Device: "pump-9", Path: pumpPath, Dialect: ayla.Name}
		w.wantReload("added pump-9, removed pump-1, waiting pump-1", next)
		w.wantSuccess(pumpPath)
		w.await("the new device's hello", func() bool { return w.service.hello("pump-9").HostVersions[ayla.DefaultVersionProperty] == newVersion })
		w.await("the end of the old one", func() bool { return w.gone(pump) })
	})
}

// Another dialect: what was reported under the names of the old one is forgotten.
func TestReloadChangesTheDialect(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		other := pumpPort()
		other.Dialect = afero.Name
		w.wantReload("kept mixer-2, changed pump-1", other, mixerPort())
		w.await("the hello", func() bool { return w.service.hello(pump).Dialect == afero.Name })
		if v := w.service.hello(pump).HostVersions; len(v) != 0 {
			t.Errorf("the hello has versions %v", v)
		}
		open := pumpPort()
		open.Dialect = ""
		w.service.mu.Lock()
		w.service.profiles = map[string]schemas.Profile{
			pump: {V: schemas.Version, DeviceType: "board", Dialect: ayla.Name, VersionProperties: []string{ayla.DefaultVersionProperty}},
		}
		w.service.mu.Unlock()
		w.wantReload("kept mixer-2, changed pump-1", open, mixerPort())
		w.await("the service's word", func() bool {
			h := w.service.hello(pump)
			return h.Dialect == ayla.Name && h.HostVersions[ayla.DefaultVersionProperty] == oldVersion
		})
	})
}

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
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) { reloadsAtRandom(w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func reloadsAtRandom(w *reloadWorld, r *rand.Rand) {
	draw := func() []PortConfig {
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
	other := w.theOffer()
	other.Execution = "ex-2"
	w.service.offer(pump, w.theOffer())
	w.service.offer(mixer, other)
	for range 12 {
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond) // virtual
		w.reload(draw()...)
	}
	time.Sleep(10 * time.Minute) // virtual: everything is settled, with the ports as they are
	w.reload(pumpPort(), mixerPort())
	for _, execution := range []string{theExecution, "ex-2"} {
		if st := w.awaitEnd(execution); st.State != schemas.StateSucceeded {
			w.Errorf("%s: %s, %s", execution, st.State, st.Detail)
		}
	}
	last := draw()
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
