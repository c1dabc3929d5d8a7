package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas"
)

func offerOf(data []byte) *schemas.Offer {
	sum := sha256.Sum256(data)
	return &schemas.Offer{SHA256: hex.EncodeToString(sum[:]), Size: uint64(len(data))}
}

func TestImageFindsEveryWrongByte(t *testing.T) {
	data := bytes.Repeat([]byte("davit"), 1000)
	var all images
	i := all.find(offerOf(data))
	if all.find(offerOf(data)) != i {
		t.Error("an image is kept twice")
	}
	const piece = 700
	for at := 0; at < len(data); at += piece {
		end := min(at+piece, len(data))
		if !i.check(uint64(at), data[at:end]) {
			t.Errorf("bytes %d to %d are said to be wrong", at, end)
		}
		if i.verify() != (end == len(data)) {
			t.Errorf("after %d of %d bytes: whole is %v", end, len(data), end < len(data))
		}
	}
	for at := range data {
		wrong := bytes.Clone(data[at : at+1])
		wrong[0] ^= 4
		if i.check(uint64(at), wrong) {
			t.Fatalf("a wrong byte at %d was taken", at)
		}
	}
	if i.check(uint64(len(data)-1), []byte("t ")) {
		t.Error("bytes beyond the image were taken")
	}
}

// TestImageThatBeganWrong has the first bytes be the wrong ones.
func TestImageThatBeganWrong(t *testing.T) {
	data := []byte("0123456789")
	var all images
	i := all.find(offerOf(data))
	i.check(0, []byte("01x345"))
	if i.check(0, data[:6]) {
		t.Error("what differs from what came first was taken")
	}
	i.check(6, data[6:])
	if i.verify() {
		t.Fatal("a wrong image was taken")
	}
	if !i.check(0, data) || !i.verify() {
		t.Error("the right image was not taken afterwards")
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(rng.ExpFloat64() * float64(40*time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if got := h.quantile(q); float64(got) < float64(want)*0.99 || float64(got) > float64(want)*(1+1.5/steps)+2000 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if l := h.latency(); l.Count != 10_000 || l.Max != milliseconds(all[len(all)-1]) {
		t.Errorf("got %+v", l)
	}
	for us := uint64(0); us < 1<<20; us += 1 + us/100 {
		if b := bucket(us); us >= upper(b) || b > 0 && us < upper(b-1) {
			t.Fatalf("%d µs are in bucket %d, which ends at %d", us, b, upper(b))
		}
	}
	if b := bucket(1 << 62); b != len(h.buckets)-1 {
		t.Errorf("a long time is in bucket %d", b)
	}
}

func TestPartsAreExact(t *testing.T) {
	a, b := DefaultProfile(), DefaultProfile()
	a.Share, a.V311, a.Faults, a.NeverRead = 3, 0.5, []Fault{{schemas.CauseBoot, 0.02}, {schemas.CauseFlash, 0.01}}, 0.1
	b.FallBack = 0.25
	profiles := []Profile{a, b}
	kinds := assign(4000, profiles, 7)
	n := map[string]int{}
	for _, k := range kinds {
		switch {
		case k.profile == &profiles[1]:
			n["b"]++
		case k.v311:
			n["a 3.1.1"]++
		}
		if k.fault != "" && k.neverRead {
			t.Fatal("a device has two faults")
		}
		n[string(k.fault)]++
		if k.neverRead {
			n["never read"]++
		}
		if k.fallsBack {
			n["fall back"]++
		}
	}
	for what, want := range map[string]int{"b": 1000, "a 3.1.1": 1500, "boot": 60, "flash": 30, "never read": 300, "fall back": 250} {
		if n[what] != want {
			t.Errorf("%s: %d devices, want %d", what, n[what], want)
		}
	}
	if !slices.Equal(kinds, assign(4000, profiles, 7)) {
		t.Error("the same seed gives another fleet")
	}
	if slices.Equal(kinds, assign(4000, profiles, 8)) {
		t.Error("another seed gives the same fleet")
	}
}

// TestClock has devices woken in the order of their alarms, each when it is due.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Fleet{clock: newClock(), signal: make(chan struct{}, 1)}
		f.count.links[linkOff].Store(100)
		f.ending.Store(true) // nobody connects
		kind := kind{profile: &Profile{}}
		var all []*device
		for i := range 100 {
			d := f.newDevice(i, Login{}, &kind)
			d.stepAt = instant(time.Duration(1+i*37%100) * time.Second)
			d.wake(d.stepAt)
			d.wake(d.stepAt / 2) // too early, which does no harm
			all = append(all, d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.clock.run(ctx)
		for s := range 100 {
			time.Sleep(time.Until(f.clock.began.Add(time.Duration(s+1)*time.Second + time.Millisecond)))
			synctest.Wait()
			done := 0
			for _, d := range all {
				d.mu.Lock()
				if d.stepAt == 0 {
					done++
				}
				d.mu.Unlock()
			}
			if done != s+1 {
				t.Fatalf("after %d s %d devices have done their step", s+1, done)
			}
		}
	})
}

func TestConfigurationsThatAreNone(t *testing.T) {
	for name, spoil := range map[string]func(c *Config){
		"no profile":       func(c *Config) { c.Profiles = nil },
		"no ramp":          func(c *Config) { c.Ramp = 0 },
		"no time":          func(c *Config) { c.TimeScale = 0 },
		"no storm":         func(c *Config) { c.Storm = "wind" },
		"no share":         func(c *Config) { c.Profiles[0].Share = 0 },
		"over 100 %":       func(c *Config) { c.Profiles[0].Faults = []Fault{{schemas.CauseBoot, 0.6}, {schemas.CauseFlash, 0.6}} },
		"no such fault":    func(c *Config) { c.Profiles[0].Faults = []Fault{{schemas.CauseDeferred, 0.1}} },
		"window":           func(c *Config) { c.Profiles[0].Window = schemas.MaxWindow + 1 },
		"chunk":            func(c *Config) { c.Profiles[0].Chunk = schemas.MaxChunkSize + 1 },
		"everything lost":  func(c *Config) { c.Profiles[0].Loss = 1 },
		"version":          func(c *Config) { c.Version = "\x00" },
		"keep alive":       func(c *Config) { c.KeepAlive = time.Second },
		"repeat":           func(c *Config) { c.Repeat = 0 },
		"progress before":  func(c *Config) { c.Every = -1 },
		"progress always":  func(c *Config) { c.Every = 1 },
		"hellos":           func(c *Config) { c.Hellos = 1e9 },
		"negative latency": func(c *Config) { c.Profiles[0].Latency = -1 },
	} {
		c := DefaultConfig()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: nothing is found wrong", name)
		}
	}
}

func TestFolded(t *testing.T) {
	const text = "updates      12 answering, 34 downloading, 5 booting\n\nerrors 0\n"
	for columns, want := range map[int]string{
		0:  text,
		80: text,
		52: text,
		51: "updates      12 answering, 34 downloading, 5\n             booting\n\nerrors 0\n",
		30: "updates      12 answering, 34\n             downloading, 5\n             booting\n\nerrors 0\n",
		9:  "updates\n12\nanswering\n, 34\ndownloadi\nng, 5\nbooting\n\nerrors 0\n",
	} {
		if got := folded(text, columns); got != want {
			t.Errorf("%d columns:\n%s\nwant\n%s", columns, got, want)
		}
	}
}

// TestTableStaysInItsPlace: what a terminal is told to go up is as many rows as it has shown.
func TestTableStaysInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const columns = 80
		var shown bytes.Buffer
		f := &Fleet{cfg: Config{View: &shown, Terminal: true, Every: time.Second, Width: func() int { return columns }}, clock: newClock()}
		f.ctx, f.stop = context.WithCancel(t.Context())
		for p := range phases {
			f.count.phases[p].Store(1000)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); f.show() }()
		time.Sleep(2*time.Second + time.Millisecond)
		f.stop()
		<-ended
		first, second, ok := strings.Cut(shown.String(), "\x1b[")
		if !ok {
			t.Fatalf("it was shown once: %q", shown.String())
		}
		rows := 0
		for line := range strings.Lines(first) {
			rows += max(1, (len(line)-1+columns-1)/columns)
		}
		if want := fmt.Sprintf("%dA", rows); !strings.HasPrefix(second, want) {
			t.Errorf("%d rows were shown, then the cursor went up %.3q", rows, second)
		}
	})
}

