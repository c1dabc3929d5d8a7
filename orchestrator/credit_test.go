package orchestrator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// everything is a session that takes all and says nothing.
func everything(body []byte) *session { return newSession(body, 1<<30, -1) }

// silent hides what a session knows of its far end.
type silent struct{ orchestrator.Session }

// take makes a fetch of one range through a session.
func (e *env) take(device string, s orchestrator.Session, m orchestrator.Image, chunk, awaited int, offset, length uint64) {
	e.t.Helper()
	f := fetch(m, chunk, schemas.Range{Offset: offset, Length: length})
	f.Awaited = awaited
	e.ok(e.askOver(device, f, s))
}

// TestModuleCredit: what is under way to a device ends at the limit, goes on with
// what it confirms, and what it says that it still awaits stays under way.
func TestModuleCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := content(4_000_000, 3)
		e, _, m := streaming(t, 1, 4_000_000, func(o *orchestrator.Options) { o.ModuleCredit = 300_000 })
		e.start()
		defer func() { e.stop() }()
		s := everything(body)
		takes := func(want int) {
			t.Helper()
			synctest.Wait()
			if n, _ := s.took(); n != want {
				t.Errorf("%d bytes were sent in all, want %d", n, want)
			}
		}
		e.take("d000", silent{s}, m, 10_000, 0, 0, 500_000)
		takes(300_000)
		e.take("d000", silent{s}, m, 10_000, 400_000, 500_000, 100_000) // 100,000 of them have come
		takes(400_000)
		e.take("d000", silent{s}, m, 10_000, 500_000, 600_000, 10_000) // none
		takes(400_000)
		e.take("d000", silent{s}, m, 10_000, 200_000, 610_000, 10_000) // 300,000, and 100,000 are given up
		takes(610_000)
		if s.wrong > 0 {
			t.Errorf("%d chunks were wrong", s.wrong)
		}
	})
}

// TestFirstCredit: over a connection that tells what has arrived a device begins with
// little, is given more as soon as that has arrived, and is never stuck for it.
func TestFirstCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 1, 4_000_000)
		e.start()
		defer func() { e.stop() }()
		r := (&fairness{env: e, t: t}).newReader("d000", m, content(4_000_000, 3), 16<<10, 2<<20, 4<<20, 100<<20)
		defer r.session.close()
		e.take("d000", r.session, m, 32<<10, 0, 0, 2<<20)
		synctest.Wait()
		if n, _ := r.session.took(); n != 64<<10 {
			t.Errorf("%d bytes were sent at once, want 65536", n)
		}
		time.Sleep(time.Second)
		if n, _ := r.session.took(); n < 2<<20 {
			t.Errorf("%d bytes were sent in a second over a fast line, want 2097152 or more", n)
		}
	})
}

// TestLapsedCredit: a device that does not ask again is counted no more after five
// seconds, and has to earn its credit again.
func TestLapsedCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 1, 4_000_000)
		e.start()
		defer func() { e.stop() }()
		s := everything(nil)
		e.take("d000", silent{s}, m, 32<<10, 0, 0, 2<<20)
		synctest.Wait()
		if n, _ := s.took(); n != 2<<20 {
			t.Fatalf("%d bytes were sent to a device that was never heard of before", n)
		}
		time.Sleep(20 * time.Second)
		before := 2 << 20
		for _, want := range []int{64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 2 << 20} {
			e.take("d000", silent{s}, m, 32<<10, 0, 0, 2<<20)
			synctest.Wait()
			n, _ := s.took()
			if n-before != want {
				t.Errorf("%d bytes were sent, want %d", n-before, want)
			}
			before = n
		}
	})
}

// TestTotalCredit: what is under way to all is capped, those on trial have half of
// it, and the share of a silent one comes back in time.
func TestTotalCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 3, 1_600_000, func(o *orchestrator.Options) {
			o.ModuleCredit, o.TotalCredit, o.StreamWorkers = 800_000, 1_600_000, 1
		})
		e.start()
		defer func() { e.stop() }()
		a, b, c := everything(nil), everything(nil), everything(nil)
		sum := func(want int) {
			t.Helper()
			synctest.Wait()
			n, k := 0, 0
			for _, s := range []*session{a, b, c} {
				n, _ = s.took()
				k += n
			}
			if k != want {
				t.Errorf("%d bytes were sent in all, want %d", k, want)
			}
		}
		e.take("d000", silent{a}, m, 40_000, 0, 0, 400_000)
		sum(400_000)
		e.take("d001", silent{b}, m, 40_000, 0, 0, 800_000)
		sum(800_000) // half of the total
		e.take("d000", silent{a}, m, 40_000, 0, 0, 800_000)
		sum(2_000_000) // d000 has proven itself, so d001 has the trial's part and it has the other
		e.take("d002", silent{c}, m, 40_000, 0, 0, 800_000)
		sum(2_000_000)
		e.take("d001", silent{b}, m, 40_000, 0, 0, 400_000)
		sum(2_800_000) // b's 800,000 are confirmed: now c is tried, up to the total
		before, _ := c.took()
		time.Sleep(10 * time.Second)
		if after, _ := c.took(); after == before {
			t.Error("d002 is sent nothing though all have lapsed")
		}
	})
}

// TestChunksAllocateNothing measures turns of a flow that is asked for over and
// over: what is allocated does not grow with the chunks of a fetch.
func TestChunksAllocateNothing(t *testing.T) {
	e, _, m := streaming(t, 1, 4_000_000)
	e.start()
	defer e.stop()
	last := make(chan struct{}, 1)
	s := everything(nil)
	s.received = func(c schemas.Chunk) {
		if c.Flags&schemas.ChunkFlagLast != 0 {
			last <- struct{}{}
		}
	}
	run := func(chunks uint64) float64 {
		return testing.AllocsPerRun(200, func() {
			ranges := []schemas.Range{{Offset: 4_000_000 - chunks*1000, Length: chunks * 1000}}
			if err := e.askOver("d000", schemas.Fetch{V: 1, Image: m.ID, Chunk: 1000, Ranges: ranges}, s); err != nil {
				t.Error(err)
			}
			<-last
		})
	}
	// What others of the process allocate meanwhile is counted too, and the race detector takes things out of pools: the
	// least of several runs is what fetches need.
	least := func(chunks uint64) float64 { return min(run(chunks), run(chunks), run(chunks), run(chunks)) }
	run(1)
	one, many := least(1), least(schemas.MaxWindow)
	t.Logf("%v allocations a fetch of one chunk, %v of %d", one, many, schemas.MaxWindow)
	if many > one || one > 2 {
		t.Errorf("%v allocations a fetch of one chunk, %v of %d; want no more for more chunks, and at most 2, of which one is the list of ranges", one, many, schemas.MaxWindow)
	}
}
