package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// receiver puts chunks together as a module does.
type receiver struct {
	mu    sync.Mutex
	data  map[string][]byte
	sizes map[string][]int
	last  map[string]bool
	bad   error
}

func newReceiver() *receiver {
	return &receiver{data: map[string][]byte{}, sizes: map[string][]int{}, last: map[string]bool{}}
}

func (r *receiver) chunk(device string, b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, data, err := schemas.ParseChunk(b)
	if err != nil {
		r.bad = err
		return nil
	}
	if end := int(h.Offset) + len(data); len(r.data[device]) < end {
		r.data[device] = append(r.data[device], make([]byte, end-len(r.data[device]))...)
	}
	copy(r.data[device][h.Offset:], data)
	r.sizes[device] = append(r.sizes[device], len(data))
	r.last[device] = r.last[device] || h.Flags&schemas.ChunkFlagLast != 0
	return nil
}

func (r *receiver) count(device string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sizes[device])
}

// streaming is an env with a job under way and a receiver.
func streaming(t *testing.T, devices, size int, change ...func(*orchestrator.Options)) (*env, *receiver, orchestrator.Image) {
	e := newEnv(t, change...)
	e.sizeLimit = 16 << 20
	r := newReceiver()
	e.broker.onChunk = r.chunk
	ids := e.fleet(devices)
	m := e.image("2", content(size, 3))
	e.job("j", m.ID, ids...)
	return e, r, m
}

// ask makes a fetch the long way.
func (e *env) ask(device string, f schemas.Fetch) error { return e.askOver(device, f, nil) }

func (e *env) askOver(device string, f schemas.Fetch, s orchestrator.Session) error {
	return e.Fetch(ctx, orchestrator.Ask{Device: device}, f, s)
}

func (e *env) mayFetch(device string) bool {
	_, may := e.MayFetch(device, nil)
	return may
}

func fetch(m orchestrator.Image, chunk int, ranges ...schemas.Range) schemas.Fetch {
	return schemas.Fetch{V: 1, Image: m.ID, Tag: 7, Chunk: chunk, Ranges: ranges}
}

func TestFetchWholeImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100_001
		e, r, m := streaming(t, 3, size)
		e.start()
		defer func() { e.stop() }()
		for _, d := range []string{"d000", "d001", "d002"} {
			for at := uint64(0); at < size; at += 8 * 4096 {
				e.ok(e.ask(d, fetch(m, 4096, schemas.Range{Offset: at, Length: min(8*4096, size-at)})))
				synctest.Wait()
			}
			if !bytes.Equal(r.data[d], content(size, 3)) || !r.last[d] || r.bad != nil {
				t.Errorf("%s received %d bytes, last %v, %v", d, len(r.data[d]), r.last[d], r.bad)
			}
		}
	})
}

func TestFetchHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r, m := streaming(t, 1, 10_000)
		var chunks [][]byte
		e.broker.onChunk = func(d string, b []byte) error {
			chunks = append(chunks, bytes.Clone(b))
			return r.chunk(d, b)
		}
		e.start()
		defer func() { e.stop() }()
		e.ok(e.ask("d000", fetch(m, 100, schemas.Range{Offset: 10, Length: 250}, schemas.Range{Offset: 300, Length: 1}, schemas.Range{Offset: 9990, Length: 10})))
		synctest.Wait()
		want := content(10_000, 3)
		var got []string
		for _, c := range chunks {
			h, data, err := schemas.ParseChunk(c)
			tag, _ := schemas.TagOf(m.SHA256)
			if err != nil || h.Transfer != 7 || h.Image != tag || !bytes.Equal(data, want[h.Offset:int(h.Offset)+len(data)]) {
				t.Errorf("chunk %+v: %v", h, err)
			}
			got = append(got, fmt.Sprintf("%d+%d/%d", h.Offset, len(data), h.Flags))
		}
		if want := []string{"10+100/0", "110+100/0", "210+50/0", "300+1/0", "9990+10/1"}; !slices.Equal(got, want) {
			t.Errorf("chunks %v, want %v", got, want)
		}
	})
}

func TestFetchIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r, m := streaming(t, 2, 1000)
		must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "idle", Type: "pump"}))
		other := e.image("3", content(1000, 4))
		e.job("later", other.ID, "d000") // queued behind j
		e.start()
		defer func() { e.stop() }()
		one := schemas.Range{Length: 1000}
		e.wants(e.ask("idle", fetch(m, 1000, one)), orchestrator.ErrConflict, "no execution under way")
		e.wants(e.ask("nobody", fetch(m, 1000, one)), orchestrator.ErrConflict)
		e.wants(e.ask("d000", fetch(other, 1000, one)), orchestrator.ErrConflict)
		e.wants(e.ask("d000", fetch(m, 1000, schemas.Range{Offset: 500, Length: 501})), orchestrator.ErrInvalid, "1001", "1000")
		e.wants(e.ask("d000", fetch(m, 1000, schemas.Range{Offset: 500, Length: 100}, schemas.Range{Offset: 400, Length: 10})), orchestrator.ErrInvalid, "overlaps")
		e.wants(e.ask("d000", fetch(m, 64, make([]schemas.Range, 10_000)...)), orchestrator.ErrInvalid, "10000 ranges")
		synctest.Wait()
		if len(r.sizes) != 0 {
			t.Errorf("chunks were sent: %v", r.sizes)
		}
		x := e.execution("j", "d000")
		e.ok(e.Status(ctx, "d000", status(x, 1, schemas.StateFailed)))
		e.wants(e.ask("d000", fetch(m, 1000, one)), orchestrator.ErrConflict)
		e.ok(e.ask("d000", fetch(other, 1000, one)))
		synctest.Wait()
		if r.count("d000") != 1 {
			t.Errorf("the next execution's image came in %d chunks", r.count("d000"))
		}
	})
}

// TestFetchGoesByThePresent: what is remembered of a device's last fetch is not gone by when
// its executions have changed since, nor what was looked up just before they did.
func TestFetchGoesByThePresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r, m := streaming(t, 1, 1000)
		next, last := e.image("3", content(1000, 4)), e.image("4", content(1000, 5))
		e.job("k", next.ID, "d000") // queued behind j
		e.job("l", last.ID, "d000")
		e.start()
		defer func() { e.stop() }()
		ask := func() orchestrator.Ask {
			t.Helper()
			a, may := e.MayFetch("d000", nil)
			if !may {
				t.Fatal("one that asks once in a while may not ask")
			}
			return a
		}
		of := func(m orchestrator.Image) schemas.Fetch { return fetch(m, 1000, schemas.Range{Length: 1000}) }
		for i, step := range []struct {
			job       string
			now, then orchestrator.Image
		}{{"j", m, next}, {"k", next, last}} {
			e.ok(e.Fetch(ctx, ask(), of(step.now), nil))
			e.ok(e.Fetch(ctx, ask(), of(step.now), nil)) // goes by what is remembered
			e.wants(e.Fetch(ctx, ask(), of(step.then), nil), orchestrator.ErrConflict)
			e.ok(e.Fetch(ctx, ask(), of(step.now), nil))
			synctest.Wait()
			before := ask()
			e.ok(e.Status(ctx, "d000", status(e.execution(step.job, "d000"), uint64(i+1), schemas.StateFailed)))
			e.wants(e.Fetch(ctx, before, of(step.now), nil), orchestrator.ErrConflict)
			e.wants(e.Fetch(ctx, ask(), of(step.now), nil), orchestrator.ErrConflict)
			e.ok(e.Fetch(ctx, ask(), of(step.then), nil))
			time.Sleep(10 * time.Second) // the flow is forgotten, and its memory of a grant is not missed
			synctest.Wait()
		}
		if !bytes.Equal(r.data["d000"], content(1000, 5)) {
			t.Error("the last image did not come")
		}
	})
}

// rack is the session of a bridge: it lends memory, and counts whose chunks it is sent.
type rack struct {
	memory any
	chunks map[string]int
}

func (r *rack) Send(device string, _ schemas.ImageBytes, chunks []schemas.Chunk, _ func()) (int, error) {
	r.chunks[device] += len(chunks)
	return len(chunks), nil
}

func (r *rack) Memory() *any { return &r.memory }

// TestSessionOfManyRemembersOne: devices that take turns on one session have each its own
// rights and chunks, whichever the session remembers, and it remembers none that is forgotten.
func TestSessionOfManyRemembersOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		ids := e.fleet(2)
		images := []orchestrator.Image{e.image("2", content(1000, 2)), e.image("3", content(1000, 3))}
		for i, d := range ids {
			e.job("j"+d, images[i].ID, d)
		}
		e.start()
		defer func() { e.stop() }()
		r := &rack{chunks: map[string]int{}}
		ask := func(device string, m orchestrator.Image) error {
			a, may := e.MayFetch(device, r)
			if !may {
				t.Fatal("who asks once in a while may not ask")
			}
			return e.Fetch(ctx, a, fetch(m, 1000, schemas.Range{Length: 1000}), r)
		}
		const rounds = 4
		for range rounds {
			for i, d := range ids {
				e.ok(ask(d, images[i]))
				e.wants(ask(d, images[1-i]), orchestrator.ErrConflict)
				e.ok(ask(d, images[i]))
				synctest.Wait()
			}
			if !e.RemembersDevice(r) {
				t.Error("nothing is remembered")
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if e.RemembersDevice(r) {
				t.Error("a device is remembered that the service has forgotten")
			}
		}
		if r.chunks[ids[0]] != 2*rounds || r.chunks[ids[1]] != 2*rounds {
			t.Errorf("chunks were sent to %v", r.chunks)
		}
	})
}

