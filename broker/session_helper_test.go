package broker

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"davit/schemas"
)

// testImage is an image in memory that counts who needs it.
type testImage struct {
	*bytes.Reader
	mapped   []byte // nil: has to be read
	retained atomic.Int64
	unasked  atomic.Bool // released more often than retained
}

func newImage(size int) *testImage {
	b := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = rnd.Read(b)
	return &testImage{Reader: bytes.NewReader(b), mapped: b}
}

// unmapped is the same image where there is no mapping.
func (i *testImage) unmapped() *testImage { return &testImage{Reader: i.Reader} }

func (i *testImage) Mapped() []byte { return i.mapped }
func (i *testImage) Retain()        { i.retained.Add(1) }
func (i *testImage) Release() {
	if i.retained.Add(-1) < 0 {
		i.unasked.Store(true)
	}
}

// free waits until nobody needs the image.
func (i *testImage) free(t testing.TB) {
	t.Helper()
	eventually(t, "the image is released", func() bool { return i.retained.Load() == 0 })
	if i.unasked.Load() {
		t.Error("the image was released more often than retained")
	}
}

// payload is what a chunk's PUBLISH carries.
func (i *testImage) payload(t testing.TB, c schemas.Chunk) []byte {
	t.Helper()
	b := c.AppendTo(nil)
	data := make([]byte, c.Length)
	if _, err := i.ReadAt(data, int64(c.Offset)); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return append(b, data...)
}

// chunksOf divides an image into chunks of a size.
func chunksOf(i *testImage, size int) []schemas.Chunk {
	var chunks []schemas.Chunk
	for at := 0; at < int(i.Size()); at += size {
		c := schemas.Chunk{ChunkHeader: schemas.ChunkHeader{Transfer: 7, Image: 0xfeedbeef, Offset: uint64(at)}, Length: min(size, int(i.Size())-at)}
		if at+c.Length == int(i.Size()) {
			c.Flags = schemas.ChunkFlagLast
		}
		chunks = append(chunks, c)
	}
	return chunks
}

// fetched is what Config.OnFetch was called with.
type fetched struct {
	device  string
	payload string
	from    *Session
}

// takeFetches makes a broker hand its fetches to the channel.
func takeFetches(c *Config) <-chan fetched {
	taken := make(chan fetched, 1024)
	c.OnFetch = func(device string, payload []byte, from *Session, _ string) bool {
		taken <- fetched{device, string(payload), from}
		return true
	}
	return taken
}

// sender sends all chunks to a session, however slow its client is.
type sender struct {
	device string
	to     *Session
	image  *testImage
}

// send waits for the session wherever it has to.
func (s sender) send(chunks []schemas.Chunk) error {
	for len(chunks) > 0 {
		ready := make(chan struct{})
		n, err := s.to.Send(s.device, s.image, chunks, func() { close(ready) })
		if err != nil {
			return err
		}
		if chunks = chunks[n:]; len(chunks) > 0 {
			<-ready
		}
	}
	return nil
}
