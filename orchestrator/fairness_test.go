package orchestrator_test

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/orchestrator"
	"davit/schemas"
)

// fairness is a service with readers that each could have a megabyte a second.
type fairness struct {
	*env
	t       *testing.T
	image   orchestrator.Image
	body    []byte
	reg     *prometheus.Registry
	readers []*reader
	others  []*session // of devices that misbehave
}

const (
	fairSize   = 8 << 20
	fairRate   = 1 << 20
	fairTime   = 20 * time.Second
	fairBuffer = 256 << 10
)

// newFairness has devices for the readers, which come first, and for others.
func newFairness(t *testing.T, readers, others int, change ...func(*orchestrator.Options)) *fairness {
	f := &fairness{t: t, reg: prometheus.NewPedanticRegistry(), body: content(fairSize, 3)}
	change = append(change, func(o *orchestrator.Options) { o.Metrics = orchestrator.NewMetrics(f.reg) })
	f.env, _, f.image = streaming(t, readers+others, fairSize, change...)
	for i := range readers {
		f.readers = append(f.readers, f.newReader(deviceName(i), f.image, f.body, 16<<10, 512<<10, fairBuffer, fairRate))
	}
	f.start()
	synctest.Wait() // all have been offered the image
	return f
}

func deviceName(i int) string { return fmt.Sprintf("d%03d", i) }

// run lets all read for a while and returns the least that one got of what its
// line could carry.
func (f *fairness) run() float64 {
	for _, r := range f.readers {
		r.ask()
	}
	time.Sleep(fairTime)
	least := 1.0
	for _, r := range f.readers {
		least = min(least, float64(r.progress())/(fairRate*fairTime.Seconds()))
	}
	return least
}

// end stops everything and looks for what may never be.
func (f *fairness) end() {
	for _, r := range f.readers {
		r.session.close()
		if r.session.wrong > 0 {
			f.t.Errorf("%s was sent %d wrong chunks", r.device, r.session.wrong)
		}
	}
	for _, s := range f.others {
		s.close()
	}
	f.stop()
}

// value is that of a counter or gauge with one label at most.
func (f *fairness) value(name, label string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, fam := range families {
		for _, m := range fam.GetMetric() {
			if fam.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	f.t.Fatalf("no metric %s %s", name, label)
	return 0
}

// TestSlowAndFastReaders: a slow one delays nobody, one that reads at once whatever
// it is sent starves nobody, also where the total is scarce.
func TestSlowAndFastReaders(t *testing.T) {
	for _, c := range []struct {
		name                string
		buffer, rate, chunk int
		total               int64
	}{
		{"slow", 64 << 10, 5_000, 4 << 10, 0},
		{"slow, scarce", 64 << 10, 5_000, 4 << 10, 16 << 20},
		{"fast", 1 << 30, 40 << 20, 64 << 10, 0},
		{"fast, scarce", 1 << 30, 40 << 20, 64 << 10, 16 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFairness(t, 16, 1, func(o *orchestrator.Options) { o.TotalCredit, o.StreamWorkers = c.total, 1 })
				defer f.end()
				odd := f.newReader(deviceName(16), f.image, f.body, c.chunk, 2<<20, c.buffer, c.rate)
				f.others = append(f.others, odd.session)
				odd.ask()
				if least := f.run(); least < 0.98 {
					t.Errorf("one got %.3f of its line beside it", least)
				}
				if got := float64(odd.progress()); got < 0.7*float64(c.rate)*fairTime.Seconds() {
					t.Errorf("the odd one got %v bytes in %v", got, fairTime)
				}
			})
		})
	}
}

// TestManyThatReadSlowly: those that ask for much and take little hold most of the total
// credit, and leave enough of it to those that take what they ask for.
func TestManyThatReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 64
		f := newFairness(t, 8, slow, func(o *orchestrator.Options) { o.TotalCredit, o.StreamWorkers = 32<<20, 1 })
		defer f.end()
		for i := range slow {
			r := f.newReader(deviceName(8+i), f.image, f.body, 16<<10, 2<<20, 1<<20, 5_000)
			f.others = append(f.others, r.session)
			r.ask()
		}
		time.Sleep(time.Minute) // they have as much as they get
		if least := f.run(); least < 0.95 {
			t.Errorf("one got %.3f of its line beside them", least)
		}
	})
}

