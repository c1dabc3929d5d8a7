package bridge

import (
	"sync/atomic"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/schemas"
)

// streamTo offers the world's image to devices, with a shared stream.
func (w *world) streamTo(devices []string) {
	for _, d := range devices {
		o := w.theOffer()
		o.Execution, o.Stream = "ex-"+d, true
		w.service.offer(d, o)
	}
}

// wantAll waits until all devices run the image.
func (w *world) wantAll(devices []string) {
	w.Helper()
	for _, d := range devices {
		if st := w.awaitEnd("ex-" + d); st.State != schemas.StateSucceeded {
			w.Errorf("%s: %s, %s", d, st.State, st.Detail)
		}
		w.wantImage(d)
	}
}

// streamed is how often the image's stream was subscribed to, whether it is now, how many
// fetches followed it, and how many bytes were asked for without.
func (w *world) streamed() (joined int, now bool, follows, alone int) {
	topic := schemas.StreamTopic(w.theOffer().SHA256)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for _, r := range w.service.alone {
		alone += int(r.Length)
	}
	return w.service.joined[topic], w.service.topics[topic], w.service.follows, alone
}

// Devices that want the same image follow its stream by one subscription, for as long
// as it is fetched. What does not come there is asked for alone.
func TestSharedStream(t *testing.T) {
	devices := []string{"a", "b", "c"}
	inWorld(t, sim.MCUConfig{}, 100_000, devices, func(w *world) {
		w.await("hello", func() bool { return w.service.hello("a").Streams })
		w.service.chunk = func(n int, b []byte) []byte {
			if n%10 == 5 {
				return nil // lost
			}
			return b
		}
		w.streamTo(devices)
		w.wantAll(devices)
		joined, now, follows, alone := w.streamed()
		if joined != 1 || now {
			t.Errorf("subscribed %d times, still: %t", joined, now)
		}
		if follows == 0 || alone == 0 || alone > len(w.image)/5 {
			t.Errorf("%d fetches followed the stream, and %d of %d bytes were asked for alone; a tenth was lost", follows, alone, len(w.image))
		}
	})
}

// A stream on which nothing comes is no reason not to get the image.
func TestSilentStream(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 30_000, one(), func(w *world) {
		stream := schemas.StreamTopic(w.theOffer().SHA256)
		w.service.deaf = func(topic string) bool { return topic == stream }
		w.streamTo(one())
		w.wantAll(one())
		if joined, _, _, alone := w.streamed(); joined != 1 || alone != len(w.image) {
			t.Errorf("subscribed %d times; %d of %d bytes asked for alone", joined, alone, len(w.image))
		}
	})
}

// What others asked for counts, too; wrong bytes on the stream are noticed, and the image is
// then asked for chunk by chunk.
func TestWrongStream(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 100_000, one(), func(w *world) {
		o := w.theOffer()
		tag, _ := schemas.TagOf(o.SHA256)
		var sent atomic.Bool
		w.service.chunk = func(_ int, b []byte) []byte {
			if !sent.Load() {
				return nil // the wrong ones come first
			}
			return b
		}
		w.streamTo(one())
		w.await("a fetch", func() bool { return w.service.fetchCount() > 0 })
		for _, at := range []int{90_000, 200_000} { // the second lies outside the image
			wrong := schemas.ChunkHeader{Image: tag, Offset: uint64(at)}.AppendTo(nil)
			w.service.send(schemas.StreamTopic(o.SHA256), append(wrong, make([]byte, 500)...))
		}
		sent.Store(true)
		w.wantAll(one())
		if _, now, _, alone := w.streamed(); alone < len(w.image) || now {
			t.Errorf("%d of %d bytes were asked for alone; still subscribed: %t", alone, len(w.image), now)
		}
	})
}

// A connection that is lost takes the subscription along; the next one has it again.
func TestStreamOverALostConnection(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 400_000, one(), func(w *world) {
		w.streamTo(one())
		w.await("some of the image", func() bool { return w.service.bytes() > 50_000 })
		w.service.disconnect()
		time.Sleep(time.Second) // virtual
		_, _, before, _ := w.streamed()
		w.service.connect()
		w.wantAll(one())
		if joined, now, follows, _ := w.streamed(); joined < 1 || joined > 2 || now || follows < before {
			t.Errorf("subscribed %d times, still: %t", joined, now)
		}
	})
}
