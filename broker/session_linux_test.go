package broker

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"davit/internal/logtest"
	"davit/schemas"
)

// brokenImage is a mapped file that has lost its end.
type brokenImage struct {
	*os.File
	*testImage
	mapped []byte
}

func (b brokenImage) Mapped() []byte                         { return b.mapped }
func (b brokenImage) ReadAt(p []byte, at int64) (int, error) { return b.File.ReadAt(p, at) }

func newBrokenImage(t *testing.T, whole, left int) brokenImage {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	check(t, err)
	t.Cleanup(func() { _ = f.Close() })
	check(t, f.Truncate(int64(whole)))
	mapped, err := unix.Mmap(int(f.Fd()), 0, whole, unix.PROT_READ, unix.MAP_SHARED)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Munmap(mapped)) })
	check(t, f.Truncate(int64(left)))
	return brokenImage{f, newImage(0), mapped}
}

// A page that the disk cannot give is an error of the image, and no end of the
// process. The session goes on if nothing of the packet has left; otherwise it
// ends, because the packet cannot be completed.
func TestUnreadableImage(t *testing.T) {
	var log logtest.Buffer
	b, fetches := fetchingBroker(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	const page = 64 << 10
	image := newBrokenImage(t, 4*page, page)
	good := schemas.Chunk{Length: 4096}
	bad := schemas.Chunk{ChunkHeader: schemas.ChunkHeader{Offset: 2 * page}, Length: 4096}
	for range 3 {
		if n, err := m.Send("d", image, []schemas.Chunk{bad, good}, nil); n != 0 || err == nil || !strings.Contains(err.Error(), "131072") {
			t.Fatalf("%d taken: %v", n, err)
		}
		if n, err := m.Send("d", image, []schemas.Chunk{good}, nil); n != 1 || err != nil {
			t.Fatalf("%d taken: %v", n, err)
		}
		if pk := m.message(); !bytes.Equal(pk.Payload, append(good.AppendTo(nil), make([]byte, 4096)...)) {
			t.Fatalf("%d bytes came", len(pk.Payload))
		}
	}
	if n := b.Multicast(schemas.StreamTopic(strings.Repeat("a", 64)), image, []schemas.Chunk{bad}, []*Session{m.Session}); n != 0 {
		t.Errorf("%d got an unreadable chunk", n)
	}
	// The first page is there, the rest of the packet is not.
	cut := schemas.Chunk{ChunkHeader: schemas.ChunkHeader{Offset: 0}, Length: 2 * page}
	if n, err := m.Send("d", image, []schemas.Chunk{cut}, nil); n == 1 && err == nil {
		m.ended()
		if !strings.Contains(log.String(), "image") {
			t.Errorf("the log says\n%s", log.String())
		}
	} else if n != 0 || err == nil {
		t.Errorf("%d taken: %v", n, err)
	}
	if n := testutil.ToFloat64(b.metrics.chunks.refused.WithLabelValues("image")); n != 4 {
		t.Errorf("%v counted, want 4", n)
	}
	eventually(t, "the image is let go of", func() bool { return image.retained.Load() == 0 })
}

// Chunks that the socket takes cost no memory, nor does a multicast cost any
// for each session.
func TestShortWayDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	stream := schemas.StreamTopic(strings.Repeat("a", 64))
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{}, stream)
	image := newImage(1 << 20)
	chunks := chunksOf(image, 4096)
	check(t, m.SetReadDeadline(time.Time{}))
	buf := make([]byte, 64<<10)
	read := func(packets, topic int) {
		for left := packets * (1 + 2 + 2 + topic + 1 + schemas.ChunkHeaderSize + 4096); left > 0; {
			n, err := m.mqttConn.Read(buf[:min(left, len(buf))])
			check(t, err)
			left -= n
		}
	}
	sessions := []*Session{m.Session, m.Session, m.Session, m.Session}
	for name, test := range map[string]struct {
		most float64
		run  func()
	}{
		"one chunk": {0, func() {
			if n, err := m.Send("d", image, chunks[:1], nil); n != 1 || err != nil {
				t.Fatalf("%d taken: %v", n, err)
			}
			read(1, len(topic("d", schemas.KindChunk)))
		}},
		"16 chunks": {0, func() {
			if n, err := m.Send("d", image, chunks[:16], nil); n != 16 || err != nil {
				t.Fatalf("%d taken: %v", n, err)
			}
			read(16, len(topic("d", schemas.KindChunk)))
		}},
		"multicast to four": {0, func() {
			if n := b.Multicast(stream, image, chunks[:2], sessions); n != 8 {
				t.Fatalf("%d taken", n)
			}
			read(8, len(stream))
		}},
	} {
		runtime.GC() // empties the pools, once for all runs
		if got := testing.AllocsPerRun(500, test.run); got > test.most {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