// TestHold has nothing hold it up: neither more hellos than can be said nor a time that is far away.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Fleet{clock: newClock()}
		for _, c := range []struct {
			hold, interrupt, want time.Duration
			err                   error
		}{
			{hold: time.Minute, interrupt: time.Hour, want: time.Minute},
			{hold: time.Hour, interrupt: time.Minute, want: time.Minute, err: context.Canceled},
			{hold: Forever, interrupt: time.Hour, want: time.Hour},
		} {
			f.cfg.Hold = c.hold
			ctx, cancel := context.WithCancel(t.Context())
			interrupt := time.AfterFunc(c.interrupt, cancel)
			if held, err := f.hold(ctx); held != c.want || err != c.err {
				t.Errorf("%+v: held %v, %v", c, held, err)
			}
			interrupt.Stop()
			cancel()
		}
		// The interrupt comes while the first of a billion hellos is said.
		ctx, cancel := context.WithCancel(t.Context())
		d := &device{fleet: f, kind: &kind{profile: &Profile{}}, link: linkOnline, place: -1}
		f.devices, f.cfg.Hold, f.cfg.Hellos = []*device{d}, time.Hour, 1e11
		time.AfterFunc(20*time.Millisecond, func() { d.mu.Lock(); cancel(); d.mu.Unlock() })
		if _, err := f.hold(ctx); err != context.Canceled || f.count.hellos.Load() > 1e8 {
			t.Errorf("%d hellos were said, and then: %v", f.count.hellos.Load(), err)
		}
	})
}

// TestPrintOfUpdatesUnderWay: times that nobody has measured are not told.
func TestPrintOfUpdatesUnderWay(t *testing.T) {
	r := Result{Phases: map[string]int64{"downloading": 3}, Messages: MessageResult{Offers: 3}, Download: DownloadResult{ImageBytes: 2 << 20}}
	told := func(want ...string) {
		t.Helper()
		var b strings.Builder
		r.Print(&b)
		for _, w := range want {
			if !strings.Contains(b.String(), w+"\n") {
				t.Errorf("%q is missing:\n%s", w, b.String())
			}
		}
	}
	told("3 downloading", "2.0 MiB, no image is whole")
	r.Updates, r.Download.Seconds, r.Download.MiBPerSecond = UpdateResult{Finished: 2, AsDrawn: 1, Seconds: 4}, 2, 1
	told("3 downloading; 1 of 2 ended as drawn, in 4.0 s", "2.0 MiB in 2.0 s, 1.0 MiB/s, 0 chunks/s")
}
