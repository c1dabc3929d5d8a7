package bridge

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/schemas"
)

// A download goes on where it was, and the image is asked for once.
func TestDownloadContinues(t *testing.T) {
	const size = 400_000
	inWorld(t, sim.MCUConfig{}, size, one(), func(w *world) {
		w.cfg.Spool.SyncBytes = 20_000
		w.stop()
		w.start()
		w.service.offer(pump, w.theOffer())
		for range 4 {
			w.awaitState(schemas.StateDownloading)
			time.Sleep(250 * time.Millisecond)
			w.kill()
			w.start()
		}
		w.wantSuccess(pump)
		// Each kill may cost what was not synced and what was under way.
		if limit := size + 4*(20_000+16*1024); w.service.bytes() > limit {
			t.Errorf("%d bytes were served for an image of %d, want at most %d", w.service.bytes(), size, limit)
		}
	})
}

func TestChunksLostDoubledAndForeign(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 30_000, one(), func(w *world) {
		w.service.chunk = func(n int, b []byte) []byte {
			switch n % 7 {
			case 0:
				return nil // lost
			case 1:
				w.service.send(topicOf(pump, schemas.KindChunk), b) // twice
			case 2:
				for _, foreign := range foreignChunks(b, len(w.image)) {
					w.service.send(topicOf(pump, schemas.KindChunk), foreign)
				}
			}
			return b
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
	})
}

// foreignChunks are chunks that have to be dropped: each would spoil the image.
func foreignChunks(b []byte, size int) [][]byte {
	var out [][]byte
	change := func(at int, v byte) {
		c := slices.Clone(b)
		c[at] ^= v
		c[len(c)-1] ^= 0xff // its data is wrong
		out = append(out, c)
	}
	change(0, 3)    // version
	change(1, 0x80) // flags
	change(2, 0x55) // transfer tag
	change(4, 1)    // image tag
	change(11, 1)   // an offset beyond the image
	out = append(out, b[:10], nil, b[:16], make([]byte, size))
	return out
}

func TestWrongImageIsFetchedAgainAndGivenUp(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		w.service.chunk = func(n int, b []byte) []byte {
			if n <= 10 { // the first copy has a wrong byte
				b[len(b)-1] ^= 1
			}
			return b
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
	})
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		w.service.chunk = func(_ int, b []byte) []byte { b[len(b)-1] ^= 1; return b }
		w.service.offer(pump, w.theOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseChecksum)
		if v := w.mcus[pump].Stats().Loads; v != 0 {
			t.Errorf("%d LOADs of an image that was never verified", v)
		}
		if n := w.service.bytes(); n > 3*10_000 {
			t.Errorf("%d bytes were served", n)
		}
	})
}

func TestServiceThatSendsNothing(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		w.service.chunk = func(int, []byte) []byte { return nil }
		w.service.offer(pump, w.theOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseNetwork)
		if n := w.service.fetchCount(); n > 100 {
			t.Errorf("asked %d times in half an hour", n)
		}
	})
}

// rack is as many devices as a bridge has ports.
func rack() []string {
	var ids []string
	for i := range MaxPorts {
		ids = append(ids, fmt.Sprintf("d%02d", i))
	}
	return ids
}

// offerTo offers the world's image to devices, each by an execution of its own.
func (w *world) offerTo(devices []string) {
	for _, d := range devices {
		o := w.theOffer()
		o.Execution = "ex-" + d
		w.service.offer(d, o)
	}
}

// wantOneFetch waits until all devices run the image, and holds what was fetched
// for them against one image: each of its bytes was asked for once and served once,
// and there is one copy on disk.
func (w *world) wantOneFetch(devices []string) {
	w.Helper()
	for _, d := range devices {
		if st := w.awaitEnd("ex-" + d); st.State != schemas.StateSucceeded {
			w.Errorf("%s: %s, %s", d, st.State, st.Detail)
		}
		w.wantImage(d)
	}
	w.wantAskedOnce()
	files, err := filepath.Glob(filepath.Join(w.dir, "spool", w.theOffer().SHA256+".*"))
	if err != nil || len(files) != 1 || w.bridge.spool.Used() != int64(len(w.image)) {
		w.Errorf("in the spool: %q, %d bytes, error %v", files, w.bridge.spool.Used(), err)
	}
}

// wantAskedOnce: each byte of the image was asked for once and served once.
func (w *world) wantAskedOnce() {
	w.Helper()
	if n := w.service.bytes(); n != len(w.image) {
		w.Errorf("%d bytes were served for one image of %d", n, len(w.image))
	}
	w.service.mu.Lock()
	asked := slices.Clone(w.service.asked)
	w.service.mu.Unlock()
	slices.SortFunc(asked, func(a, b schemas.Range) int { return cmp.Compare(a.Offset, b.Offset) })
	end := uint64(0)
	for _, r := range asked {
		if r.Offset != end {
			w.Errorf("range %+v was asked for behind byte %d", r, end)
		}
		end = r.End()
	}
	if end != uint64(len(w.image)) {
		w.Errorf("asked for up to byte %d of %d", end, len(w.image))
	}
}

// One image for all ports of a full bridge is fetched once.
func TestSingleFlight(t *testing.T) {
	t.Parallel() // most of its time are writes to the disk
	inWorld(t, sim.MCUConfig{}, 10_000, rack(), func(w *world) {
		w.offerTo(rack())
		w.wantOneFetch(rack())
	})
}

