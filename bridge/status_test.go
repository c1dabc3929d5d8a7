package bridge

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// status is the status of the bridge, which must not take longer than a moment.
func (w *world) status() Status {
	w.Helper()
	began := time.Now()
	s := w.bridge.Status(w.Context())
	if took := time.Since(began); took > statusWait {
		w.Errorf("the status took %v", took)
	}
	return s
}

// Of each port, what is true of it: an update under way, a port that cannot be
// opened, one that nobody has given a dialect, and one whose device is held up.
func TestStatus(t *testing.T) {
	furnish := func(w *world) {
		for i, id := range []string{"busy", "gone", "load", "mute"} {
			w.lines[id] = sim.NewLine(sim.LineConfig{Seed: uint64(i)})
			w.cfg.Ports = append(w.cfg.Ports, PortConfig{Device: id, Path: "/dev/" + id, Dialect: ayla.Name})
			w.power(id, sim.MCUConfig{})
		}
		w.cfg.Ports[3].Dialect = ""
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			if p.Device == "gone" {
				return nil, errors.New("no \x1b[31msuch\u009b port")
			}
			return w.open(p)
		}
	}
	inBareWorld(t, 60_000, furnish, func(w *world) {
		w.await("a beginning", func() bool { return !w.status().Since.IsZero() })
		began := w.status().Since
		w.service.offer("load", w.theOffer())
		w.awaitState(schemas.StateInstalling)
		time.Sleep(3 * time.Second)
		release := make(chan struct{})
		go w.bridge.devices["busy"].dev.do(func() { <-release })
		time.Sleep(time.Millisecond)
		s := w.status()
		close(release)

		if s.Software != "davit test" || s.Since != began || s.At.Sub(began) < 3*time.Second || !s.Broker.Connected || s.Draining != nil {
			t.Errorf("%+v", s)
		}
		if s.Spool.Used != 60_000 || s.Spool.Limit != 256<<20 || len(s.Ports) != 4 {
			t.Errorf("spool %+v, %d ports", s.Spool, len(s.Ports))
		}
		busy, gone, load, mute := s.Ports[0], s.Ports[1], s.Ports[2], s.Ports[3]
		if !busy.Busy || busy.State != PortOpen || busy.Counts.Sent == 0 || busy.Versions != nil {
			t.Errorf("held up: %+v", busy)
		}
		if gone.State != PortClosed || gone.Reason != `no \x1b[31msuch\u009b port` || gone.Since.After(s.At.Add(-3*time.Second)) || gone.Busy {
			t.Errorf("cannot be opened: %+v", gone)
		}
		if mute.State != PortWaiting || mute.Reason == "" || mute.Dialect != "" || mute.Busy {
			t.Errorf("without a dialect: %+v", mute)
		}
		if load.Dialect != ayla.Name || load.Baud != 115_200 || load.Parity != dialect.ParityOdd || !*load.RTSCTS || load.TTY != "/dev/load" || load.State != PortOpen {
			t.Errorf("loading: %+v", load)
		}
		if v := load.Versions; len(v) != 1 || v[0] != (VersionStatus{versionProperty, oldVersion, true}) {
			t.Errorf("versions %+v", v)
		}
		u := load.Update
		if u == nil || u.Execution != theExecution || u.Attempt != 1 || u.Version != newVersion || u.State != schemas.StateInstalling || u.Size != 60_000 || u.Left {
			t.Errorf("update %+v", u)
			return
		}
		// An 8O1 line carries 10,473 bytes a second, some 95 % of which are image.
		if u.Bytes < 20_000 || u.BytesPerSecond < 7_000 || u.BytesPerSecond > 10_473 || u.LineShare < 0.7 || u.LineShare > 1 {
			t.Errorf("pace %+v", u)
		}
		if c := load.Counts; c.Sent < 100 || c.Received < 100 || c.Loaded != u.Bytes || c.Lost != 0 || c.MCUResets == 0 {
			t.Errorf("counts %+v", c)
		}

		w.wantSuccess("load")
		w.service.disconnect()
		w.lines["load"].Unplug()
		time.Sleep(time.Minute)
		s = w.status()
		load = s.Ports[2]
		if load.Update != nil || load.State != PortClosed || !strings.Contains(load.Reason, "unplugged") || load.Versions[0] != (VersionStatus{versionProperty, newVersion, false}) {
			t.Errorf("unplugged: %+v", load)
		}
		l := load.Last
		if l == nil || l.Execution != theExecution || l.State != schemas.StateSucceeded || l.HostVersion != newVersion || !l.Acknowledged || s.At.Sub(l.At) < time.Minute {
			t.Errorf("last result %+v", l)
		}
		if s.Broker.Connected || s.At.Sub(s.Broker.Since) != time.Minute {
			t.Errorf("broker %+v", s.Broker)
		}
		w.lines["load"].Replug()
	})
}

