package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
	"davit/schemas/tlv"
)

// evil is in all text that an attacking MCU makes up.
const evil = "evil"

// poison are texts that would do something in a log, a terminal, a topic or JSON.
var poison = []string{
	evil + "\nlevel=ERROR msg=forged", evil + "\r\n{\"level\":\"ERROR\"}", evil + "\x1b[2J\x1b]0;x\a", evil + `","online":true,"x":"`, evil + "/#/+/$SYS",
	evil + "\x00", evil + "\u009b2J", evil + `\u0000\n%s%n`, evil + " level=ERROR msg=forged", evil + "\u2028\u202e", evil + `"} davit_up 1`, evil + "\xff\xfe", evil,
}

// attack is what an MCU does with its line. next returns what it writes next; it
// also acknowledges what it is sent if acks is set, and waits a moment for an
// answer to every sync message if turns is set.
type attack struct {
	name    string
	dialect string
	baud    int // 115,200 if 0
	acks    bool
	turns   bool
	next    func(r *rand.Rand, n int) []byte
	// host stands in the place of next: an MCU that only talks too much.
	host func() sim.Host
}

// frame is a data frame on the Ayla-compatible wire, cut to what one holds.
func frame(seq byte, packet []byte) []byte {
	b, err := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet[:min(len(packet), tlv.MaxPayload)]})
	if err != nil {
		panic(err)
	}
	return b
}

// saying is a packet with a text property, whatever stands in it.
func saying(name, value string) []byte {
	b := append(tlv.AppendHeader(nil, tlv.OpSendTLV, 7), byte(tlv.TypeName), byte(len(name)))
	b = append(append(b, name...), byte(tlv.TypeText), byte(len(value)))
	return append(b, value...)
}

// noiseOf is n random bytes.
func noiseOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// anyPacket is a packet of the Ayla-compatible wire whose parts are all drawn.
func anyPacket(r *rand.Rand) []byte {
	ops := []tlv.Op{
		tlv.OpControlNAK, tlv.OpOTA, tlv.OpOTALoad, tlv.OpOTAStat, tlv.OpOTABoot, tlv.OpNAK, tlv.OpSendProp, tlv.OpSendTLV, tlv.OpConnect,
		tlv.OpListenEnable, tlv.OpConfirm, tlv.OpOf(tlv.ProtocolPing, 0), tlv.Op(r.Uint32()),
	}
	b := tlv.AppendHeader(nil, ops[r.IntN(len(ops))], uint16(r.IntN(20)))
	if r.IntN(4) == 0 {
		b = append(b, byte(tlv.TypeName), byte(len(versionProperty)))
		b = append(b, versionProperty...)
	}
	for range r.IntN(5) {
		t := []tlv.Type{
			tlv.TypeName, tlv.TypeInt, tlv.TypeBin, tlv.TypeText, tlv.TypeErr, tlv.TypeBool, tlv.TypeOff, tlv.TypeLen, tlv.TypeEOF, tlv.TypeFeatures, tlv.Type(r.Uint32()),
		}[r.IntN(11)]
		value := noiseOf(r, r.IntN(8))
		if r.IntN(3) == 0 {
			value = []byte(poison[r.IntN(len(poison))])
		}
		length := len(value)
		if r.IntN(10) == 0 {
			length = r.IntN(256)
		}
		b = append(append(b, byte(t), byte(length)), value...)
	}
	return b
}

