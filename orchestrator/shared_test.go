package orchestrator_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// block is the unit of what a listener has: all chunk sizes are multiples of it.
const block = 4 << 10

// listener models a module that follows a shared stream: it asks in ascending order for
// what it misses and alone for what did not come.
type listener struct {
	e       *env
	device  string
	image   orchestrator.Image
	session *session
	chunk   int
	window  int
	alone   bool    // it does not follow
	loss    float64 // of the chunks that it reads
	random  *rand.Rand

	mu      sync.Mutex
	have    []bool
	left    int
	awaited map[int]time.Time // blocks, and when they were asked for
	tag     uint16
	asked   map[int][]uint16 // blocks, and the tags of all fetches for them
	foreign int              // chunks of its own topic under another tag
	streamed, single, repaired,
	twice int // bytes
	done    time.Time
	stopped bool
}

// audience is a service with listeners, and the Multicaster between them.
type audience struct {
	*fairness
	listeners []*listener
	mu        sync.Mutex
	calls     int
	most      int // chunks in one call
	now       sync.WaitGroup
}

// Multicast implements orchestrator.Multicaster.
func (c *audience) Multicast(_ context.Context, sum string, image schemas.ImageBytes, chunks []schemas.Chunk, to []orchestrator.Session) (sent int) {
	c.mu.Lock()
	c.calls++
	c.most = max(c.most, len(chunks))
	c.mu.Unlock()
	for _, s := range to {
		n, _ := s.(*session).Send("", image, chunks, nil)
		sent += n
	}
	return sent
}

// newAudience has devices for listeners, of a job with that rollout.
func newAudience(t *testing.T, devices, size int, rollout *orchestrator.Rollout, change ...func(*orchestrator.Options)) *audience {
	c := &audience{fairness: &fairness{t: t, body: content(size, 3)}}
	c.env = newEnv(t, append(change, func(o *orchestrator.Options) { o.Multicaster = c })...)
	c.sizeLimit = 16 << 20
	ids := c.fleet(devices)
	c.start()
	for _, d := range ids {
		c.ok(c.Hello(ctx, d, schemas.Hello{V: 1, Streams: true, Dialect: "ayla"}))
	}
	c.image = c.env.image("2", c.body)
	must[orchestrator.Job](t)(c.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: c.image.ID, Devices: ids, Start: true, Rollout: rollout}))
	synctest.Wait()
	return c
}

// listen adds a listener whose line carries rate bytes a second.
func (c *audience) listen(rate int, change ...func(*listener)) *listener {
	n := len(c.listeners)
	l := &listener{
		e: c.env, device: deviceName(n), image: c.image, session: newSession(c.body, fairBuffer, rate), chunk: 16 << 10, window: 128 << 10,
		have: make([]bool, (len(c.body)+block-1)/block), awaited: map[int]time.Time{}, asked: map[int][]uint16{}, random: rand.New(rand.NewPCG(5, uint64(n))),
	}
	l.left = len(l.have)
	for _, f := range change {
		f(l)
	}
	l.session.received = l.received
	c.listeners = append(c.listeners, l)
	c.now.Go(l.run)
	return l
}