// A bridge that does not run yet, and one that has ended, say so at once.
func TestStatusOutsideRun(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1_000, one(), func(w *world) {
		w.stop()
		if s := w.status(); s.Ports[0].State != PortClosed || s.Ports[0].Busy {
			t.Errorf("ended: %+v", s.Ports[0])
		}
		b, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.bridge = b
		if s := w.status(); !s.Ports[0].Busy || !s.Since.IsZero() {
			t.Errorf("not begun: %+v", s)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		w.start()
	})
}

// A drain tells its limit, and which updates it has left.
func TestStatusOfADrain(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 300_000, []string{"a", "b"}, func(w *world) {
		w.stop()
		w.cfg.DrainTimeout = drainLimit
		w.start()
		for _, d := range []string{"a", "b"} {
			o := w.theOffer()
			o.Execution = "ex-" + d
			w.service.offer(d, o)
			w.await(d, func() bool { return w.service.last("ex-"+d).State == schemas.StateInstalling })
		}
		w.lines["b"].Unplug()
		time.AfterFunc(time.Second, func() {
			s := w.status()
			if d := s.Draining; d == nil || d.Until.Sub(d.Since) != drainLimit || s.At.Sub(d.Since) != time.Second {
				t.Errorf("draining %+v at %v", d, s.At)
			}
			if a, b := s.Ports[0].Update, s.Ports[1].Update; a == nil || a.Left || b == nil || !b.Left {
				t.Errorf("a %+v, b %+v", a, b)
			}
		})
		w.stop()
		w.lines["b"].Replug()
	})
}

// The names are those that docs/cli.md has.
func TestStatusAsJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	on := true
	s := Status{
		Software: "davit bridge devel", At: at, Since: at, Broker: BrokerStatus{true, at}, Spool: SpoolStatus{1, 2}, Draining: &Draining{at, at},
		Ports: []PortStatus{{
			Device: "d", Port: "usb:1:2", TTY: "/dev/ttyUSB0", Dialect: "ayla", Baud: 9600, Parity: dialect.ParityOdd, RTSCTS: &on, State: PortOpen, Since: at, Reason: "r", Busy: true,
			Versions: []VersionStatus{{"p", "1", true}},
			Update:   &UpdateStatus{"ex", 1, "2", schemas.StateInstalling, at, 3, 4, 5, 0.5, true},
			Last:     &ResultStatus{"ex", 1, schemas.StateFailed, schemas.CauseBoot, 7, "x", "1", at, true},
			Counts:   LineCounts{1, 2, 3, 4, 5, 6, 7},
		}},
	}
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const when = `"2026-01-02T03:04:05Z"`
	want := `{"software":"davit bridge devel","at":` + when + `,"since":` + when + `,"broker":{"connected":true,"since":` + when + `},` +
		`"spool":{"used":1,"limit":2},"draining":{"since":` + when + `,"until":` + when + `},"ports":[{"device":"d","port":"usb:1:2","tty":"/dev/ttyUSB0",` +
		`"dialect":"ayla","baud":9600,"parity":"odd","rtscts":true,"state":"open","since":` + when + `,"reason":"r","busy":true,` +
		`"versions":[{"property":"p","version":"1","confirmed":true}],` +
		`"update":{"execution":"ex","attempt":1,"version":"2","state":"installing","since":` + when + `,"bytes":3,"size":4,"bytes_per_second":5,"line_share":0.5,"left":true},` +
		`"last":{"execution":"ex","attempt":1,"state":"failed","cause":"boot","code":7,"detail":"x","host_version":"1","at":` + when + `,"acknowledged":true},` +
		`"counts":{"sent":1,"retried":2,"received":3,"bad":4,"lost":5,"loaded_bytes":6,"mcu_resets":7}}]}`
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Counting costs a frame nothing but an addition.
func TestCountingDoesNotAllocate(t *testing.T) {
	l := &line{dev: &device{b: &Bridge{}}}
	if n := testing.AllocsPerRun(1000, func() { l.count(dialect.FramesSent, 1) }); n != 0 || l.counts.read().Sent < 1000 {
		t.Errorf("%v allocations, counted %d", n, l.counts.read().Sent)
	}
}