// Those that come when half of the image is there get the same one, and so do
// those that come when others are being loaded.
func TestSingleFlightInWaves(t *testing.T) {
	t.Parallel() // most of its time are writes to the disk
	inWorld(t, sim.MCUConfig{}, 10_000, rack(), func(w *world) {
		w.offerTo(rack()[:32])
		w.await("half of the image", func() bool { return w.service.bytes() >= len(w.image)/2 })
		if n := w.service.bytes(); n >= len(w.image) {
			t.Errorf("%d bytes of %d are there already", n, len(w.image))
		}
		w.offerTo(rack()[32:48])
		w.await("a load", func() bool { return w.service.last("ex-d00").State == schemas.StateInstalling })
		w.offerTo(rack()[48:])
		w.wantOneFetch(rack())
	})
}

// The port of the device in whose name the image is fetched is unplugged on the
// way: the others notice nothing, and it gets its image when it is back.
func TestSingleFlightWithItsLeaderUnplugged(t *testing.T) {
	t.Parallel() // most of its time are writes to the disk
	inWorld(t, sim.MCUConfig{}, 10_000, rack(), func(w *world) {
		w.offerTo(rack())
		w.await("half of the image", func() bool { return w.service.bytes() >= len(w.image)/2 })
		leader := w.service.lastFetch()
		w.lines[leader].Unplug()
		others := slices.DeleteFunc(rack(), func(d string) bool { return d == leader })
		w.wantOneFetch(others)
		if st := w.service.last("ex-" + leader); st.State.Final() {
			t.Errorf("%s, whose port is gone, is %s", leader, st.State)
		}
		w.lines[leader].Replug()
		w.wantOneFetch(rack())
	})
}

// The device in whose name an image is fetched loses its execution; another
// takes over.
func TestSingleFlightChangesItsLeader(t *testing.T) {
	devices := []string{"a", "b"}
	inWorld(t, sim.MCUConfig{}, 200_000, devices, func(w *world) {
		for _, d := range devices {
			o := w.theOffer()
			o.Execution = "ex-" + d
			w.service.offer(d, o)
			time.Sleep(100 * time.Millisecond)
		}
		w.await("a fetch", func() bool { return w.service.fetchCount() > 3 })
		leader := w.service.lastFetch()
		other := map[string]string{"a": "b", "b": "a"}[leader]
		w.service.withdraw(leader)
		if st := w.awaitEnd("ex-" + other); st.State != schemas.StateSucceeded {
			t.Errorf("%s: %s, %s", other, st.State, st.Detail)
		}
		if st := w.service.last("ex-" + leader); st.State.Final() {
			t.Errorf("%s, whose offer was withdrawn, reports %s", leader, st.State)
		}
	})
}

// A bridge that is 300 ms from the service, in virtual time, from the first fetch to the
// verified image; one block of 4 KiB for each request has 13.3 KiB/s. docs/benchmarks.md
// has the figures; what the window allows is held in package fetcher.
func TestDownloadAt300ms(t *testing.T) {
	const trip = 300 * time.Millisecond
	for _, c := range []struct {
		size int
		want float64 // times one block for each request
	}{{256 << 10, 10}, {1 << 20, 30}, {4 << 20, 60}} {
		inWorld(t, sim.MCUConfig{}, c.size, one(), func(w *world) {
			w.stop()
			w.cfg.Window, w.service.delay = 0, trip/2
			w.start()
			o := w.theOffer()
			o.Action, o.Chunk.Max = schemas.ActionDownload, schemas.MaxChunkSize // no MCU is waited for
			var began, ended time.Time
			w.service.chunk = func(_ int, b []byte) []byte {
				if ended = time.Now(); began.IsZero() {
					began = ended.Add(-trip)
				}
				return b
			}
			w.service.offer(pump, o)
			w.awaitState(schemas.StateDownloaded)
			goodput := float64(c.size) / ended.Sub(began).Seconds()
			times := goodput / (4096 / trip.Seconds())
			t.Logf("%d KiB: %.0f KiB/s, %.0f times one block for each request, %d fetches", c.size>>10, goodput/1024, times, w.service.fetchCount())
			if times < c.want {
				t.Errorf("%d bytes: %.1f times one block for each request, want %.0f", c.size, times, c.want)
			}
			if n := w.service.bytes(); n != c.size {
				t.Errorf("%d bytes were served for an image of %d", n, c.size)
			}
		})
	}
}

// Images that are fetched at a time share the window, and each comes to its end.
func TestDownloadsShareTheWindow(t *testing.T) {
	devices := []string{"a", "b", "c", "d"}
	inWorld(t, sim.MCUConfig{}, 20_000, devices, func(w *world) {
		const window = 64 << 10
		w.stop()
		w.cfg.Window = window
		awaited, most := map[string]int{}, 0
		w.service.heardAll = func(m Message) {
			var f schemas.Fetch
			topic, _ := schemas.ParseTopic(m.Topic)
			if topic.Kind != schemas.KindFetch || schemas.Decode(m.Payload, &f) != nil {
				return
			}
			n := f.Awaited
			for _, r := range f.Ranges {
				n += int(r.Length)
			}
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			awaited[topic.Device] = n
			if len(awaited) == len(devices) { // all have begun: from then on each has its part
				most = max(most, n)
			}
		}
		w.start()
		for i, d := range devices {
			data := sim.BuildDemoImage(newVersion, 300_000, uint64(i))
			id := "img-of-" + d
			w.service.mu.Lock()
			w.service.images[id] = data
			w.service.mu.Unlock()
			o := w.offerOf(id, newVersion, data)
			o.Execution, o.Action = "ex-"+d, schemas.ActionDownload
			w.service.offer(d, o)
		}
		for _, d := range devices {
			w.await("the image of "+d, func() bool { return w.service.last("ex-"+d).State == schemas.StateDownloaded })
		}
		if most == 0 || most > window/2 { // a quarter each, and more when the first have ended
			t.Errorf("a download awaited %d bytes of a window of %d that four share", most, window)
		}
	})
}
