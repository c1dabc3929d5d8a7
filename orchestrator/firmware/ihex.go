package firmware

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Intel HEX after "Hexadecimal Object File Format Specification", revision A,
// Intel, 6 January 1988. A record is
//
//	':' | length(1) | load offset(2) | type(1) | data(length) | checksum(1)
//
// in hexadecimal digits, one a line; all its bytes add up to 0 modulo 256.
// Stricter than the specification: a record that would wrap around at the end
// of its segment or of the address space is refused, and so is data that stands
// twice, even if it is the same.

// MaxIHexData is how many bytes of data one Intel HEX file may hold; they are
// kept until the file has been read, in memory or in Options.Spool.
const MaxIHexData = 64 << 20

// MaxIHexPieces is how many separate pieces (runs of lines at consecutive
// addresses) one Intel HEX file may hold; it bounds the memory besides the data.
const MaxIHexPieces = 1 << 18

// What is taken for configuration words of another memory (the user
// information registers or option bytes that many microcontrollers keep far
// from their flash): at most IslandMax bytes in all, IslandGap bytes or more
// away from the image. A flat image cannot carry them.
const (
	IslandGap = 1 << 20
	IslandMax = 4 << 10
)

const (
	// maxData is the most data bytes of a record.
	maxData = 255
	// recordHead is length, load offset and type; recordOverhead is that and
	// the checksum.
	recordHead     = 4
	recordOverhead = 5
	// maxLine is the longest line without its end.
	maxLine = 1 + 2*(recordOverhead+maxData)
	// fill is what stands in gaps: erased flash.
	fill = 0xff
)

// The record types.
const (
	recordData         = 0x00
	recordEOF          = 0x01
	recordSegment      = 0x02 // extended segment address: bits 4-19 of the base
	recordStartSegment = 0x03 // start segment address: CS and IP
	recordLinear       = 0x04 // extended linear address: bits 16-31 of the base
	recordStartLinear  = 0x05 // start linear address: EIP
)

// run is data from consecutive lines at consecutive addresses.
type run struct {
	addr    uint64
	from    int64 // where its data begins among what was kept
	size    int64
	line    int    // of its first record
	lengths []byte // of its records, to find the line of an address
}

func (r *run) end() uint64 { return r.addr + uint64(r.size) }

// lineOf is the line whose record holds addr.
func (r *run) lineOf(addr uint64) int {
	line, at := r.line, r.addr
	for _, n := range r.lengths {
		if at += uint64(n); addr < at {
			return line
		}
		line++
	}
	return line
}

// addressing is how load offsets are turned into addresses.
type addressing byte

const (
	addressPlain   addressing = iota // no extended address yet
	addressSegment                   // base + (offset modulo 64 KiB)
	addressLinear                    // (base + offset) modulo 4 GiB
)

// ihexReader reads one file.
type ihexReader struct {
	opts    Options
	line    int
	mode    addressing
	base    uint64
	entry   *uint64
	runs    []run
	kept    kept
	size    int64 // bytes of data
	lastRun int   // line of the last data record
	ended   bool
	buf     [recordOverhead + maxData]byte
}

func flattenIHex(in *bufio.Reader, w io.Writer, opts Options) (Info, error) {
	h := &ihexReader{opts: opts, kept: kept{open: opts.Spool}}
	leftOut, err := h.flatten(in, w)
	if unclosed := h.kept.close(); unclosed != nil {
		err = errors.Join(err, unclosed)
	}
	if err != nil {
		return Info{}, err
	}
	start := h.runs[0].addr
	end := h.runs[len(h.runs)-1].end()
	return Info{Format: FormatIHex, Size: int64(end - start), StartAddress: &start, EntryAddress: h.entry, LeftOut: leftOut}, nil
}

func (h *ihexReader) flatten(in *bufio.Reader, w io.Writer) ([]Region, error) {
	if err := h.read(in); err != nil {
		return nil, err
	}
	leftOut, err := h.arrange()
	if err != nil {
		return nil, err
	}
	return leftOut, h.write(w)
}

// fail is an error about the present line.
func (h *ihexReader) fail(column int, format string, args ...any) error {
	return h.failAt(h.line, column, format, args...)
}

func (h *ihexReader) failAt(line, column int, format string, args ...any) error {
	return &Error{File: h.opts.FileName, Line: line, Column: column, Text: fmt.Sprintf(format, args...), Kind: ErrFormat}
}

// read reads all lines.
func (h *ihexReader) read(in *bufio.Reader) error {
	blank := 0 // the first blank line
	for {
		text, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return readError(err)
		}
		atEnd := errors.Is(err, io.EOF)
		if atEnd && len(text) == 0 {
			break
		}
		h.line++
		text = trimEnd(text)
		if len(text) == 0 {
			if blank == 0 {
				blank = h.line
			}
			if atEnd {
				break
			}
			continue
		}
		if blank > 0 && !h.ended {
			return h.failAt(blank, 0, "the line is empty; only lines after the last record may be. Remove it")
		}
		if err := h.record(text); err != nil {
			return err
		}
		if atEnd {
			break
		}
	}
	switch {
	case h.line == 0:
		return &Error{File: h.opts.FileName, Text: "the file is empty", Kind: ErrFormat}
	case !h.ended:
		return h.fail(0, "the file ends here without its end-of-file record (:00000001FF): it was cut off. Export or copy it again")
	}
	return nil
}

