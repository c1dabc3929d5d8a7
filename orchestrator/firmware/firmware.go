package firmware

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// The formats.
const (
	FormatAuto   = "auto"   // decided by the first line; so is the empty string
	FormatBinary = "binary" // any bytes, taken as they are
	FormatIHex   = "ihex"   // Intel HEX
)

// MaxLimit is the largest Limit: offsets on the host-MCU wire have 32 bits.
const MaxLimit = 1<<32 - 1

// Kinds of error, for errors.Is. An error that wraps neither came from the
// reader or the writer.
var (
	// ErrFormat: the file is not what it should be.
	ErrFormat = errors.New("malformed firmware file")
	// ErrTooLarge: the flat image is over the limit.
	ErrTooLarge = errors.New("firmware file too large")
)

// Error says what is wrong with a file, where, and what to do.
type Error struct {
	File   string // as in Options.FileName, may be empty
	Line   int    // from 1; 0 if it is not about a line
	Column int    // from 1, in bytes; 0 if it is about the whole line
	Text   string // one sentence or two
	Kind   error  // ErrFormat or ErrTooLarge
}

// Error returns the place and the text.
func (e *Error) Error() string {
	where := e.File
	if where == "" {
		where = "firmware file"
	}
	if e.Line > 0 {
		where += fmt.Sprintf(", line %d", e.Line)
	}
	if e.Column > 0 {
		where += fmt.Sprintf(", column %d", e.Column)
	}
	return where + ": " + e.Text
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Options say how a file is read.
type Options struct {
	// Format is FormatAuto, FormatBinary or FormatIHex. FormatAuto takes a file
	// for Intel HEX if its first line begins with a colon and either two
	// hexadecimal digits follow or all of the line is printable: a damaged HEX
	// file is an error then, not a strange binary.
	Format string
	// Limit is the largest flat image in bytes; 0 means MaxLimit.
	Limit int64
	// FileName is what errors call the file.
	FileName string
	// Spool makes room for the data of an Intel HEX file that is too much for
	// memory; Flatten closes it. Without it all data is in memory.
	Spool func() (Spool, error)
}

// Info is what a file says of its image.
type Info struct {
	Format string // FormatBinary or FormatIHex
	Size   int64  // bytes of the flat image
	// StartAddress is the address of the image's first byte, EntryAddress where
	// execution begins; nil where the file does not say.
	StartAddress, EntryAddress *uint64
	// LeftOut is data of the file that is not part of the flat image because
	// it belongs to another memory. People should be told.
	LeftOut []Region
}

// Region is a piece of a file's address space.
type Region struct {
	Start, End uint64 // the first address, and the one after the last
	Bytes      int64  // of data in it
	Line       int    // where it begins in the file
}

// String is a sentence for a person.
func (r Region) String() string {
	return fmt.Sprintf("%d bytes from %#x to %#x (line %d) were left out: so far from the rest they are for another memory, such as configuration words, which a flat image cannot carry",
		r.Bytes, r.Start, r.End-1, r.Line)
}

// Flatten reads a firmware file from r and writes the flat image to w. Errors
// about the file are *Error. A raw binary is copied as it comes; an Intel HEX
// file is written only once all of it was found good, and its data (without the
// gaps between) is kept until then, all but a part in the spool if there is one, at
// most MaxIHexData bytes in MaxIHexPieces pieces, in whatever order they come.
func Flatten(r io.Reader, w io.Writer, opts Options) (Info, error) {
	if opts.Limit <= 0 || opts.Limit > MaxLimit {
		opts.Limit = MaxLimit
	}
	in := bufio.NewReaderSize(r, 4<<10)
	format := opts.Format
	switch format {
	case "", FormatAuto:
		var err error
		if format, err = detect(in); err != nil {
			return Info{}, err
		}
	case FormatBinary, FormatIHex:
	default:
		return Info{}, &Error{File: opts.FileName, Kind: ErrFormat, Text: fmt.Sprintf(
			"format %q is not known; use %s, %s or %s", format, FormatAuto, FormatBinary, FormatIHex)}
	}
	if format == FormatIHex {
		return flattenIHex(in, w, opts)
	}
	return copyBinary(in, w, opts)
}

// byteOrderMark is what some editors put before a text.
const byteOrderMark = "\xef\xbb\xbf"

// detect tells the format by the first line.
func detect(in *bufio.Reader) (string, error) {
	head, err := in.Peek(maxLine + len("\r\n"))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", readError(err)
	}
	if len(head) > len(byteOrderMark) && string(head[:len(byteOrderMark)]) == byteOrderMark {
		head = head[len(byteOrderMark):]
	}
	if len(head) == 0 || head[0] != ':' {
		return FormatBinary, nil
	}
	if len(head) > 2 && isHex(head[1]) && isHex(head[2]) {
		return FormatIHex, nil
	}
	for _, c := range head {
		if c == '\n' || c == '\r' {
			break
		}
		if c < ' ' || c > '~' {
			return FormatBinary, nil
		}
	}
	return FormatIHex, nil
}

func copyBinary(in io.Reader, w io.Writer, opts Options) (Info, error) {
	src := &source{r: io.LimitReader(in, opts.Limit+1)}
	n, err := io.Copy(&capWriter{w: w, left: opts.Limit}, src)
	switch {
	case src.err != nil:
		return Info{}, readError(src.err)
	case errors.Is(err, ErrTooLarge):
		return Info{}, &Error{File: opts.FileName, Kind: ErrTooLarge,
			Text: fmt.Sprintf("the file has more than %d bytes, which is the limit", opts.Limit)}
	case err != nil:
		return Info{}, writeError(err)
	case n == 0:
		return Info{}, &Error{File: opts.FileName, Kind: ErrFormat, Text: "the file is empty"}
	}
	return Info{Format: FormatBinary, Size: n}, nil
}

// source remembers the error of the reader, to tell it from the writer's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// capWriter passes on at most left bytes.
type capWriter struct {
	w    io.Writer
	left int64
}

func (c *capWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, ErrTooLarge
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	return n, err
}

func readError(err error) error  { return fmt.Errorf("read the firmware file: %w", err) }
func writeError(err error) error { return fmt.Errorf("write the flat image: %w", err) }
