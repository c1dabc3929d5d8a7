package bridge

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// attacked is the device whose MCU attacks; the neighbour is pump.
const attacked = "bad"

// besieged is a world in which an MCU attacks.
type besieged struct {
	*world
	watcher *watcher
	loads   []time.Time // pieces that the neighbour took
}

// inBesiegedWorld runs f with the attack under way, or with an idle line if it has
// no next.
func inBesiegedWorld(t *testing.T, a attack, f func(w *besieged)) {
	t.Helper()
	w := &besieged{watcher: &watcher{t: t}}
	reg := prometheus.NewRegistry()
	done := make(chan struct{})
	inBareWorld(t, 10_000, func(bare *world) {
		w.world = bare
		if a.baud == 0 {
			a.baud = 115_200
		}
		w.lines[attacked] = sim.NewLine(sim.LineConfig{Baud: a.baud, RxTrigger: 1024})
		w.lines[pump] = sim.NewLine(sim.LineConfig{})
		w.cfg.Ports = []PortConfig{{Device: attacked, Path: attacked, Dialect: a.dialect, Baud: a.baud}, {Device: pump, Path: pump, Dialect: ayla.Name}}
		w.cfg.Metrics = NewMetrics(reg)
		options := &slog.HandlerOptions{Level: slog.LevelDebug}
		w.cfg.Logger = slog.New(slog.NewMultiHandler(slog.NewJSONHandler(jsonLog{w.watcher}, options), slog.NewTextHandler(textLog{w.watcher}, options)))
		w.service.heardAll = w.watcher.published
		w.power(pump, sim.MCUConfig{OnEvent: func(e sim.Event) {
			if e.Kind == sim.EventLoad {
				w.loads = append(w.loads, time.Now())
			}
		}})
		if a.host != nil {
			w.run(attacked, a.host())
		}
		if a.next == nil {
			return
		}
		go a.run(w.lines[attacked].MCU(), done)
		w.halt[attacked] = func() {
			_ = w.lines[attacked].MCU().Close()
			<-done
			delete(w.halt, attacked)
		}
	}, func(*world) { f(w) })
	w.watcher.labels(reg)
}

// neighbour updates the neighbour and returns how long its load took.
func (w *besieged) neighbour() time.Duration {
	w.Helper()
	w.service.offer(pump, w.theOffer())
	w.wantSuccess(pump)
	return w.loads[len(w.loads)-1].Sub(w.loads[0])
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one has finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Bounds of what an attacked port may cost in a minute.
const (
	maxLines    = 12
	maxMessages = 20
	maxWrites   = 12
	maxGrowth   = 64 << 10 // of the heap, in bytes, over the whole attack
)

// An MCU that attacks for minutes at the speed of its line gains nothing: the
// bridge neither fails nor grows, its neighbour's update is as fast as ever, nothing
// of what it says stands outside of its place, logs, messages and the disk get little
// of it, and once it behaves it is updated. With DAVIT_CAMPAIGN it takes longer.
func TestAttacks(t *testing.T) {
	var alone time.Duration
	inBesiegedWorld(t, attack{dialect: ayla.Name}, func(w *besieged) { alone = w.neighbour() })
	for _, a := range attacks() {
		t.Run(a.dialect+"/"+a.name, func(t *testing.T) {
			inBesiegedWorld(t, a, func(w *besieged) {
				time.Sleep(time.Second) // virtual: it has begun
				before, goroutines := heap(), runtime.NumGoroutine()
				w.watcher.counts()
				minutes := 0.04
				if os.Getenv("DAVIT_CAMPAIGN") != "" {
					minutes = 5
				}
				writes := w.writes(time.Duration(minutes * float64(time.Minute)))
				lines, messages := w.watcher.counts()
				grown, more := heap()-before, runtime.NumGoroutine()-goroutines
				t.Logf("in %v minutes: %d lines, %d messages, %d writes; the heap grew by %d bytes", minutes, lines, messages, writes, grown)
				if most := max(1, minutes); float64(lines) > most*maxLines || float64(messages) > most*maxMessages || float64(writes) > most*maxWrites {
					t.Errorf("%d lines, %d messages and %d writes in %v minutes", lines, messages, writes, minutes)
				}
				if grown > maxGrowth || more > 0 {
					t.Errorf("%d bytes and %d goroutines more", grown, more)
				}
				w.service.offer(attacked, w.offerTo(a.dialect, "ex-bad", 1_000))
				if took := w.neighbour(); took < alone-alone/100 || took > alone+alone/100 {
					t.Errorf("the neighbour's load took %v, alone %v", took, alone)
				}
				if st := w.awaitEnd("ex-bad"); a.host == nil && st.State == schemas.StateSucceeded {
					t.Errorf("%s with version %q", st.State, st.HostVersion)
				}
				w.wantBetterManners(a)
			})
		})
	}
}

// offerTo is the world's offer to an MCU of a dialect.
func (w *besieged) offerTo(name, execution string, answerMS int64) schemas.Offer {
	o := w.theOffer()
	o.Execution, o.Host.AnswerTimeoutMS = execution, answerMS
	if name == afero.Name {
		o.VersionID = theID
		o.Host.Dialect, o.Host.NumericType, o.Host.VersionProperty = afero.Name, firmwareType, property
	}
	return o
}

// wantBetterManners puts an MCU in the attacker's place and updates it.
func (w *besieged) wantBetterManners(a attack) {
	w.Helper()
	w.halt[attacked]()
	var m sim.Host = sim.NewMCU(sim.MCUConfig{})
	if a.dialect == afero.Name {
		m = sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID})
	}
	w.run(attacked, m)
	time.Sleep(10 * time.Second) // virtual: what was on the line has gone out
	w.service.offer(attacked, w.offerTo(a.dialect, "ex-after", 0))
	if st := w.awaitEnd("ex-after"); st.State != schemas.StateSucceeded || !bytes.Equal(m.RunningImage(), w.image) {
		w.Errorf("after the attack: %s, cause %q, %s", st.State, st.Cause, st.Detail)
	}
}

// writes counts how often the attacked device's record is written within d.
func (w *besieged) writes(d time.Duration) (n int) {
	w.Helper()
	const look = 100 * time.Millisecond
	var last uint64
	for range d / look {
		time.Sleep(look) // virtual
		info, err := os.Stat(filepath.Join(w.dir, "devices", "device-"+attacked+".json"))
		if err != nil {
			continue // never written yet
		}
		// Each write is a new file in the place of the old one.
		if inode := info.Sys().(*syscall.Stat_t).Ino; inode != last {
			last = inode
			n++
		}
	}
	return n
}
