package bridge

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// The afero MCU's firmware type, and what the world's image and what it runs
// before are called there.
const (
	firmwareType = 101
	property     = "2101"
	theID        = 7
	theIDText    = "7"
	beforeID     = 6
)

// aferoWorld is a world with one MCU on the Afero wire.
type aferoWorld struct {
	*world
	mcu    *sim.AferoMCU
	opened []PortConfig
}

// inAferoWorld runs f with a port that is configured for a dialect or for none,
// and a device type that names one.
func inAferoWorld(t *testing.T, configured, named string, f func(w *aferoWorld)) {
	t.Helper()
	a := &aferoWorld{}
	inBareWorld(t, 3000, func(w *world) {
		a.world, a.mcu = w, sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID})
		w.lines[pump] = sim.NewLine(sim.LineConfig{Baud: 9600, BitsPerByte: 10, NoFlowControl: true})
		w.cfg.Ports = []PortConfig{{Device: pump, Path: pump, Dialect: configured}}
		w.cfg.OpenPort = a.open
		if named != "" {
			w.service.profiles = map[string]schemas.Profile{
				pump: {V: schemas.Version, DeviceType: "board", Dialect: named, VersionProperties: []string{property}},
			}
		}
		w.run(pump, a.mcu)
	}, func(*world) { f(a) })
}

func (w *aferoWorld) open(p PortConfig) (io.ReadWriteCloser, error) {
	w.opened = append(w.opened, p)
	return w.world.open(p)
}

// theOffer is the world's as a device type of the afero dialect makes it.
func (w *aferoWorld) theOffer() schemas.Offer {
	o := w.world.theOffer()
	o.VersionID = theID
	o.Host.Dialect, o.Host.NumericType, o.Host.VersionProperty = afero.Name, firmwareType, property
	return o
}

func (w *aferoWorld) wantSuccess() {
	w.Helper()
	st := w.awaitEnd(theExecution)
	if st.State != schemas.StateSucceeded || st.HostVersion != theIDText {
		w.Errorf("recorded %s, cause %q, version %q, %s", st.State, st.Cause, st.HostVersion, st.Detail)
	}
	if w.mcu.RunningVersionID() != theID || !bytes.Equal(w.mcu.RunningImage(), w.image) {
		w.Errorf("the MCU runs id %d, and not the image that was uploaded", w.mcu.RunningVersionID())
	}
}

// An update of an MCU on the Afero wire, from the offer to the version report,
// on a port that is configured for it.
func TestAferoUpdate(t *testing.T) {
	inAferoWorld(t, afero.Name, "", func(w *aferoWorld) {
		w.await("the hello", func() bool { return w.service.hello(pump).Dialect == afero.Name })
		w.service.offer(pump, w.theOffer())
		w.wantSuccess()
		if p := w.opened[0]; p.Baud != 9600 || p.Parity != "none" || *p.RTSCTS {
			t.Errorf("the port was opened with %+v", p)
		}
		w.await("the version in a hello", func() bool { return w.service.hello(pump).HostVersions[property] == theIDText })
	})
}

