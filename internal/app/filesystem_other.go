//go:build !linux

package app

// fileSystem is only known on Linux.
func fileSystem(string) (size, free uint64, ok bool) { return 0, 0, false }