// TestOneThatNeverReads: it gets what its socket holds, is asked no more than that,
// and its credit lapses.
func TestOneThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFairness(t, 4, 1)
		defer f.end()
		s := newSession(f.body, fairBuffer, 0)
		f.others = append(f.others, s)
		for range 100 {
			f.take(deviceName(4), s, f.image, 16<<10, 0, 0, 1<<20)
			time.Sleep(100 * time.Millisecond)
		}
		if least := f.run(); least < 0.98 {
			t.Errorf("one got %.3f of its line", least)
		}
		if n, _ := s.took(); n > fairBuffer+16<<10 {
			t.Errorf("it was sent %d bytes", n)
		}
		if s.sends > 200 {
			t.Errorf("it was tried %d times", s.sends)
		}
		if f.value(orchestrator.MetricChunkWaits, "session") == 0 || f.value(orchestrator.MetricWithdrawnBytes, "newer") == 0 {
			t.Error("nothing was counted")
		}
	})
}

// TestFetchFlood: a device that asks as fast as it can is read as often as it is
// answered. When it has come to its senses it is held to nothing of before.
func TestFetchFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFairness(t, 4, 1)
		defer f.end()
		s := newSession(f.body, fairBuffer, 0)
		f.others = append(f.others, s)
		read := 0
		go func() {
			for range 20 * 1000 {
				time.Sleep(time.Millisecond)
				for range 20 {
					if f.mayFetch(deviceName(4)) {
						read++
						f.take(deviceName(4), s, f.image, 16<<10, 0, 0, 1<<20)
					}
				}
			}
		}()
		if least := f.run(); least < 0.98 {
			t.Errorf("one got %.3f of its line", least)
		}
		synctest.Wait()
		if read < 16 || read > 16+2*20+40 {
			t.Errorf("%d of 400,000 fetches were read in %v", read, fairTime)
		}
		time.Sleep(2 * time.Second)
		reads := everything(f.body)
		for i := range 1000 { // who is answered each time is never refused
			if !f.mayFetch(deviceName(4)) {
				t.Fatalf("fetch %d after the flood was refused", i)
			}
			f.take(deviceName(4), reads, f.image, 16<<10, 0, uint64(i%100)<<10, 16<<10)
			synctest.Wait()
		}
		if n, _ := reads.took(); n < 1000*16<<10 || reads.wrong > 0 { // with what the flood has left
			t.Errorf("%d bytes came after the flood, %d chunks were wrong", n, reads.wrong)
		}
	})
}

// TestEveryAnswerEarnsAFetch: a module that asks for one chunk at a time is not
// taken for a flood, however fast it is.
func TestEveryAnswerEarnsAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 1, 100_000)
		e.start()
		defer func() { e.stop() }()
		s := everything(nil)
		for i := range 10_000 {
			if !e.mayFetch("d000") {
				t.Fatalf("fetch %d was refused", i)
			}
			e.take("d000", s, m, 1000, 0, uint64(i%100)*1000, 1000)
			synctest.Wait()
		}
	})
}

// TestBytesEarnFetches: a module whose every fetch names all of a window is not taken for a
// flood, though none of them is answered to its end; one that asks for much more than
// it takes is read as often as what it takes is worth.
func TestBytesEarnFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, step, size = 256 << 10, 16 << 10, 4 << 20
		e, _, m := streaming(t, 2, size)
		e.start()
		defer func() { e.stop() }()
		slides := newSession(content(size, 0), step, 64*step)
		defer slides.close()
		for i := range 1000 {
			time.Sleep(time.Second / 64)
			if !e.mayFetch("d000") {
				t.Fatalf("fetch %d of a window that slides was refused", i)
			}
			e.take("d000", slides, m, 4<<10, window, uint64(i*step%(size-window)), window)
		}
		const seconds, rate = 60, 20 << 10
		slow := newSession(content(size, 0), step, rate)
		defer slow.close()
		read := 0
		for i := range 10 * seconds {
			if e.mayFetch("d001") {
				read++
				e.take("d001", slow, m, 4<<10, 0, uint64(i*64<<10%(size/2)), 64<<10)
			}
			time.Sleep(time.Second / 10)
		}
		// What it takes earns it five in four seconds; two come beside those, as something always waits.
		if least, most := rate/step*seconds, 16+2*seconds; read < least || read > most {
			t.Errorf("%d of %d fetches were read, %d to %d should be", read, 10*seconds, least, most)
		}
	})
}