func trimEnd(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
		if n > 1 && text[n-2] == '\r' {
			text = text[:n-2]
		}
	}
	return text
}

// record reads one line.
func (h *ihexReader) record(text []byte) error {
	if h.ended {
		return h.fail(1, "there is something after the end-of-file record. One file holds one image: split it, or remove the rest")
	}
	rec, err := h.decode(text)
	if err != nil {
		return err
	}
	offset := uint64(rec[1])<<8 | uint64(rec[2])
	data := rec[recordHead : len(rec)-1]
	kind := rec[3]
	if kind != recordData && kind <= recordStartLinear && offset != 0 {
		return h.fail(4, "a record of type %02X has load offset 0000, this one has %04X", kind, offset)
	}
	switch kind {
	case recordData:
		return h.data(offset, data)
	case recordEOF:
		h.ended = true
		return h.wantLength(kind, data, 0)
	case recordSegment, recordLinear:
		if err := h.wantLength(kind, data, 2); err != nil {
			return err
		}
		value := uint64(data[0])<<8 | uint64(data[1])
		h.mode, h.base = addressSegment, value<<4
		if kind == recordLinear {
			h.mode, h.base = addressLinear, value<<16
		}
		return nil
	case recordStartSegment, recordStartLinear:
		if err := h.wantLength(kind, data, 4); err != nil {
			return err
		}
		return h.start(kind, uint64(data[0])<<8|uint64(data[1]), uint64(data[2])<<8|uint64(data[3]))
	}
	return h.fail(8, "record type %02X is not one of the six of Intel HEX (00 to 05). If this is a file of several images (such as a Universal Hex), export the image for one board", kind)
}

// decode turns a line into the bytes of its record and checks its form.
func (h *ihexReader) decode(text []byte) ([]byte, error) {
	if text[0] != ':' {
		if h.line == 1 && len(text) >= len(byteOrderMark) && string(text[:len(byteOrderMark)]) == byteOrderMark {
			return nil, h.fail(1, "the file begins with a byte order mark, which some editors add. Save it without")
		}
		return nil, h.fail(1, "a record begins with ':', this line begins with %q", text[0])
	}
	if len(text) > maxLine {
		return nil, h.fail(0, "the line is longer than %d characters, the longest that a record can be", maxLine)
	}
	digits := text[1:]
	for i, c := range digits {
		if !isHex(c) {
			return nil, h.fail(2+i, "%q is not a hexadecimal digit", c)
		}
	}
	if len(digits)%2 != 0 || len(digits) < 2*recordOverhead {
		return nil, h.fail(0, "the record has %d digits; it needs an even number, %d at least. The line was cut off or a digit is missing", len(digits), 2*recordOverhead)
	}
	rec := h.buf[:len(digits)/2]
	sum := byte(0)
	for i := range rec {
		rec[i] = unhex(digits[2*i])<<4 | unhex(digits[2*i+1])
		sum += rec[i]
	}
	if got, want := len(rec)-recordOverhead, int(rec[0]); got != want {
		return nil, h.fail(2, "the record says that it has %d bytes of data, %d stand there", want, got)
	}
	if sum != 0 {
		last := rec[len(rec)-1]
		return nil, h.fail(len(text)-1, "the checksum is %02X, the line's bytes call for %02X: the line was changed or damaged. Export or copy the file again", last, last-sum)
	}
	return rec, nil
}

func (h *ihexReader) wantLength(kind byte, data []byte, want int) error {
	if len(data) != want {
		return h.fail(2, "a record of type %02X has %d bytes of data, this one has %d", kind, want, len(data))
	}
	return nil
}

// data notes a data record.
func (h *ihexReader) data(offset uint64, data []byte) error {
	if len(data) == 0 {
		return h.fail(2, "a data record without data")
	}
	addr, end := h.base+offset, h.base+offset+uint64(len(data))
	if h.mode != addressLinear && offset+uint64(len(data)) > 1<<16 {
		return h.fail(4, "%d bytes from offset %04X run past the end of their 64 KiB segment", len(data), offset)
	}
	if end > 1<<32 {
		return h.fail(4, "%d bytes from address %#x run past the last address, 0xffffffff", len(data), addr)
	}
	h.size += int64(len(data))
	if limit := min(h.opts.Limit, MaxIHexData); h.size > limit {
		return &Error{File: h.opts.FileName, Line: h.line, Kind: ErrTooLarge, Text: fmt.Sprintf("the file has more than %d bytes of data, which is the limit", limit)}
	}
	if n := len(h.runs); n > 0 && h.lastRun == h.line-1 && h.runs[n-1].end() == addr {
		r := &h.runs[n-1]
		r.size, r.lengths = r.size+int64(len(data)), append(r.lengths, byte(len(data)))
	} else {
		if n == MaxIHexPieces {
			return &Error{File: h.opts.FileName, Line: h.line, Kind: ErrTooLarge, Text: fmt.Sprintf(
				"the file has more than %d separate pieces. Sort its records by address, or convert it to binary", MaxIHexPieces)}
		}
		h.runs = append(h.runs, run{addr: addr, from: h.kept.size(), size: int64(len(data)), line: h.line, lengths: []byte{byte(len(data))}})
	}
	h.lastRun = h.line
	return h.kept.add(data)
}

