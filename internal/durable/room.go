package durable

import "golang.org/x/sys/unix"

// Room is how many bytes the disk of a folder has left for an ordinary user, and how
// many it has.
func Room(dir string) (free, all int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