// held is a session whose Send waits until it may go on, and then reads what it is to send.
type held struct {
	began, goOn chan struct{}
	read        []byte
	err         error
}

func (h *held) Send(_ string, image schemas.ImageBytes, chunks []schemas.Chunk, _ func()) (int, error) {
	h.began <- struct{}{}
	<-h.goOn
	h.read = make([]byte, chunks[0].Length)
	_, h.err = image.ReadAt(h.read, int64(chunks[0].Offset))
	return len(chunks), nil
}

// TestStopWaitsForTheTurnOfACaller: a service that ends while a read loop sends a turn leaves it
// the image until it has; who asks then is sent nothing.
func TestStopWaitsForTheTurnOfACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 1, 1000)
		e.start()
		h := &held{began: make(chan struct{}), goOn: make(chan struct{})}
		one := fetch(m, 1000, schemas.Range{Length: 1000})
		sent := make(chan error)
		go func() { sent <- e.askOver("d000", one, h) }()
		<-h.began
		stopped := false
		go func() {
			e.stop()
			stopped = true
		}()
		synctest.Wait()
		if stopped {
			t.Error("the service has ended before what it sends is sent")
		}
		close(h.goOn)
		e.ok(<-sent)
		synctest.Wait()
		if !stopped || h.err != nil || !bytes.Equal(h.read, content(1000, 3)) {
			t.Errorf("stopped %t, and the image could not be read: %v", stopped, h.err)
		}
		all := everything(content(1000, 3))
		_ = e.askOver("d000", one, all) // the store may be closed by then
		synctest.Wait()
		if n, _ := all.took(); n > 0 {
			t.Errorf("%d bytes were sent by a service that has ended", n)
		}
	})
}

// TestFetchesAreBounded sends many fetches before anything is streamed: the newest
// 2 MiB are kept, in at most 32 fetches and 256 ranges.
func TestFetchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 8 << 20
		e, r, m := streaming(t, 3, size, func(o *orchestrator.Options) { o.ModuleCredit = 16 << 20 })
		for i := range uint64(6) {
			e.ok(e.ask("d000", fetch(m, 64<<10, schemas.Range{Offset: i << 20, Length: 1 << 20})))
		}
		for i := range uint64(100) {
			e.ok(e.ask("d001", fetch(m, 100, schemas.Range{Offset: i * 1000, Length: 200})))
		}
		for i := range uint64(6) {
			holes := make([]schemas.Range, schemas.MaxRanges)
			for n := range holes {
				holes[n] = schemas.Range{Offset: i*100_000 + uint64(n)*1000, Length: 1}
			}
			e.ok(e.ask("d002", fetch(m, 100, holes...)))
		}
		e.start()
		defer func() { e.stop() }()
		synctest.Wait()
		if d, n := r.data["d000"], r.count("d000"); n != 32 || !bytes.Equal(d[4<<20:], content(size, 3)[4<<20:6<<20]) {
			t.Errorf("%d chunks, of %d bytes: not the newest 2 MiB", n, len(d))
		}
		if n := r.count("d001"); n != 64 {
			t.Errorf("%d chunks of 100 small fetches, want those of 32", n)
		}
		if n := r.count("d002"); n != 4*schemas.MaxRanges {
			t.Errorf("%d chunks of 384 small ranges", n)
		}
	})
}

// TestDevicesTakeTurns lets one worker serve three devices: a turn is 64 chunks, or
// what makes up 256 KiB.
func TestDevicesTakeTurns(t *testing.T) {
	for _, c := range []struct{ chunk, length, turn int }{
		{1000, 60_000, 60}, {16 << 10, 40 * 16 << 10, 16}, {100_000, 500_000, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, _, m := streaming(t, 3, 700_000, func(o *orchestrator.Options) { o.StreamWorkers = 1 })
			for _, d := range []string{"d000", "d001", "d002"} {
				e.ok(e.ask(d, fetch(m, c.chunk, schemas.Range{Length: uint64(c.length)})))
			}
			e.start()
			defer func() { e.stop() }()
			synctest.Wait()
			var want []string
			for left := c.length / c.chunk; left > 0; left -= c.turn {
				for _, d := range []string{"d000", "d001", "d002"} {
					want = append(want, slices.Repeat([]string{d}, min(left, c.turn))...)
				}
			}
			if !slices.Equal(e.broker.receives, want) {
				t.Errorf("chunks of %d bytes went to %v", c.chunk, e.broker.receives)
			}
		})
	}
}

