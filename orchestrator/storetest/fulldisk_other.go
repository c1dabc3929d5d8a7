//go:build !linux

package storetest

import (
	"os"
	"testing"
)

// FullDisk would run a test on a disk of the given size. Only Linux lets a test
// mount one that is gone with it, so elsewhere the test is skipped, or fails if
// DAVIT_TEST_FULL=1.
func FullDisk(t *testing.T, _ string, _ func(t *testing.T, dir string)) {
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		t.Fatal("DAVIT_TEST_FULL=1, and a small disk can only be mounted on Linux")
	}
	t.Skip("a small disk can only be mounted on Linux")
}