// start notes where execution begins. A merged file may say it twice.
func (h *ihexReader) start(kind byte, high, low uint64) error {
	entry := high<<16 | low
	if kind == recordStartSegment {
		entry = high<<4 + low // CS:IP
	}
	if h.entry != nil && *h.entry != entry {
		return h.fail(0, "execution begins at %#x here and at %#x in an earlier record; keep one", entry, *h.entry)
	}
	h.entry = &entry
	return nil
}

// arrange puts the runs in order, checks that they do not overlap, takes out
// the islands and checks that the rest is no longer than the limit.
func (h *ihexReader) arrange() ([]Region, error) {
	if len(h.runs) == 0 {
		return nil, h.fail(0, "the file ends without any data")
	}
	slices.SortStableFunc(h.runs, func(a, b run) int { return cmp.Compare(a.addr, b.addr) })
	for i := 1; i < len(h.runs); i++ {
		a, b := &h.runs[i-1], &h.runs[i]
		if b.addr < a.end() {
			first, second := a.lineOf(b.addr), b.line
			return nil, h.failAt(max(first, second), 0, "address %#x has data already, from line %d; data that stands twice is refused even if it is the same. Remove one of them", b.addr, min(first, second))
		}
	}
	leftOut := h.islands()
	start, end := h.runs[0].addr, h.runs[len(h.runs)-1].end()
	if end-start <= uint64(h.opts.Limit) {
		return leftOut, nil
	}
	return nil, h.tooWide(start, end)
}

// tooWide is the error about data that spans more than the limit.
func (h *ihexReader) tooWide(start, end uint64) error {
	text := fmt.Sprintf("the data reaches from %#x to %#x, %d bytes with the gaps filled; the limit is %d.", start, end-1, end-start, h.opts.Limit)
	widest, gap := 0, uint64(0)
	for i := 1; i < len(h.runs); i++ {
		if g := h.runs[i].addr - h.runs[i-1].end(); g > gap {
			widest, gap = i, g
		}
	}
	if widest > 0 {
		a, b := &h.runs[widest-1], &h.runs[widest]
		text += fmt.Sprintf(" The widest gap is between %#x (line %d) and %#x (line %d): what stands there may be for another memory. Leave one of the two out",
			a.end()-1, a.lineOf(a.end()-1), b.addr, b.line)
	}
	return &Error{File: h.opts.FileName, Text: text, Kind: ErrTooLarge}
}

// islands takes out what is meant for another memory: of the regions that lie
// IslandGap or more apart, all but the one with the most data, if together they
// hold no more than IslandMax bytes. Otherwise nothing is taken out.
func (h *ihexReader) islands() []Region {
	type span struct{ from, to, size int } // runs from..to-1
	var spans []span
	for i := range h.runs {
		if i == 0 || h.runs[i].addr-h.runs[i-1].end() >= IslandGap {
			spans = append(spans, span{from: i})
		}
		s := &spans[len(spans)-1]
		s.to = i + 1
		s.size += int(h.runs[i].size)
	}
	main := slices.MaxFunc(spans, func(a, b span) int { return cmp.Compare(a.size, b.size) })
	if rest := h.size - int64(main.size); rest == 0 || rest > IslandMax || rest > int64(main.size) {
		return nil
	}
	var out []Region
	for _, s := range spans {
		if s.from != main.from {
			first, last := &h.runs[s.from], &h.runs[s.to-1]
			out = append(out, Region{Start: first.addr, End: last.end(), Bytes: int64(s.size), Line: first.line})
		}
	}
	h.runs = h.runs[main.from:main.to]
	return out
}

// write writes the runs with the gaps between filled.
func (h *ihexReader) write(w io.Writer) error {
	var gap []byte
	at := h.runs[0].addr
	for i := range h.runs {
		r := &h.runs[i]
		for at < r.addr {
			if gap == nil {
				gap = slices.Repeat([]byte{fill}, 32<<10)
			}
			n := min(uint64(len(gap)), r.addr-at)
			if _, err := w.Write(gap[:n]); err != nil {
				return writeError(err)
			}
			at += n
		}
		if err := h.kept.copy(w, r.from, r.size); err != nil {
			return err
		}
		at = r.end()
	}
	return nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