// TestSlowReaderIsSentSome: a module that reads small chunks slowly, of more than its
// connection has under way, is sent several at a time and is never without.
func TestSlowReaderIsSentSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk, size, rate = 4 << 10, 256 << 10, 20 << 10
		e, _, m := streaming(t, 1, size)
		e.start()
		defer func() { e.stop() }()
		slow := newSession(content(size, 0), 1<<20, rate)
		defer slow.close()
		e.take("d000", slow, m, chunk, 0, 0, size)
		time.Sleep(size / 2 / rate * time.Second)
		slow.mu.Lock()
		defer slow.mu.Unlock()
		if slow.held < 32<<10 {
			t.Errorf("%d bytes are under way to it", slow.held)
		}
		if most := slow.bytes/(16<<10) + 2; slow.sends > most {
			t.Errorf("%d chunks were sent in %d turns, want at most %d", slow.chunks, slow.sends, most)
		}
	})
}

// TestStrangersAskLittle: one device may ask sixteen times before it was answered, a thousand
// together not sixteen thousand times; and what one has earned nobody takes from it.
func TestStrangersAskLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd = 1000
		e, _, m := streaming(t, crowd+2, 100_000)
		e.start()
		defer func() { e.stop() }()
		ask := func(device, times int) (read int) {
			for range times {
				if e.mayFetch(deviceName(device)) {
					read++
				}
			}
			return read
		}
		if n := ask(crowd, 100); n != 16 {
			t.Errorf("one alone may ask %d times", n)
		}
		earns := deviceName(crowd + 1)
		for i := range uint64(100) {
			e.take(earns, everything(nil), m, 1000, 0, i*1000, 1000)
		}
		synctest.Wait()
		flood := func() (read int) {
			for i := range crowd {
				read += ask(i, 16)
			}
			return read
		}
		if n := flood(); n > 5*crowd {
			t.Errorf("strangers may ask %d times at once", n)
		}
		if n := ask(crowd+1, 100); n != 16 {
			t.Errorf("one that has earned sixteen fetches may ask %d times beside them", n)
		}
		time.Sleep(time.Second)
		if n := flood(); n < 2*crowd || n > 3*crowd {
			t.Errorf("a second later they may ask %d times", n)
		}
	})
}

// TestTinyRanges: ranges of a byte all over the image, never the same, are
// answered a few chunks a turn and hold up nobody.
func TestTinyRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFairness(t, 4, 4, func(o *orchestrator.Options) { o.StreamWorkers = 1 })
		defer f.end()
		stop := make(chan struct{})
		for i := range 4 {
			s := newSession(f.body, fairBuffer, 1<<30)
			f.others = append(f.others, s)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			ask := func() {
				holes := make([]schemas.Range, schemas.MaxRanges)
				for n := range holes {
					const part = fairSize / schemas.MaxRanges
					holes[n] = schemas.Range{Offset: uint64(n)*part + random.Uint64N(part), Length: 1}
				}
				f.ok(f.askOver(deviceName(4+i), fetch(f.image, 64, holes...), s))
			}
			go func() {
				for {
					ask()
					time.Sleep(20 * time.Millisecond)
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		least := f.run()
		close(stop)
		time.Sleep(time.Second)
		if least < 0.98 {
			t.Errorf("one got %.3f of its line", least)
		}
		for _, s := range f.others {
			if n, c := s.took(); n != c || c < 1000*60 {
				t.Errorf("%d bytes in %d chunks", n, c)
			}
		}
	})
}

// TestThousandsThatNeverRead: they ask for all that they may, over and over, and
// the readers keep what their lines carry. Those that ask often say each time that
// everything has come, which their connections know better: they lapse like those that ask
// seldom, and all that waits is counted by what for.
func TestThousandsThatNeverRead(t *testing.T) {
	for _, pause := range []time.Duration{3 * time.Second, 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const crowd = 1000
			f := newFairness(t, 16, crowd, func(o *orchestrator.Options) { o.TotalCredit = 32 << 20 })
			defer f.end()
			var asking sync.WaitGroup
			for i := range crowd {
				s := newSession(nil, fairBuffer, 0)
				f.others = append(f.others, s)
				asking.Go(func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					for began := time.Now(); time.Since(began) < fairTime; time.Sleep(pause) {
						if f.mayFetch(deviceName(16 + i)) {
							f.take(deviceName(16+i), s, f.image, 32<<10, 0, 0, 2<<20)
						}
					}
				})
			}
			if least := f.run(); least < 0.95 {
				t.Errorf("asked every %v, one got %.3f of its line", pause, least)
			}
			if n := f.value(orchestrator.MetricOutstanding, ""); n > 32<<20+4*128<<10 {
				t.Errorf("%v bytes are under way", n)
			}
			// Each lapses whenever nothing has arrived for five seconds.
			if n := f.value(orchestrator.MetricCreditLapses, ""); n < 3*crowd || n > 4*crowd {
				t.Errorf("asked every %v, %d devices lapsed %v times", pause, crowd, n)
			}
			for what, least := range map[string]float64{"module": crowd, "total": 1, "session": crowd} {
				if n := f.value(orchestrator.MetricChunkWaits, what); n < least {
					t.Errorf("asked every %v, %v waits for %s were counted, at least %v are expected", pause, n, what, least)
				}
			}
			asking.Wait()
		})
	}
}