// A port that names no dialect stays closed until the service has said which one
// the device type names, which is remembered.
func TestDialectOfTheDeviceType(t *testing.T) {
	inAferoWorld(t, "", afero.Name, func(w *aferoWorld) {
		w.service.disconnect()
		time.Sleep(time.Minute)
		if len(w.opened) > 0 {
			t.Fatalf("opened as %+v before anybody said what the MCU speaks", w.opened)
		}
		w.service.connect()
		// The version is known before any offer, so an image with a min version can be decided about.
		w.await("the version in a hello", func() bool { return w.service.hello(pump).HostVersions[property] == "6" })
		if h := w.service.hello(pump); h.Dialect != afero.Name {
			t.Errorf("hello of dialect %q", h.Dialect)
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess()

		w.kill()
		w.service.disconnect()
		n := len(w.opened)
		w.start()
		w.await("the port", func() bool { return len(w.opened) > n })
	})
}

// An offer says the dialect as well.
func TestDialectOfAnOffer(t *testing.T) {
	inAferoWorld(t, "", "", func(w *aferoWorld) {
		w.service.offer(pump, w.theOffer())
		w.wantSuccess()
	})
}

// A device type that is corrected has the port speak anew, and what was reported
// in the wrong protocol is forgotten.
func TestDialectThatChanges(t *testing.T) {
	inAferoWorld(t, "", ayla.Name, func(w *aferoWorld) {
		w.await("the hello", func() bool { return w.service.hello(pump).Dialect == ayla.Name })
		w.service.mu.Lock()
		p := w.service.profiles[pump]
		p.Dialect = afero.Name
		w.service.profiles[pump] = p
		w.service.mu.Unlock()
		w.await("the hello of the other dialect", func() bool { return w.service.hello(pump).Dialect == afero.Name })
		w.await("the version", func() bool { return w.service.hello(pump).HostVersions[property] == "6" })
		if _, told := w.service.hello(pump).HostVersions[ayla.DefaultVersionProperty]; told {
			t.Error("the other protocol's property is still told")
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess()
	})
}

// A port that is configured for another dialect than the device type's: nothing
// of the image goes down the line, and the execution says why.
func TestDialectsThatDisagree(t *testing.T) {
	inAferoWorld(t, ayla.Name, afero.Name, func(w *aferoWorld) {
		w.service.offer(pump, w.theOffer())
		st := w.wantEnd(schemas.StateFailed, schemas.CauseProtocol)
		for _, word := range []string{"speaks afero", "configured for ayla"} {
			if !strings.Contains(st.Detail, word) {
				t.Errorf("detail %q does not say %q", st.Detail, word)
			}
		}
		if n := w.mcu.Stats().Offers; n != 0 {
			t.Errorf("the MCU was offered the image %d times", n)
		}
	})
}

// A dialect that the bridge does not know ends an offer, and an offer only.
func TestDialectThatIsNotKnown(t *testing.T) {
	inAferoWorld(t, "", "klingon", func(w *aferoWorld) {
		o := w.theOffer()
		o.Host.Dialect = "klingon"
		w.service.offer(pump, o)
		st := w.wantEnd(schemas.StateFailed, schemas.CauseProtocol)
		if !strings.Contains(st.Detail, "klingon") {
			t.Errorf("detail %q", st.Detail)
		}
		if len(w.opened) > 0 {
			t.Errorf("opened as %+v", w.opened)
		}
	})
}

// A bridge that is killed in the middle of a load goes on where the MCU is.
func TestAferoBridgeKilledWhileLoading(t *testing.T) {
	inAferoWorld(t, afero.Name, "", func(w *aferoWorld) {
		w.service.offer(pump, w.theOffer())
		w.await("half of the load", func() bool { return w.mcu.Stats().Loads > 6 })
		w.kill()
		w.start()
		w.wantSuccess()
		if n := w.mcu.Stats().SectorsErased; n > 1 {
			t.Errorf("%d sectors were erased: the MCU began anew", n)
		}
	})
}

// An adapter that is unplugged in the middle of a load and comes back: at most
// one chunk is sent again.
func TestAferoUnplugged(t *testing.T) {
	inAferoWorld(t, afero.Name, "", func(w *aferoWorld) {
		w.service.offer(pump, w.theOffer())
		w.await("most of the load", func() bool { return w.mcu.Stats().Loads == 11 })
		w.lines[pump].Unplug()
		time.Sleep(10 * time.Second)
		w.lines[pump].Replug()
		w.wantSuccess()
		if n, chunks := w.mcu.Stats().Loads, (len(w.image)+248)/249; n > chunks+1 {
			t.Errorf("%d chunks were sent of an image of %d", n, chunks)
		}
	})
}
