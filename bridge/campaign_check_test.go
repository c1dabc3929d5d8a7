package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// The update after the faults.
const (
	lastVersion = "3.0.0"
	lastID      = 8
)

// believedAfter is after how many reports that reached the bridge whole a version
// has to be believed: once is not enough on a wire without checksums.
const believedAfter = 2

// running is a product of a course, and everything that is heard of it.
type running struct {
	c     *course
	p     *product
	place string
	tty   string
	host  sim.Host

	// Of the course's goroutine.
	attempt   int
	latest    schemas.Offer
	failures  int
	settled   bool
	repaired  bool
	mended    bool
	unplugged bool
	fetched   bool // what was to be fetched first

	images  [][]byte          // those that the MCU may run
	reports map[string][]byte // what a report of a version contains on the wire

	hears    atomic.Bool // the MCU is to be offered the image
	mu       sync.Mutex
	writes   int
	mischief []mischief
	proven   []string       // versions whose success is recorded
	said     map[string]int // reports of a version by the MCU
	arrived  map[string]int // those that reached the bridge whole since the MCU started and the bridge did
	decided  *decision      // the last one
	wire     [2]hash.Hash64 // what was written to and by the MCU, and when
	resent   int
}

// decision is what the bridge decided about an attempt, and what was so then.
type decision struct {
	dialect.Result
	image   []byte // that the MCU ran
	said    map[string]int
	arrived map[string]int
}

func newRunning(c *course, p *product) *running {
	r := &running{
		c: c, p: p, place: strconv.Itoa(1 + len(c.runs)), mischief: p.mischief, said: map[string]int{}, arrived: map[string]int{},
		wire: [2]hash.Hash64{fnv.New64a(), fnv.New64a()}, reports: map[string][]byte{},
	}
	for version, id := range map[string]uint64{newVersion: theID, lastVersion: lastID} {
		if r.numbered() {
			r.reports[strconv.FormatUint(id, 10)] = binary.LittleEndian.AppendUint64([]byte{8, 0}, id)
			continue
		}
		b := append([]byte{1, byte(len(ayla.DefaultVersionProperty))}, ayla.DefaultVersionProperty...)
		r.reports[version] = append(append(b, 5, byte(len(version))), version...)
	}
	return r
}

// numbered says whether the product's wire knows versions by number.
func (r *running) numbered() bool { return r.p.dialect == afero.Name }

// told takes what happens in the MCU: at every start, what it runs; at every
// offer, whether there was reason for one.
func (r *running) told(e sim.Event) {
	switch e.Kind {
	case sim.EventStarted:
		if image := r.host.RunningImage(); !slices.ContainsFunc(r.images, func(i []byte) bool { return bytes.Equal(i, image) }) {
			r.c.Errorf("%s started %d bytes of no image", r.p.id, len(image))
		}
		r.forget()
	case sim.EventOffer:
		if !r.hears.Load() {
			r.c.Errorf("%s was offered version %s, which was only to be fetched", r.p.id, e.Version)
		}
		r.mu.Lock()
		proven := slices.Contains(r.proven, e.Version)
		r.mu.Unlock()
		if proven {
			r.c.Errorf("%s was offered version %s again after its success was recorded", r.p.id, e.Version)
		}
	}
}

// forget drops what had arrived at the bridge.
func (r *running) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.arrived)
}

// calm drops the mischief that has not come about.
func (r *running) calm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mischief = nil
}

// judge holds the recorded end of an attempt against what is so.
func (c *course) judge(r *running, st schemas.Status) {
	wanted, image := r.wanted(c.next)
	r.mu.Lock()
	d := r.decided
	r.decided = nil
	r.mu.Unlock()
	runs := r.host.RunningImage()
	if st.State == schemas.StateSucceeded {
		if !bytes.Equal(runs, image) {
			c.Errorf("%s: recorded as succeeded, and the MCU runs version %q", r.p.id, r.host.RunningVersion())
		}
		if d == nil || d.said[wanted] == 0 || st.HostVersion != wanted {
			c.Errorf("%s: recorded as succeeded with version %q, and the MCU never reported %q (%+v)", r.p.id, st.HostVersion, wanted, d)
		}
		r.mu.Lock()
		r.proven = append(r.proven, wanted)
		r.mu.Unlock()
		return
	}
	if st.Cause == schemas.CauseNone || len(st.Detail) < 10 {
		c.Errorf("%s: ended %s, cause %q, %q: that says nothing", r.p.id, st.State, st.Cause, st.Detail)
	}
	if !c.next && !c.s.mayEnd(st.Cause) {
		c.Errorf("%s: ended %s, %s (%s), which none of its faults explains", r.p.id, st.State, st.Cause, st.Detail)
	}
	if d != nil && bytes.Equal(d.image, image) && d.arrived[wanted] >= believedAfter {
		c.Errorf("%s: ended %s, %s (%s), and the MCU runs the image and has said so %d times", r.p.id, st.State, st.Cause, st.Detail, d.arrived[wanted])
	}
}

// wanted is what the MCU has to report, and to run.
func (r *running) wanted(next bool) (version string, image []byte) {
	version, image = newVersion, r.images[1]
	id := theID
	if next {
		version, image, id = lastVersion, r.images[2], lastID
	}
	if r.numbered() {
		version = strconv.Itoa(id)
	}
	return version, image
}

