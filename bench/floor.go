package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"davit/schemas"
)

// floor is the least that a server can do, seen from the process that measures: this
// program once more, which then does nothing but write chunks to sockets.
type floor struct {
	*process
	addr string
}

// startFloor runs the floor, which serves testImage(size).
func startFloor(size int) (*floor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), floorVariable+"="+strconv.Itoa(size))
	r, w := io.Pipe()
	p, err := startProcess("the floor", cmd, w)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.done
		_ = w.Close() // a pipe in memory
	}()
	line, err := firstLine(r)
	if err != nil {
		return nil, p.ended()
	}
	return &floor{p, string(line[:len(line)-1])}, nil
}

// floorVariable of the environment says that this process is the floor, and the size of
// its image: the tests' program can then be it as well.
const floorVariable = "DAVIT_BENCH_FLOOR"

// floorMain is the floor's process; false if this is none.
func floorMain() (is bool, err error) {
	text := os.Getenv(floorVariable)
	if text == "" {
		return false, nil
	}
	size, err := strconv.Atoi(text)
	if err != nil {
		return true, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return true, err
	}
	fmt.Println(l.Addr())
	cache := chunkCache{image: testImage(size), encoded: map[uint32][][]byte{}}
	for {
		conn, err := l.Accept()
		if err != nil {
			return true, err
		}
		go floorServe(conn, &cache)
	}
}

// floorRequest asks for count chunks of a size, so many in each write.
type floorRequest struct{ chunk, count, gather uint32 }

// chunkCache is the image in chunks of each size that was asked for.
type chunkCache struct {
	image   []byte
	mu      sync.Mutex
	encoded map[uint32][][]byte
}

func (c *chunkCache) chunks(size uint32) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.encoded[size] == nil {
		c.encoded[size] = encodeChunks(c.image, int(size))
	}
	return c.encoded[size]
}

// floorServe answers the requests of one connection until it ends.
func floorServe(conn net.Conn, cache *chunkCache) {
	defer conn.Close()
	var b [12]byte
	for {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return
		}
		r := floorRequest{binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])}
		if floorWrite(conn, cache.chunks(r.chunk), r) != nil {
			return // the other side is told by the end of the connection
		}
	}
}

func floorWrite(conn net.Conn, chunks [][]byte, r floorRequest) error {
	head := appendPublishHead(nil, floorTopic, len(chunks[0]))
	var room, batch net.Buffers
	for k := uint32(0); k < r.count; {
		room = room[:0]
		for range min(r.gather, r.count-k) {
			room = append(room, head, chunks[int(k)%len(chunks)])
			k++
		}
		batch = room // WriteTo consumes it
		if _, err := batch.WriteTo(conn); err != nil {
			return err
		}
	}
	return nil
}

var floorTopic = schemas.Topic{Device: "m-00000", Kind: schemas.KindChunk}.String()

// taker is a connection to the floor.
type taker struct {
	conn   net.Conn
	stream chunkStream
	next   uint64
	left   uint32
}

func dialFloor(addr string, image []byte) (*taker, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	t := &taker{conn: conn}
	t.stream = chunkStream{topic: floorTopic, image: image, arrived: t.arrived, control: func(first byte, _ []byte) error {
		return fmt.Errorf("a packet of type %d", first>>4)
	}}
	return t, nil
}

// errTaken ends the reading of a course that is complete.
var errTaken = fmt.Errorf("all has arrived: %w", io.EOF)

func (t *taker) arrived(h schemas.ChunkHeader, length int, _ time.Time) error {
	if h.Offset != t.next {
		return fmt.Errorf("the chunk at %d came when that at %d was due", h.Offset, t.next)
	}
	t.next = (t.next + uint64(length)) % uint64(len(t.stream.image))
	if t.left--; t.left == 0 {
		return errTaken
	}
	return nil
}

// takeCourse asks for a course and reads it.
func (t *taker) takeCourse(c course, gather int) error {
	t.next, t.left = 0, uint32(c.length/int64(c.chunk))
	var b []byte
	for _, v := range []uint32{uint32(c.chunk), t.left, uint32(gather)} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if _, err := t.conn.Write(b); err != nil {
		return err
	}
	if err := t.stream.run(t.conn); err != errTaken {
		return fmt.Errorf("%d chunks did not come: %w", t.left, err)
	}
	return nil
}

// takeAll has every taker take the course at the same time.
func takeAll(takers []*taker, c course, gather int) (o outcome, err error) {
	ended := make(chan error, len(takers))
	for _, t := range takers {
		go func() { ended <- t.takeCourse(c, gather) }()
	}
	for range takers {
		if e := <-ended; e != nil && err == nil {
			err = e
		}
	}
	o.until = time.Now()
	return o, err
}