// attacks lists what is tried.
func attacks() []attack {
	seq := func(n int) byte { return byte(n%255) + 1 }
	stream := func(b []byte) func(*rand.Rand, int) []byte { return func(*rand.Rand, int) []byte { return b } }
	sync := func(s afpro.Sync) []byte { return afpro.AppendSync(nil, s) }
	message := func(m afpro.Message) []byte {
		b, err := afpro.AppendMessage(nil, m)
		if err != nil {
			panic(err)
		}
		return append(append(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(len(b))}), sync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(len(b))})...), b...)
	}
	return []attack{
		{name: "frames with anything in them", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(byte(r.IntN(256)), anyPacket(r)) }},
		{name: "packets of noise", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(seq(n), noiseOf(r, r.IntN(tlv.MaxPayload))) }},
		{name: "escapes without end", dialect: ayla.Name, next: stream(bytes.Repeat([]byte{0x7d}, 512))},
		{name: "no flag ever", dialect: ayla.Name, baud: 921_600, next: stream(bytes.Repeat([]byte{0x55}, 512))},
		{name: "nothing but flags", dialect: ayla.Name, next: stream(bytes.Repeat([]byte{0x7e}, 512))},
		{name: "versions of 255 random bytes", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(versionProperty, string(noiseOf(r, 255))))
		}},
		{name: "versions that are poison", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(versionProperty, poison[r.IntN(len(poison))]+fmt.Sprint(n)))
		}},
		{name: "properties without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(fmt.Sprint(poison[r.IntN(len(poison))], n), poison[r.IntN(len(poison))]))
		}},
		{name: "goes without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(seq(n), tlv.AppendGo(nil, uint16(n))) }},
		{name: "a restart with every frame", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(0, [][]byte{tlv.AppendGo(nil, 1), text(versionProperty, "1."+fmt.Sprint(n)), tlv.AppendListenEnable(nil, 1), tlv.AppendStat(nil, 1, 0)}[n%4])
		}},
		{name: "pings without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), append(tlv.AppendPing(nil, 1), poison[n%13]...))
		}},

		{name: "a product that never stops talking", dialect: ayla.Name, host: func() sim.Host {
			return sim.NewMCU(sim.MCUConfig{Traffic: time.Millisecond, Ping: time.Millisecond, Features: tlv.FeatureConfirm})
		}},

		{name: "a product that never stops talking", dialect: afero.Name, host: func() sim.Host {
			return sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID, MCUConfig: sim.MCUConfig{Traffic: time.Millisecond}})
		}},
		{name: "noise", dialect: afero.Name, next: func(r *rand.Rand, n int) []byte { return noiseOf(r, 64) }},
		{name: "syncs with any counts", dialect: afero.Name, next: func(r *rand.Rand, n int) []byte {
			return sync(afpro.Sync{Type: []afpro.SyncType{afpro.SyncCounts, afpro.SyncAck}[r.IntN(2)], MCU: uint16(r.IntN(300)), ASR: uint16(r.IntN(300))})
		}},
		{name: "counts of 65535", dialect: afero.Name, next: stream(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: 65535}))},
		{name: "nothing but sync bytes", dialect: afero.Name, next: stream(bytes.Repeat([]byte{0x30}, 512))},
		{name: "a version for every number", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			return message(afpro.Message{Type: afpro.Update, Attribute: 2000 + firmwareType, Reason: afpro.ReasonUnsolicited, Value: []byte{byte(n), byte(n >> 8), 1, 0, 0, 0, 0, 0}})
		}},
		{name: "attributes without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			types := []afpro.MessageType{afpro.Update, afpro.Set, afpro.Get}
			m := afpro.Message{Type: types[n%3], Attribute: afpro.Attribute(r.Uint32()), Request: byte(n)}
			if m.Type != afpro.Get {
				m.Value = []byte(poison[r.IntN(len(poison))])
			}
			return message(m)
		}},
		{name: "restarts without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			if n%2 == 0 {
				return sync(afpro.Sync{Type: afpro.SyncCounts})
			}
			return message(afpro.Message{Type: afpro.Update, Attribute: afpro.MCUProtocol, Value: []byte{2, 0}})
		}},
		{name: "offsets without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			b, err := afpro.AppendNext(nil, uint32(r.IntN(4000)))
			if err != nil {
				panic(err)
			}
			return append(append(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(len(b))}), sync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(len(b))})...), b...)
		}},
	}
}

// ear tells of each piece that is read.
type ear struct {
	io.Reader
	heard chan struct{}
}

func (e ear) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	select {
	case e.heard <- struct{}{}:
	default:
	}
	return n, err
}

// run attacks on end as fast as the line takes it, until it is closed.
func (a attack) run(end *sim.End, done chan struct{}) {
	defer close(done)
	acks, heard := make(chan byte, 64), make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		for r := tlv.NewReader(ear{end, heard}); ; {
			f, err := r.Next()
			switch {
			case err == nil && a.acks && f.Type == tlv.FrameData && len(acks) < cap(acks):
				acks <- f.Seq
			case err != nil && !errors.Is(err, tlv.ErrFrame):
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(1, 9))
	for n := 0; ; n++ {
		b := a.next(r, n)
		for len(acks) > 0 {
			ack, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameAck, Seq: <-acks})
			b = append(ack, b...)
		}
		if a.turns && b[0] == byte(afpro.SyncCounts) {
			if _, err := end.Write(b[:afpro.SyncSize]); err != nil {
				break
			}
			b = b[afpro.SyncSize:]
			select {
			case <-heard:
			case <-time.After(100 * time.Millisecond): // virtual
			}
		}
		if _, err := end.Write(b); err != nil {
			break
		}
	}
	reader.Wait()
}

