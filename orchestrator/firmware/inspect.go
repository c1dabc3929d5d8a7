package firmware

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What Inspect recognises.
const (
	DetectedMCUboot = "mcuboot"
	DetectedESPIDF  = "esp-idf"
	DetectedDemo    = "davit-demo"
)

// Limits of what Inspect returns.
const (
	maxStatements = 32
	maxStatement  = 512
)

// Detected is what a flat image says of itself. Its texts are UTF-8 without
// control characters, whatever the image holds.
type Detected struct {
	// Format is DetectedMCUboot, DetectedESPIDF or DetectedDemo.
	Format string `json:"format"`
	// Name of the project, empty if the format has none.
	Name string `json:"name,omitempty"`
	// Version that stands in the image.
	Version string `json:"version,omitempty"`
	// Size in bytes that the image's own headers call for; 0 if they are too
	// damaged to say.
	Size uint64 `json:"size,omitempty"`
	// Facts are further things that the image says, a sentence for each.
	Facts []string `json:"facts,omitempty"`
	// Problems say where the image contradicts itself, a sentence for each.
	Problems []string `json:"problems,omitempty"`
}

// Inspect recognises a flat image of size bytes by its content and reads what
// it says of itself, or returns nil if its format is not known. It reads every
// byte at most three times, uses a fixed amount of memory, and believes nothing that
// the image says about sizes: what does not fit into the image becomes a
// problem. An error comes from the reader.
func Inspect(r io.ReaderAt, size int64) (*Detected, error) {
	in := &image{r: r, size: max(size, 0)}
	for _, recognise := range []func(*image) *Detected{mcuboot, espIDF, demo} {
		d := recognise(in)
		if in.err != nil {
			return nil, fmt.Errorf("inspect the flat image: %w", in.err)
		}
		if d != nil {
			return d, nil
		}
	}
	return nil, nil
}

func (d *Detected) fact(format string, args ...any)    { state(&d.Facts, format, args...) }
func (d *Detected) problem(format string, args ...any) { state(&d.Problems, format, args...) }

func state(list *[]string, format string, args ...any) {
	if len(*list) == maxStatements {
		return
	}
	s := fmt.Sprintf(format, args...)
	if len(s) > maxStatement {
		s = strings.ToValidUTF8(s[:maxStatement], "") + "..."
	}
	*list = append(*list, s)
}

// sized compares what the image calls for with what there is.
func (d *Detected) sized(in *image) {
	if want, have := d.Size, uint64(in.size); want > have {
		d.problem("The header says %d bytes, the file has %d: its end is missing.", want, have)
	}
}

// followed says what comes behind the end of an image that is shorter than its
// file.
func (d *Detected) followed(in *image) {
	n := in.size - int64(d.Size)
	if in.filled(int64(d.Size), n) {
		d.fact("%d bytes of 0xff follow the image.", n)
		return
	}
	d.problem("The headers call for %d bytes, the file has %d: it is not known what the last %d are.", d.Size, in.size, n)
}

// image reads a flat image; after the first error of the reader it reads
// nothing more.
type image struct {
	r    io.ReaderAt
	size int64
	err  error
}

// at returns n bytes at an offset, or nil if they are not all inside the
// image or cannot be read.
func (in *image) at(offset, n int64) []byte {
	if in.err != nil || offset < 0 || n < 0 || offset > in.size || n > in.size-offset {
		return nil
	}
	b := make([]byte, n)
	if got, err := in.r.ReadAt(b, offset); err != nil && (!errors.Is(err, io.EOF) || got < len(b)) {
		in.err = err
		return nil
	}
	return b
}

// feed writes a part of the image, which has to be inside it, to w.
func (in *image) feed(w io.Writer, offset, n int64) {
	if in.err != nil || n == 0 {
		return
	}
	buf := make([]byte, min(n, 64<<10))
	if got, err := io.CopyBuffer(writerOnly{w}, io.NewSectionReader(in.r, offset, n), buf); err != nil {
		in.err = err
	} else if got < n {
		in.err = io.ErrUnexpectedEOF
	}
}

// writerOnly keeps io.CopyBuffer to its buffer.
type writerOnly struct{ io.Writer }

// digest is the SHA-256 of the first n bytes, which have to be inside the
// image.
func (in *image) digest(n int64) []byte {
	h := sha256.New()
	in.feed(h, 0, n)
	return h.Sum(nil)
}

// filled says whether a part of the image is nothing but erased flash.
func (in *image) filled(offset, n int64) bool {
	w := &erased{}
	in.feed(w, offset, n)
	return !w.other
}

type erased struct{ other bool }

func (e *erased) Write(p []byte) (int, error) {
	e.other = e.other || len(bytes.Trim(p, "\xff")) > 0
	return len(p), nil
}

// text makes a string of a field that is filled up with NUL.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	s := strings.ToValidUTF8(string(field), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r != utf8.RuneError && !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

func u16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