// TestFirstTurnIsTheCallers: who asks while nobody waits is sent the first turn by the
// call itself; who asks while somebody waits has to wait as well.
func TestFirstTurnIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, m := streaming(t, 3, 4_000_000)
		got := func(s *session, want int) {
			t.Helper()
			if n, _ := s.took(); n != want {
				t.Errorf("%d bytes were sent, want %d", n, want)
			}
		}
		a, c := everything(content(4_000_000, 3)), everything(content(4_000_000, 3))
		e.take("d000", silent{a}, m, 16<<10, 0, 0, 1<<20) // before there are workers
		got(a, 256<<10)
		e.take("d002", silent{c}, m, 16<<10, 0, 0, 1<<20)
		got(c, 0)
		e.start()
		defer func() { e.stop() }()
		synctest.Wait()
		got(a, 1<<20)
		got(c, 1<<20)
	})
}

// TestASlowDeviceDelaysNobody blocks one device's chunks for good.
func TestASlowDeviceDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r, m := streaming(t, 3, 10_000, func(o *orchestrator.Options) { o.StreamWorkers = 2 })
		gate := make(chan struct{})
		e.broker.onChunk = func(d string, b []byte) error {
			if d == "d000" {
				<-gate
			}
			return r.chunk(d, b)
		}
		e.start()
		for _, d := range []string{"d000", "d001", "d002"} {
			e.ok(e.ask(d, fetch(m, 1000, schemas.Range{Length: 10_000})))
		}
		synctest.Wait()
		if r.count("d001") != 10 || r.count("d002") != 10 || r.count("d000") != 0 {
			t.Errorf("received %v", r.sizes)
		}
		close(gate)
		synctest.Wait()
		if r.count("d000") != 10 {
			t.Errorf("the slow device received %d", r.count("d000"))
		}
		e.stop()
	})
}

// TestChunkErrors loses chunks that cannot be sent, and goes on.
func TestChunkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r, m := streaming(t, 1, 10_000)
		n := 0
		e.broker.onChunk = func(d string, b []byte) error {
			if n++; n%2 == 0 {
				return errors.New("lost")
			}
			return r.chunk(d, b)
		}
		e.start()
		defer func() { e.stop() }()
		e.ok(e.ask("d000", fetch(m, 1000, schemas.Range{Length: 10_000})))
		synctest.Wait()
		if n != 10 || r.count("d000") != 5 {
			t.Errorf("%d chunks sent, %d received", n, r.count("d000"))
		}
		e.ok(e.blobs.Remove(ctx, m.SHA256)) // the blob is open already, so nothing is lost yet
		e.ok(e.ask("d000", fetch(m, 1000, schemas.Range{Length: 1000})))
		synctest.Wait()
		if n != 11 {
			t.Errorf("%d chunks sent", n)
		}
	})
}

// countingBlobs counts open blobs.
type countingBlobs struct {
	orchestrator.Blobs
	mu   sync.Mutex
	open int
	most int
}

type countedBlob struct {
	orchestrator.Blob
	c *countingBlobs
}

func (c *countingBlobs) Open(ctx context.Context, sum string) (orchestrator.Blob, error) {
	b, err := c.Blobs.Open(ctx, sum)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.most = max(c.most, c.open)
	return &countedBlob{b, c}, nil
}

func (b *countedBlob) Close() error {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.c.open--
	return b.Blob.Close()
}

// TestOpenBlobsAreFew streams 40 images to 40 devices: at most 16 stay open,
// and none after the end.
func TestOpenBlobsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counting := &countingBlobs{}
		e := newEnv(t, func(o *orchestrator.Options) { counting.Blobs = o.Blobs; o.Blobs = counting })
		r := newReceiver()
		e.broker.onChunk = r.chunk
		ids := e.fleet(40)
		e.start()
		for i, d := range ids {
			m := e.image(fmt.Sprint(i), content(3000, byte(i)))
			e.job("j"+d, m.ID, d)
			e.ok(e.ask(d, fetch(m, 1000, schemas.Range{Length: 3000})))
			synctest.Wait()
			if !bytes.Equal(r.data[d], content(3000, byte(i))) {
				t.Errorf("%s received another image", d)
			}
		}
		e.stop()
		if counting.most > 17 || counting.open != 0 {
			t.Errorf("at most %d blobs were open, %d are left", counting.most, counting.open)
		}
	})
}
