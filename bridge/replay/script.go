package replay

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"time"

	"davit/bridge/recording"
	"davit/bridge/sniff"
)

// Limits of a recording that can be replayed.
const (
	// maxTime is when the last byte may have passed, since the start.
	maxTime = 400 * 24 * time.Hour
	// maxBytes is what may have passed: as much as the longest recording holds.
	maxBytes = recording.MaxFile
	// maxVersions is how many versions of the MCU are remembered.
	maxVersions = 4
	minBaud     = 50
	maxBaud     = 16_000_000
)

// entry is what a side said at once.
type entry struct {
	at    time.Duration
	first int // of its bytes in script.bytes
	end   int
	from  recording.Side
	// all and distinct are how many frames the bridge had sent before.
	all, distinct int32
}

// class says what a frame of the bridge is to the replay.
type class byte

const (
	classOther   class = iota // acknowledgements, ready bytes, the transport's
	classMessage              // anything that the bridge has to say
	classAsk                  // for a version
	classOffer                // of an update
	classPiece                // of an image
)

// frame is one that the bridge sent.
type frame struct {
	sum      uint64
	entry    int32
	all      int32 // frames before it
	distinct int32 // and distinct ones
	class    class
	again    bool // a retry
}

// script is a recording as it is replayed.
type script struct {
	header  recording.Header
	bytes   []byte
	entries []entry
	frames  []frame
	// single are the places of the distinct frames in frames.
	single []int32
	// offers are the updates that were offered, by the place of the frame, and
	// offered those places.
	offers  map[int]*offer
	offered []int
	// pieces are the first pieces of the image that an offer is about, by the place
	// of the offer.
	pieces     map[int]int
	properties []string // version properties that the MCU was asked for
	versions   []string // that it reported, the first few
	retries    int
	// ends says why the recording has no end, "" if it has one.
	ends string
}

// seed makes the sums of a process comparable.
var seed = maphash.MakeSeed()

// sumOf stands for what a packet is and carries.
func sumOf(p sniff.Packet) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(p.Text[:len(p.Text)-len(again(p))])
	_ = h.WriteByte(0)
	_, _ = h.Write(p.Content)
	return h.Sum64()
}

// newScript reads a recording.
func newScript(src io.Reader, newReader func(dialect string) reader) (*script, error) {
	r, err := recording.NewReader(src)
	if err != nil {
		return nil, err
	}
	s := &script{header: r.Header(), offers: map[int]*offer{}, pieces: map[int]int{}}
	if b := s.header.Baud; b < minBaud || b > maxBaud {
		return nil, fmt.Errorf("the recording's head says %d bit/s; possible are %d to %d", b, minBaud, maxBaud)
	}
	read := newReader(s.header.Dialect)
	line, err := sniff.New(s.header.Dialect, s.header.Baud)
	if err != nil || read == nil {
		return nil, fmt.Errorf("the recording is of dialect %q, which cannot be replayed", s.header.Dialect)
	}
	if err := s.read(r, line, read); err != nil {
		return nil, err
	}
	s.findPieces()
	switch {
	case len(s.entries) == 0 && s.ends == "":
		return nil, errors.New("nothing passed on the line in this recording")
	case len(s.frames) == 0:
		return nil, errors.New("the bridge sent nothing in this recording; both sides of the line have to be in it")
	}
	return s, nil
}

// read takes the entries up to the end, or to where the recording has a gap or is
// cut off.
func (s *script) read(r *recording.Reader, line sniff.Decoder, read reader) error {
	var last time.Duration
	var repeated repeats
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, recording.ErrCutOff):
			s.ends = err.Error()
			return nil
		case err != nil:
			return err
		case e.Lost > 0:
			s.ends = fmt.Sprintf("%d bytes are missing in the recording at %v, because the disk was slower than the line", e.Lost, e.At)
			return nil
		case e.At > maxTime:
			return fmt.Errorf("%w: a time of %v since the start is not plausible", recording.ErrDamaged, e.At)
		case len(s.bytes)+len(e.Bytes) > maxBytes:
			return fmt.Errorf("more than %d bytes passed in this recording, which is more than one may hold", maxBytes)
		}
		last = max(last, e.At)
		next := entry{at: last, from: e.From, first: len(s.bytes), all: int32(len(s.frames)), distinct: int32(len(s.single))}
		s.bytes = append(s.bytes, e.Bytes...)
		next.end = len(s.bytes)
		s.entries = append(s.entries, next)
		line.Decode(last, e.From, e.Bytes, func(p sniff.Packet) {
			if p.From == recording.FromMCU {
				if v := read.mcu(p); v != "" && len(s.versions) < maxVersions && !slices.Contains(s.versions, v) {
					s.versions = append(s.versions, v)
				}
				return
			}
			if err == nil {
				err = s.add(p, read, &repeated)
			}
		})
		if err != nil {
			return err
		}
	}
}

// add takes a frame of the bridge.
func (s *script) add(p sniff.Packet, read reader, repeated *repeats) error {
	f := frame{sum: sumOf(p), entry: int32(len(s.entries) - 1), all: int32(len(s.frames)), distinct: int32(len(s.single))}
	if f.again = repeated.has(p, f.sum); f.again {
		s.retries++
	}
	c, err := read.bridge(p)
	if err != nil {
		return err
	}
	if f.class = c.class; c.offer != nil {
		s.offers[len(s.frames)] = c.offer
		s.offered = append(s.offered, len(s.frames))
	}
	if c.property != "" && !(c.reported && len(s.properties) > 0) && !slices.Contains(s.properties, c.property) {
		s.properties = append(s.properties, c.property)
	}
	if !f.again {
		s.single = append(s.single, f.all)
	}
	s.frames = append(s.frames, f)
	return nil
}

// findPieces finds what follows each offer: the same update may be offered again
// before its first piece.
func (s *script) findPieces() {
	piece, next := -1, -1
	for i := len(s.frames) - 1; i >= 0; i-- {
		switch s.frames[i].class {
		case classPiece:
			piece, next = i, -1
		case classOffer:
			if next >= 0 && !s.offers[i].same(s.offers[next]) {
				piece = -1
			}
			if next = i; piece >= 0 {
				s.pieces[i] = piece
			}
		}
	}
}

// at is when a frame was sent.
func (s *script) at(frame int) time.Duration { return s.entries[s.frames[frame].entry].at }

// packet decodes the recording up to a frame once more.
func (s *script) packet(frame int) (p sniff.Packet) {
	line, err := sniff.New(s.header.Dialect, s.header.Baud)
	if err != nil {
		return p // newScript has made one
	}
	n := 0
	for _, e := range s.entries[:s.frames[frame].entry+1] {
		line.Decode(e.at, e.from, s.bytes[e.first:e.end], func(q sniff.Packet) {
			if q.From != recording.FromModule {
				return
			}
			if n == frame {
				p = q
				p.Content = slices.Clone(q.Content)
			}
			n++
		})
	}
	return p
}
