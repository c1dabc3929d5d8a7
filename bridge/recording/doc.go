// Package recording owns the format in which the bridge records what passes on a
// serial line, the writer that never holds up the line, and the reader.
//
// A file is written at its end only, and every beginning of it that holds the
// head can be read: a bridge that is killed, or a disk that is full, costs what
// had not been written, and nothing of what had. Integers are big-endian. The head:
//
//	"davitrec" | version(1) = 1 | n(2) | n bytes of JSON | CRC-32(4)
//
// The JSON is a Header. Entries follow up to the end of the file:
//
//	side(1) | time(8) | n(2) | n bytes | CRC-32(4)
//
// Side 1 is the module (or the bridge in its place), side 2 the host MCU. The
// time is in nanoseconds since the start in the head. n is 1 to MaxPiece: what was
// read or written at once and is longer makes several entries. Side 0 says that
// bytes were lost, because the disk was slower than the line: its 8 bytes are how
// many. A CRC-32 (IEEE) is over everything of its head or entry before it. Any
// change of this makes another version.
//
// Who owns what: the goroutines of a line note bytes in a Recorder, which copies
// them into memory that it has from the beginning; one goroutine for each Recorder
// writes them to its file. A Writer is for those who may wait for the disk. The
// package imports only schemas.
package recording
