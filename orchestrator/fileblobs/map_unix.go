//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package fileblobs

import (
	"os"
	"syscall"
)

// mapFile maps a file for reading, or returns nil: then it is read.
func mapFile(f *os.File, size int64) []byte {
	if size <= 0 || int64(int(size)) != size {
		return nil
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil
	}
	return b
}

func unmap(b []byte) error { return syscall.Munmap(b) }
