package afero

import (
	"bytes"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/schemas"
	"davit/schemas/afpro"
)

// driven is a machine without a line: the test is the MCU, and the clock.
type driven struct {
	*machine
	testing.TB
	now    time.Time
	next   time.Time // when the machine wants to be called again
	stuck  bool      // the line takes no bytes
	ended  int       // updates
	booted bool      // the update was recorded as booting
	out    []byte    // scratch
}

func drive(tb testing.TB, u dialect.Update, cfg dialect.Config) *driven {
	cfg.Baud, cfg.OfferInterval = defaultBaud, DefaultOfferInterval
	d := &driven{machine: newMachine(cfg, dialecttest.NewRecorder()), TB: tb, now: time.Unix(1000, 0)}
	ready := make(chan struct{})
	close(ready)
	u.Version, u.VersionID, u.NumericType, u.Image, u.Ready, u.Reporter = "2.1.0", newID, firmwareType, zeros{}, ready, d
	d.Begin(d.now)
	d.Order(&u, d.now)
	return d
}

// State implements dialect.Reporter.
func (d *driven) State(s schemas.State, _ uint64) error {
	d.booted = d.booted || s == schemas.StateBooting
	return nil
}

// Ended implements dialect.Reporter.
func (d *driven) Ended(dialect.Result) { d.ended++ }

// zeros is an image without end.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

// settle has the machine do all that is due, and takes what it writes unless the
// line is stuck. A machine that never comes to rest would keep its session busy.
func (d *driven) settle() {
	for range 1000 {
		step := d.Step(d.now)
		d.next = step.Wake
		if len(step.Write) > 0 {
			d.wrote(step.Write)
			d.write()
			continue
		}
		if d.next.After(d.now) {
			return
		}
	}
	d.Fatal("the machine does not come to rest")
}

// write has the line take what it was handed, if it does.
func (d *driven) write() {
	if !d.stuck && d.t.writing {
		d.Sent(d.now)
	}
}

// wrote looks at what the machine writes: nobody is told to apply what is not
// recorded.
func (d *driven) wrote(b []byte) {
	if len(b) < 3 || d.booted {
		return
	}
	m, err := afpro.ParseMessage(b[1 : len(b)-1])
	if err != nil || m.Attribute != afpro.ChannelToMCU {
		return
	}
	if _, value, err := afpro.ParseTunnel(m.Value); err == nil && len(value) > 0 && afpro.InfoState(value[0]) == afpro.InfoApply && len(value) == 9 {
		d.Fatalf("told to apply and not recorded: % x", b)
	}
}

// hands hands over bytes of the MCU.
func (d *driven) hands(b []byte) {
	d.Receive(b, d.now)
	d.settle()
}

func (d *driven) sync(s afpro.Sync) {
	d.out = afpro.AppendSync(d.out[:0], s)
	d.hands(d.out)
}

// says is a transaction in which the MCU sends b.
func (d *driven) says(b []byte) {
	request := afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(len(b))}
	if d.sync(request); d.t.step == stepCollided {
		d.pass(20 * time.Millisecond) // else it is a doubled one
		d.sync(request)
	}
	d.sync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(len(b))})
	d.hands(b)
}

// hears is a transaction in which the MCU lets the machine speak.
func (d *driven) hears() {
	d.sync(afpro.Sync{Type: afpro.SyncCounts})
	d.sync(afpro.Sync{Type: afpro.SyncAck, ASR: d.t.counts.ASR})
}

// pass lets time go by. The machine is called when it wants to be.
func (d *driven) pass(by time.Duration) {
	end := d.now.Add(by)
	for range 1000 {
		if !d.next.Before(end) {
			d.now = end
			d.settle()
			return
		}
		d.now = d.next
		d.settle()
	}
	d.Fatalf("the machine wants to be called 1000 times in %v", by)
}

// A chunk and its answer allocate nothing, end to end through the machine.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const chunks = 4000
	size := uint64(chunks * afpro.ChunkSize(afpro.DefaultAttributeSize))
	d := drive(t, dialect.Update{Size: size}, dialect.Config{})
	d.start.step = startDone
	d.asks.None()
	d.u.offer = false
	d.startLoad()
	d.settle()
	var answer []byte
	step := func() {
		d.hears()
		answer, _ = afpro.AppendNext(answer[:0], uint32(d.u.at)+uint32(d.u.n))
		d.says(answer)
	}
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for a chunk and its answer", n)
	}
	if d.u == nil || d.u.high < size/chunks*1000 {
		t.Fatalf("no chunks were asked for: %+v", d.u)
	}
}

// While the line takes no bytes, what waits for it does not grow, whatever the MCU
// says and however long that is. What is said then is what the MCU waits for.
func TestStuckLine(t *testing.T) {
	for name, what := range map[string]func(d *driven){
		"Requests": func(d *driven) {
			for i := range 1000 {
				d.sync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(11 + i%2)})
			}
		},
		"time": func(d *driven) {
			for range 1000 {
				d.pass(time.Minute)
			}
		},
		"messages": func(d *driven) { d.says(message); d.says(message); d.says(message) },
	} {
		t.Run(name, func(t *testing.T) {
			d := drive(t, dialect.Update{Size: 1000}, dialect.Config{})
			d.settle()
			d.stuck = true
			d.sync(afpro.Sync{Type: afpro.SyncCounts}) // its Response is what the line does not take
			what(d)
			d.bounded()
			d.stuck = false
			d.sync(afpro.Sync{Type: afpro.SyncCounts})
			waiting := append([]byte{}, d.t.bufs[d.t.filling]...)
			want := append(afpro.AppendSync(nil, d.t.counts), afpro.Ready)
			if !bytes.Equal(waiting, want) {
				t.Errorf("% x waits behind what is stuck, want % x", waiting, want)
			}
			d.write()
			d.usable()
		})
	}
}