func (l *listener) run() {
	for {
		l.mu.Lock()
		over := l.left == 0 || l.stopped
		l.mu.Unlock()
		if over {
			return
		}
		l.ask()
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *listener) received(c schemas.Chunk) {
	l.mu.Lock()
	if l.random.Float64() < l.loss {
		l.mu.Unlock()
		return
	}
	if c.Transfer == 0 {
		l.streamed += c.Length
	} else {
		l.single += c.Length
		if !slices.Contains(l.asked[int(c.Offset/block)], c.Transfer) {
			l.foreign++
		}
	}
	for at := int(c.Offset); at < int(c.Offset)+c.Length; at += block {
		if l.have[at/block] {
			l.twice += block
			continue
		}
		l.have[at/block] = true
		delete(l.awaited, at/block)
		if l.left--; l.left == 0 {
			l.done = time.Now()
		}
	}
	l.mu.Unlock()
	l.ask()
}

// ask asks alone for what is late, and else for what is missing.
func (l *listener) ask() {
	l.mu.Lock()
	var late, wanted []int
	room := l.window/block - len(l.awaited)
	for i, have := range l.have {
		if have {
			continue
		}
		at, asked := l.awaited[i]
		switch {
		case asked && time.Since(at) >= 2*time.Second:
			late = append(late, i)
		case !asked && len(wanted) < room:
			wanted = append(wanted, i)
		}
	}
	if l.stopped || l.left == 0 || len(late) == 0 && len(wanted) < min(l.left, l.window/block/4) {
		l.mu.Unlock()
		return
	}
	follow := len(late) == 0 && !l.alone
	if len(late) > 0 {
		wanted = late
		l.repaired += len(late) * block
	}
	f := l.fetch(wanted, follow)
	l.mu.Unlock()
	if ask, may := l.e.MayFetch(l.device, l.session); may {
		l.e.ok(l.e.Fetch(ctx, ask, f, l.session))
	}
}

func (l *listener) fetch(blocks []int, follow bool) schemas.Fetch {
	l.tag = max(1, l.tag+1)
	f := schemas.Fetch{V: 1, Image: l.image.ID, Tag: l.tag, Chunk: l.chunk, Follow: follow}
	for _, i := range blocks {
		r := schemas.Range{Offset: uint64(i) * block, Length: min(block, l.image.Size-uint64(i)*block)}
		last := len(f.Ranges) - 1
		switch {
		case last >= 0 && f.Ranges[last].End() == r.Offset && len(f.Ranges) < 17:
			f.Ranges[last].Length += r.Length
		case last < 15:
			f.Ranges = append(f.Ranges, r)
		default:
			continue
		}
		delete(l.awaited, i)
	}
	f.Awaited = len(l.awaited) * block
	for _, r := range f.Ranges {
		for at := r.Offset; at < r.End(); at += block {
			l.awaited[int(at/block)] = time.Now()
			l.asked[int(at/block)] = append(l.asked[int(at/block)], l.tag)
		}
	}
	return f
}

// finish waits until all have the image, and ends everything.
func (c *audience) finish(limit time.Duration) {
	c.t.Helper()
	began := time.Now()
	for _, l := range c.listeners {
		for time.Since(began) < limit && !l.whole() {
			time.Sleep(10 * time.Millisecond)
		}
		if !l.whole() {
			c.t.Errorf("%s misses %d of %d blocks after %v", l.device, l.left, len(l.have), limit)
		}
	}
	c.close()
}

func (c *audience) close() {
	for _, l := range c.listeners {
		l.mu.Lock()
		l.stopped = true
		l.mu.Unlock()
		l.session.close()
		if l.session.wrong > 0 {
			c.t.Errorf("%s was sent %d wrong chunks", l.device, l.session.wrong)
		}
		if l.foreign > 0 { // modules drop them
			c.t.Errorf("%s was sent %d chunks under the tag of a fetch that had not asked for them", l.device, l.foreign)
		}
	}
	c.now.Wait()
	c.stop()
}

func (l *listener) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left == 0
}

const audienceSize = 4 << 20

// TestSharedStream: all followers get the image, nearly all of it by the stream, and
// nearly nothing twice.
func TestSharedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAudience(t, 20, audienceSize+100, nil)
		if o, _ := c.broker.offer("d000"); !o.Stream {
			t.Error("the offer names no stream")
		}
		for i := range 20 {
			c.listen(2<<20, func(l *listener) { l.chunk = []int{16 << 10, 32 << 10}[i%2] })
			time.Sleep(20 * time.Millisecond)
		}
		began := time.Now()
		c.finish(time.Minute)
		for _, l := range c.listeners {
			t.Logf("%s: %d streamed, %d alone, %d repaired, %d twice, %v", l.device, l.streamed, l.single, l.repaired, l.twice, l.done.Sub(began))
			if l.streamed < audienceSize*3/4 || l.twice > audienceSize/10 {
				t.Errorf("%s: %d streamed, %d alone, %d repaired, %d twice, %v", l.device, l.streamed, l.single, l.repaired, l.twice, l.done.Sub(began))
			}
		}
		if c.most > 16 {
			t.Errorf("%d chunks in one batch", c.most)
		}
	})
}

// TestSharedStreamOfTheUnequal: late and lossy ones get the image, one whose line is slow
// holds up nobody, and one that reads nothing costs nothing.
func TestSharedStreamOfTheUnequal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAudience(t, 14, audienceSize, nil)
		began := time.Now()
		for range 8 {
			c.listen(2 << 20)
		}
		lossy := c.listen(2<<20, func(l *listener) { l.loss = 0.05 })
		slow := c.listen(100_000)
		dead := newSession(c.body, fairBuffer, 0)
		c.ok(c.askOver(deviceName(10), schemas.Fetch{V: 1, Image: c.image.ID, Tag: 1, Chunk: 16 << 10, Follow: true, Ranges: []schemas.Range{{Length: 64 << 10}}}, dead))
		c.listeners = append(c.listeners, &listener{device: deviceName(10), session: dead}) // none is left
		time.Sleep(time.Second)
		for range 3 {
			c.listen(2 << 20)
		}
		c.finish(2 * time.Minute)
		for i, l := range c.listeners {
			t.Logf("%s: %d streamed, %d alone, %d repaired, %d twice, %v", l.device, l.streamed, l.single, l.repaired, l.twice, l.done.Sub(began))
			if took := l.done.Sub(began); l != slow && l != lossy && l.session != dead && took > 8*time.Second {
				t.Errorf("listener %d took %v", i, took)
			}
		}
		if n, _ := dead.took(); n > fairBuffer+16<<10 {
			t.Errorf("the one that does not read was sent %d bytes", n)
		}
		if lossy.streamed == 0 || lossy.repaired == 0 {
			t.Errorf("the lossy one: %d streamed, %d repaired", lossy.streamed, lossy.repaired)
		}
	})
}

