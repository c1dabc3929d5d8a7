package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"davit/schemas"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nobody waits any more
	return l
}

// Packets are taken apart in the same way wherever the reads cut them.
func TestStreamIsCutAnywhere(t *testing.T) {
	image := testImage(8 << 10)
	const topic = "davit/v1/m/chunk"
	var wire []byte
	wire = append(wire, 2<<4, 2, 0, 0)    // CONNACK
	wire = append(wire, 9<<4, 3, 0, 1, 0) // SUBACK
	for _, c := range encodeChunks(image, 2<<10) {
		wire = append(appendPublishHead(wire, topic, len(c)), c...)
	}
	wire = append(appendPublishHead(wire, "davit/v1/m/offer", 5), "offer"...)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(wire), "bytes": iotest.OneByteReader(bytes.NewReader(wire)), "halves": iotest.HalfReader(bytes.NewReader(wire)),
	} {
		var offsets []uint64
		var others []byte
		s := chunkStream{topic: topic, image: image,
			arrived: func(h schemas.ChunkHeader, n int, _ time.Time) error {
				if n != 2<<10 {
					t.Errorf("%s: a chunk of %d bytes", name, n)
				}
				offsets = append(offsets, h.Offset)
				return nil
			},
			control: func(first byte, _ []byte) error { others = append(others, first>>4); return nil }}
		if err := s.run(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(offsets) != 4 || offsets[3] != 6<<10 || !bytes.Equal(others, []byte{2, 9, 3}) {
			t.Errorf("%s: chunks at %d, other packets %d", name, offsets, others)
		}
	}
}

// One wrong byte anywhere in a chunk's data is found.
func TestStreamFindsAWrongByte(t *testing.T) {
	image := testImage(1 << 10)
	chunk := encodeChunks(image, 1<<10)[0]
	for _, at := range []int{0, 1, 511, 1023} {
		wire := append(appendPublishHead(nil, "t", len(chunk)), chunk...)
		wire[len(wire)-len(image)+at] ^= 1
		s := chunkStream{topic: "t", image: image, arrived: func(schemas.ChunkHeader, int, time.Time) error { return nil }}
		if err := s.run(bytes.NewReader(wire)); err == nil || !strings.Contains(err.Error(), "WRONG") {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	beyond := schemas.ChunkHeader{Offset: 1 << 10}.AppendTo(nil)
	wire := append(append(appendPublishHead(nil, "t", len(beyond)+1), beyond...), 0)
	s := chunkStream{topic: "t", image: image}
	if err := s.run(bytes.NewReader(wire)); err == nil {
		t.Error("a chunk beyond the image was taken")
	}
	cut := appendPublishHead(nil, "t", len(chunk))
	if err := (&chunkStream{topic: "t", image: image}).run(bytes.NewReader(cut)); !errors.Is(err, io.EOF) {
		t.Errorf("a packet that was cut off: %v", err)
	}
}

func TestFetchIsWhatTheContractHas(t *testing.T) {
	want := schemas.Fetch{V: 1, Image: "im-1", Tag: 7, Chunk: 4096, Ranges: []schemas.Range{{Offset: 0, Length: 8192}, {Offset: 65536, Length: 4096}}, Awaited: 4096}
	var got schemas.Fetch
	if err := schemas.Decode(appendFetch(nil, want.Image, want.Tag, want.Chunk, want.Ranges, want.Awaited), &got); err != nil {
		t.Fatal(err)
	}
	a, errA := schemas.Encode(&want)
	b, errB := schemas.Encode(&got)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%s, %v; want %s, %v", b, errB, a, errA)
	}
}

// Whatever order chunks come in, some of them lost and some twice, the ledger ends with
// all of them and never asks for more than the window.
func TestLedger(t *testing.T) {
	const image, chunk = 64 << 10, 4 << 10
	var l ledger
	if err := l.begin(image, chunk, 50*chunk); err != nil {
		t.Fatal(err)
	}
	var way []uint64 // offsets under way
	for step := 0; !l.done(); step++ {
		if l.missing+4 <= 12 {
			r := l.ask(4)
			for o := r.Offset; o < r.End(); o += chunk {
				way = append(way, o)
			}
		}
		if l.missing > 12 || step > 10_000 {
			t.Fatalf("%d chunks are missing after %d steps", l.missing, step)
		}
		if len(way) == 0 { // the rest was lost
			for _, r := range l.holes(4) {
				for o := r.Offset; o < r.End(); o += chunk {
					way = append(way, o)
				}
			}
			continue
		}
		i := step * 7 % len(way)
		o := way[i]
		way = append(way[:i], way[i+1:]...)
		if step%5 == 0 {
			continue // lost
		}
		if wanted, err := l.arrived(o, chunk); err != nil || !wanted {
			t.Fatalf("chunk at %d: %v, %v", o, wanted, err)
		}
		if wanted, err := l.arrived(o, chunk); err != nil || wanted && l.low+l.n <= l.next {
			t.Fatalf("chunk at %d for the second time: %v, %v", o, wanted, err)
		}
	}
	if l.missing != 0 || l.low != 50 {
		t.Errorf("%d chunks are missing at the end, %d arrived", l.missing, l.low)
	}
	if _, err := l.arrived(1, chunk); err == nil {
		t.Error("a chunk that lies across two was taken")
	}
	if err := l.begin(image, 3<<10, image); err == nil {
		t.Error("chunks that do not make up the image were taken")
	}
}