// watcher looks at everything that leaves the bridge.
type watcher struct {
	t   *testing.T
	mu  sync.Mutex
	n   int // lines at level info and above, and messages, of the attacked device
	msg int
}

// seemly fails the test if b has a control character as it stands.
func (w *watcher) seemly(what string, b []byte) {
	if i := bytes.IndexFunc(b, unicode.IsControl); i >= 0 {
		w.t.Errorf("%s with a control character: %q", what, b)
	}
}

// decoded fails the test if the attacker's words stand in v, or control
// characters do, other than in the values of fields.
func (w *watcher) decoded(what, key string, v any, fields []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if strings.Contains(k, evil) {
				w.t.Errorf("%s has a field %q", what, k)
			}
			at := k
			if slices.Contains(fields, key) {
				at = key
			}
			w.decoded(what, at, e, fields)
		}
	case []any:
		for _, e := range v {
			w.decoded(what, key, e, fields)
		}
	case string:
		w.seemly(what, []byte(v))
		if strings.Contains(v, evil) && !slices.Contains(fields, key) {
			w.t.Errorf("%s has the host MCU's words in %s: %q", what, key, v)
		}
	}
}

func (w *watcher) object(what string, b []byte, fields ...string) map[string]any {
	w.seemly(what, b)
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		w.t.Errorf("%s is no JSON: %v: %q", what, err, b)
	}
	w.decoded(what, "", v, fields)
	return v
}

// published looks at a message.
func (w *watcher) published(m Message) {
	t, err := schemas.ParseTopic(m.Topic)
	if err != nil || t.Device != pump && t.Device != attacked {
		w.t.Errorf("published on %q", m.Topic)
	}
	w.object("a payload", m.Payload, "host_versions", "host_version", "detail")
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.Device == attacked {
		w.msg++
	}
}

// counts are the lines and messages since the last call.
func (w *watcher) counts() (lines, messages int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines, messages = w.n, w.msg
	w.n, w.msg = 0, 0
	return lines, messages
}

// jsonLog and textLog take the lines of slog's handlers, one with each Write.
type (
	jsonLog struct{ *watcher }
	textLog struct{ *watcher }
)

func (w jsonLog) Write(b []byte) (int, error) {
	v := w.object("a log line", bytes.TrimSuffix(b, []byte("\n")), "versions", "version", "detail")
	w.mu.Lock()
	defer w.mu.Unlock()
	if v["device"] == attacked && v["level"] != "DEBUG" {
		w.n++
	}
	return len(b), nil
}

func (w textLog) Write(b []byte) (int, error) {
	line := string(bytes.TrimSuffix(b, []byte("\n")))
	w.seemly("a log line", []byte(line))
	seen := map[string]bool{}
	for rest := line; rest != ""; {
		var key, value string
		var ok bool
		if key, rest, ok = strings.Cut(rest, "="); !ok || seen[key] || strings.Contains(key, evil) {
			w.t.Errorf("field %q of log line %q", key, line)
			break
		}
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			value, rest = quoted, strings.TrimPrefix(rest[len(quoted):], " ")
		} else {
			value, rest, _ = strings.Cut(rest, " ")
		}
		if seen[key] = true; strings.Contains(value, evil) && key != "versions" && key != "version" && key != "detail" {
			w.t.Errorf("the host MCU's words in field %s of log line %q", key, line)
		}
	}
	return len(b), nil
}

// labels looks at the metrics.
func (w *watcher) labels(reg *prometheus.Registry) {
	families, err := reg.Gather()
	if err != nil {
		w.t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "port" && l.GetValue() != pump && l.GetValue() != attacked || strings.Contains(l.GetValue(), evil) {
					w.t.Errorf("%s has label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

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
	inBareWorld(t, 30_000, func(bare *world) {
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
				time.Sleep(3 * time.Second) // virtual: it has begun
				before, goroutines := heap(), runtime.NumGoroutine()
				w.watcher.counts()
				minutes := 0.1
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
				w.service.offer(attacked, w.offerTo(a.dialect, "ex-bad", 5_000))
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