// TestFewDoNotShare: below the number from which sharing pays, and in jobs that do not
// want it, each is sent its own; always is for two already, and never for one.
func TestFewDoNotShare(t *testing.T) {
	for _, tt := range []struct {
		mode    orchestrator.StreamMode
		devices int
		offered bool
		shared  bool
	}{
		{"", 3, true, false}, {orchestrator.StreamAuto, 3, true, false}, {orchestrator.StreamNever, 6, false, false},
		{orchestrator.StreamAlways, 1, true, false}, {orchestrator.StreamAlways, 2, true, true}, {orchestrator.StreamAuto, 6, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var r *orchestrator.Rollout
			if tt.mode != "" {
				r = &orchestrator.Rollout{Stream: tt.mode}
			}
			c := newAudience(t, tt.devices, 1<<20, r)
			if o, _ := c.broker.offer("d000"); o.Stream != tt.offered {
				t.Errorf("%v: the offer says stream %v", tt, o.Stream)
			}
			for range tt.devices {
				c.listen(1 << 20)
			}
			c.finish(time.Minute)
			if got := c.calls > 0; got != tt.shared {
				t.Errorf("%v: %d batches were shared", tt, c.calls)
			}
		})
	}
}

// TestSharedStreamEnds: nothing is sent when nobody follows any more, and an image that
// is deleted meanwhile stays readable until then.
func TestSharedStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counting := &countingBlobs{}
		c := newAudience(t, 6, audienceSize, nil, func(o *orchestrator.Options) { counting.Blobs = o.Blobs; o.Blobs = counting })
		for range 6 {
			c.listen(1 << 20)
		}
		time.Sleep(time.Second)
		for _, l := range c.listeners {
			l.mu.Lock()
			l.stopped = true
			l.mu.Unlock()
		}
		synctest.Wait() // a fetch may be under way
		must[orchestrator.Job](t)(c.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		c.ok(counting.Remove(ctx, c.image.SHA256))
		time.Sleep(5 * time.Second) // they have fallen silent
		calls := c.calls
		if calls == 0 {
			t.Error("nothing was shared")
		}
		c.wants(c.askOver("d000", schemas.Fetch{V: 1, Image: c.image.ID, Tag: 9, Chunk: 4096, Follow: true, Ranges: []schemas.Range{{Length: 1}}}, c.listeners[0].session), orchestrator.ErrConflict)
		time.Sleep(10 * time.Second)
		if c.calls != calls {
			t.Errorf("%d batches were sent to nobody", c.calls-calls)
		}
		c.close()
		if counting.open != 0 {
			t.Errorf("%d blobs are open", counting.open)
		}
	})
}

// gatedAudience sends nothing to several before gate is closed.
type gatedAudience struct {
	*audience
	gate chan struct{}
}

// Multicast implements orchestrator.Multicaster.
func (c *gatedAudience) Multicast(ctx context.Context, sum string, image schemas.ImageBytes, chunks []schemas.Chunk, to []orchestrator.Session) int {
	<-c.gate
	return c.audience.Multicast(ctx, sum, image, chunks, to)
}

// TestManifestBesideTheStream: who follows an image's stream and fetches a manifest meanwhile
// goes on following: the image comes by what it has asked for before, shared, and nothing is given up.
func TestManifestBesideTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const devices = 5
		c := &gatedAudience{&audience{fairness: &fairness{t: t, body: content(300_000, 3)}}, make(chan struct{})}
		e := newSigner(t, func(o *orchestrator.Options) { o.Multicaster = c })
		c.env = e.env
		ids := e.fleet(devices)
		m, signed := e.signedImage("2", c.body)
		e.job("j", m.ID, ids...)
		var mu sync.Mutex
		var image, papers [devices]int
		sessions := make([]*session, devices)
		fetch := func(i int, id string, size, awaited int) {
			f := schemas.Fetch{V: 1, Image: id, Tag: 3, Chunk: 8192, Follow: true, Awaited: awaited, Ranges: []schemas.Range{{Length: uint64(size)}}}
			e.ok(e.askOver(ids[i], f, sessions[i]))
		}
		tag, _ := schemas.TagOf(m.SHA256)
		for i := range sessions {
			sessions[i] = newSession(nil, fairBuffer, -1)
			defer sessions[i].close()
			sessions[i].received = func(x schemas.Chunk) {
				mu.Lock()
				defer mu.Unlock()
				if x.Image == tag {
					image[i] += x.Length
				} else {
					papers[i] += x.Length
				}
			}
			fetch(i, m.ID, len(c.body), 0)
		}
		e.start() // with all of them there: what is sent before they are enough to share is sent to each
		defer func() { e.stop() }()
		synctest.Wait()
		bundle := signed.Bundle()
		fetch(0, m.Manifest.SHA256, len(bundle)/2, 0)
		fetch(0, m.Manifest.SHA256, len(bundle), len(bundle)/2)
		synctest.Wait()
		if papers[0] < len(bundle) {
			t.Errorf("%d of %d bytes of the manifest came while the stream stood still", papers[0], len(bundle))
		}
		close(c.gate)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, n := range image {
			if n != len(c.body) {
				t.Errorf("device %d was sent %d of %d bytes of the image", i, n, len(c.body))
			}
		}
		if c.calls == 0 {
			t.Error("nothing was shared, so nothing is proved")
		}
	})
}
