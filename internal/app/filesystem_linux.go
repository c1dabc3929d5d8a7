package app

import "golang.org/x/sys/unix"

// fileSystem is the size in bytes of the file system that holds dir, and how much of it
// this program may still use.
func fileSystem(dir string) (size, free uint64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bsize <= 0 {
		return 0, 0, false
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), true
}
