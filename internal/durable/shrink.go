package durable

import (
	"os"
	"time"
)

const (
	// shrinkStep is how many bytes of a file are given back at a time, and shrinkRest how
	// long others have the file system in between.
	shrinkStep = 16 << 20
	shrinkRest = 2 * time.Millisecond
)

// Shrink empties a file that is about to go. A file system frees a gigabyte in one
// piece when it is removed, and everybody's fsync waits for that.
func Shrink(f *os.File) {
	st, err := f.Stat()
	if err != nil {
		return // it goes in one piece
	}
	for size := st.Size() - shrinkStep; size > 0; size -= shrinkStep {
		if f.Truncate(size) != nil {
			return
		}
		time.Sleep(shrinkRest)
	}
}
