package broker

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"davit/schemas"
)

// fileImage is an image that is a file as well as memory.
type fileImage struct {
	*testImage
	file *os.File
}

func (i fileImage) Descriptor() (uintptr, bool) { return i.file.Fd(), true }

func newFileImage(t testing.TB, size int) fileImage {
	t.Helper()
	image := newImage(size)
	path := filepath.Join(t.TempDir(), "image")
	check(t, os.WriteFile(path, image.mapped, 0o600))
	f, err := os.Open(path)
	check(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return fileImage{image, f}
}

// Large chunks come from the file, small ones from memory, which is another one here so
// that it shows. What a socket has not taken of a packet is written from memory.
func TestChunksFromTheFile(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	stream := schemas.StreamTopic(strings.Repeat("a", 64))
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{}, stream)
	image := newFileImage(t, 3<<20)
	memory := bytes.Clone(image.mapped)
	for i := range memory {
		memory[i] ^= 0xff
	}
	file := image.mapped
	image.mapped = memory
	for _, size := range []int{4 << 10, fileFrom - 1, fileFrom, 64 << 10, 100_001, 128 << 10} {
		chunks, whole := chunksOf(image.testImage, size), 0
		for left := chunks; len(left) > 0; {
			// The socket takes some megabytes or less, and wants no more until it is read.
			n, err := m.Send("d", image, left, func() {})
			check(t, err)
			for _, c := range left[:n] {
				got := m.message().Payload[schemas.ChunkHeaderSize:]
				if len(got) != c.Length {
					t.Fatalf("%d bytes of %d", len(got), c.Length)
				}
				from := 0
				for from < len(got) && got[from] == file[int(c.Offset)+from] {
					from++
				}
				if from == len(got) {
					whole++
				} else if !bytes.Equal(got[from:], memory[int(c.Offset)+from:int(c.Offset)+len(got)]) {
					t.Fatalf("chunk of %d at %d: what follows %d bytes of the file is not the rest", size, c.Offset, from)
				}
			}
			left = left[n:]
		}
		if fromFile := size >= fileFrom; fromFile != (whole > 0) {
			t.Errorf("chunks of %d: %d of %d came from the file", size, whole, len(chunks))
		}
	}
	big := chunksOf(image.testImage, 128<<10)[:1]
	if n := b.Multicast(stream, image, big, []*Session{m.Session}); n != 1 {
		t.Fatalf("%d taken", n)
	}
	if got := m.message().Payload[schemas.ChunkHeaderSize:]; !bytes.Equal(got, file[:128<<10]) {
		t.Error("a chunk for many did not come from the file")
	}
	image.free(t)
}

// A file that has lost its end makes no session wait for ever: the chunk cannot be
// completed, and the connection ends.
func TestFileThatLostItsEnd(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	const size = 64 << 10
	broken := newBrokenImage(t, 4*size, size)
	image := fileImage{&testImage{Reader: bytes.NewReader(make([]byte, 4*size)), mapped: broken.mapped}, broken.File}
	chunks := chunksOf(image.testImage, size)
	if n, err := m.Send("d", image, chunks[:1], func() {}); n != 1 || err != nil {
		t.Fatalf("%d taken: %v", n, err)
	}
	if got := m.message().Payload; len(got) != schemas.ChunkHeaderSize+size {
		t.Fatalf("%d bytes came", len(got))
	}
	_, _ = m.Send("d", image, chunks[1:2], func() {})
	m.ended()
	image.free(t)
}

// Nothing is allocated for chunks from the file.
func TestChunksFromTheFileDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	image := newFileImage(t, 256<<10)
	chunks := chunksOf(image.testImage, 64<<10)
	check(t, m.SetReadDeadline(time.Time{}))
	buf := make([]byte, 64<<10)
	size := 4 * (1 + 3 + 2 + len(topic("d", schemas.KindChunk)) + 1 + schemas.ChunkHeaderSize + 64<<10)
	var ready schemas.ImageBytes = image
	wake := func() {}
	runtime.GC() // empties the pools, once for all runs
	if got := testing.AllocsPerRun(300, func() {
		if n, err := m.Send("d", ready, chunks, wake); n == 0 || err != nil {
			t.Fatalf("%d taken: %v", n, err)
		}
		for left := size; left > 0; {
			n, err := m.mqttConn.Read(buf[:min(left, len(buf))])
			check(t, err)
			left -= n
		}
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