// mayEnd says whether an attempt may end with a cause.
func (s *scenario) mayEnd(cause schemas.Cause) bool {
	return slices.ContainsFunc(s.kinds, func(k faultKind) bool { return slices.Contains(k.causes, cause) })
}

// note takes bytes of the wire to the transcript.
func (r *running) note(direction int, b []byte) {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(time.Since(r.c.began)))
	_, _ = r.wire[direction].Write(at[:]) // never fails
	_, _ = r.wire[direction].Write(b)
}

// hash is the transcript of the course: bytes and moments on all wires, and the
// states that the service recorded.
func (c *course) hash() uint64 {
	h := fnv.New64a()
	for _, p := range c.s.products {
		r := c.runs[p]
		for _, w := range r.wire {
			_, _ = h.Write(w.Sum(nil))
		}
		c.out.resent += r.resent
		for _, st := range c.service.statuses {
			if st.Execution == theExecution+"-"+p.id {
				_, _ = io.WriteString(h, string(st.State)+string(st.Cause)+st.Detail)
			}
		}
	}
	return h.Sum64()
}

// listened is an MCU whose every word is heard before the line spoils it.
type listened struct {
	sim.Host
	r *running
}

// Run implements sim.Host.
func (l listened) Run(ctx context.Context, rw io.ReadWriteCloser) error {
	return l.Host.Run(ctx, &mouth{rw, l.r})
}

type mouth struct {
	io.ReadWriteCloser
	r *running
}

// Write implements io.Writer.
func (m *mouth) Write(b []byte) (int, error) {
	m.r.mu.Lock()
	m.r.note(1, b)
	for version, report := range m.r.reports {
		if k := bytes.Count(b, report); k > 0 {
			m.r.said[version] += k
		}
	}
	m.r.mu.Unlock()
	return m.ReadWriteCloser.Write(b)
}

// tapped is a port of the bridge: its writes are counted, and held up where
// something is to go wrong; what it reads is searched for reports.
type tapped struct {
	io.ReadWriteCloser
	r      *running
	closed chan struct{}
	once   sync.Once
	tail   []byte // of what was read
}

func (r *running) port(end io.ReadWriteCloser) *tapped {
	return &tapped{ReadWriteCloser: end, r: r, closed: make(chan struct{})}
}

// Close implements io.Closer.
func (t *tapped) Close() error {
	t.once.Do(func() { close(t.closed) })
	return t.ReadWriteCloser.Close()
}

// Write implements io.Writer.
func (t *tapped) Write(b []byte) (int, error) {
	for {
		m, ok := t.due()
		if !ok {
			break
		}
		h := heldWrite{m, make(chan bool, 1)}
		select {
		case t.r.c.held <- h:
		case <-t.closed:
			return 0, io.ErrClosedPipe
		}
		select {
		case swallow := <-h.release:
			if swallow {
				return len(b), nil
			}
		case <-t.closed:
			return 0, io.ErrClosedPipe
		}
	}
	t.r.mu.Lock()
	t.r.note(0, b)
	t.r.writes++
	t.r.mu.Unlock()
	return t.ReadWriteCloser.Write(b)
}

// due takes the mischief that is to be done before this write.
func (t *tapped) due() (mischief, bool) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.mischief, func(m mischief) bool { return m.write <= r.writes+1 })
	if i < 0 {
		return mischief{}, false
	}
	m := r.mischief[i]
	r.mischief = slices.Delete(slices.Clone(r.mischief), i, i+1)
	return m, true
}

// Read implements io.Reader.
func (t *tapped) Read(b []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(b)
	old, longest := len(t.tail), 0
	t.tail = append(t.tail, b[:n]...)
	t.r.mu.Lock()
	for version, report := range t.r.reports {
		longest = max(longest, len(report))
		// A report that was whole before was counted before.
		if k := bytes.Count(t.tail[max(0, old-len(report)+1):], report); k > 0 {
			t.r.arrived[version] += k
		}
	}
	t.r.mu.Unlock()
	t.tail = t.tail[:copy(t.tail, t.tail[max(0, len(t.tail)-longest):])]
	return n, err
}

// overheard is a dialect whose decisions are noted with what was so then.
type overheard struct{ dialect.Dialect }

// NewSession implements dialect.Dialect.
func (d overheard) NewSession(line io.ReadWriteCloser, cfg dialect.Config, e dialect.Events) dialect.Session {
	r := line.(*tapped).r
	return session{d.Dialect.NewSession(line, cfg, counted{e, r}), r}
}

type session struct {
	dialect.Session
	r *running
}

// Start implements dialect.Session.
func (s session) Start(u dialect.Update) {
	u.Reporter = decider{u.Reporter, s.r}
	s.Session.Start(u)
}

type decider struct {
	dialect.Reporter
	r *running
}

// Ended implements dialect.Reporter.
func (d decider) Ended(e dialect.Result) {
	image := d.r.host.RunningImage()
	d.r.mu.Lock()
	d.r.decided = &decision{e, image, copyOf(d.r.said), copyOf(d.r.arrived)}
	d.r.mu.Unlock()
	d.Reporter.Ended(e)
}

func copyOf(m map[string]int) map[string]int {
	out := map[string]int{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

type counted struct {
	dialect.Events
	r *running
}

// Counted implements dialect.Events.
func (c counted) Counted(what dialect.Counter, n int) {
	if what == dialect.FramesRetried {
		c.r.mu.Lock()
		c.r.resent += n
		c.r.mu.Unlock()
	}
	c.Events.Counted(what, n)
}
