package durable

import (
	"io"
	"os"
)

// paceBytes is how much is handed to the disk at a time.
const paceBytes = 2 << 20

// Paced writes to a new file whose bytes are handed to the disk as they come, so that
// no more than twice paceBytes wait: a gigabyte that waits in memory would be in the way
// of everybody else's fsync all at once. It makes nothing durable.
func Paced(f *os.File) io.Writer { return &paced{file: f} }

type paced struct {
	file *os.File
	// written is how long the file is, handed up to where it was handed to the disk.
	written, handed int64
}

// Write implements io.Writer.
func (p *paced) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var m int
		m, err = p.file.Write(b[:min(len(b), paceBytes)])
		n, b, p.written = n+m, b[m:], p.written+int64(m)
		if err == nil && p.written-p.handed >= paceBytes {
			err = handOver(p.file, p.handed, p.written)
			p.handed = p.written
		}
	}
	return n, err
}
