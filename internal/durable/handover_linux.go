package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// handOver has a part of a file written, and waits for the part before it. Unlike fsync
// it leaves alone the file system's journal, which everybody else's fsync goes through.
func handOver(f *os.File, from, to int64) error {
	fd, before := int(f.Fd()), max(0, from-paceBytes)
	err := unix.SyncFileRange(fd, from, to-from, unix.SYNC_FILE_RANGE_WRITE)
	if err == nil && before < from {
		err = unix.SyncFileRange(fd, before, from-before, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	}
	for _, without := range []error{unix.ENOSYS, unix.EINVAL, unix.ESPIPE, unix.EOPNOTSUPP} {
		if errors.Is(err, without) { // the file system does not have it
			return f.Sync()
		}
	}
	return err
}