// TestThousandsThatComeBackAndNeverRead: a new connection is no word that what was under way
// on the one before has arrived, so those that come back over and over stay on trial.
func TestThousandsThatComeBackAndNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd, visits, total = 1000, 8, 32 << 20
		f := newFairness(t, 16, crowd, func(o *orchestrator.Options) { o.TotalCredit = total })
		defer f.end()
		for _, r := range f.readers {
			r.ask()
		}
		time.Sleep(2 * time.Second) // nobody is on trial any more
		for range visits {
			for _, s := range f.others {
				s.close()
			}
			f.others = f.others[:0]
			for i := range crowd {
				s := newSession(nil, fairBuffer, 0)
				f.others = append(f.others, s)
				if f.mayFetch(deviceName(16 + i)) {
					f.take(deviceName(16+i), s, f.image, 32<<10, 0, 0, 2<<20)
				}
			}
			synctest.Wait()
			if n := f.value(orchestrator.MetricOutstanding, ""); n > total/2+16*512<<10 { // the readers' windows
				t.Fatalf("%v bytes are under way", n)
			}
			time.Sleep(2 * time.Second)
		}
		for _, r := range f.readers {
			if got := float64(r.progress()) / (2 * (1 + visits) * fairRate); got < 0.95 {
				t.Errorf("%s got %.3f of its line", r.device, got)
			}
		}
	})
}

// TestImageDeletedWhileServed: what was asked for before is sent, and the blob is
// closed when nobody needs it any more.
func TestImageDeletedWhileServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counting := &countingBlobs{}
		f := newFairness(t, 0, 3, func(o *orchestrator.Options) { counting.Blobs = o.Blobs; o.Blobs = counting })
		var all []*session
		for i := range 3 {
			s := newSession(f.body, 64<<10, fairRate)
			all = append(all, s)
			f.take(deviceName(i), s, f.image, 16<<10, 0, 0, 1<<20)
		}
		synctest.Wait()
		must[orchestrator.Job](t)(f.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		f.ok(counting.Remove(ctx, f.image.SHA256))
		f.wants(f.askOver(deviceName(0), fetch(f.image, 16<<10, schemas.Range{Length: 1}), all[0]), orchestrator.ErrConflict)
		time.Sleep(fairTime)
		for _, s := range all {
			if n, _ := s.took(); n != 1<<20 || s.wrong > 0 {
				t.Errorf("%d bytes came, %d chunks were wrong", n, s.wrong)
			}
			s.close()
		}
		f.stop()
		if counting.open != 0 {
			t.Errorf("%d blobs are open", counting.open)
		}
	})
}

// TestSessionEnds: what was asked for by a connection that is lost is dropped and
// counted; the next connection begins anew.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFairness(t, 0, 1)
		defer f.end()
		s := newSession(f.body, 64<<10, 0)
		f.take(deviceName(0), s, f.image, 16<<10, 0, 0, 1<<20)
		synctest.Wait()
		s.close()
		time.Sleep(10 * time.Second) // it waited for credit, and has lapsed
		if n := f.value(orchestrator.MetricWithdrawnBytes, "session"); n != 1<<20-64<<10 {
			t.Errorf("%v bytes were dropped with the session", n)
		}
		again := newSession(f.body, 1<<30, -1)
		f.take(deviceName(0), again, f.image, 16<<10, 0, 0, 1<<20)
		time.Sleep(time.Second)
		if n, _ := again.took(); n != 1<<20 {
			t.Errorf("%d bytes went to the next session", n)
		}
		if testutil.CollectAndCount(f.reg) == 0 {
			t.Error("no metrics")
		}
	})
}
