package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/orchestrator/boltstore"
)

// zeroPages writes zeros over the pages of a store from the given one on.
func zeroPages(t *testing.T, dir string, from int64) {
	t.Helper()
	path := filepath.Join(dir, storeName)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		at := from * int64(os.Getpagesize())
		_, err = f.WriteAt(make([]byte, info.Size()-at), at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A service whose records are damaged while it runs ends with a sentence, and does not start again from them.
func TestDamagedRecordsEndTheService(t *testing.T) {
	dir := t.TempDir()
	s, err := NewServer(testOptions(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	<-s.Ready()
	c := clientFor(t, dir, s.Addresses().HTTP)
	fleetRecords(t, c, []string{"d1"})
	zeroPages(t, dir, 2)
	if _, err := c.Device(t.Context(), "d1"); err == nil {
		t.Error("a device is read of damaged records")
	}
	says := func(when string, err error) {
		t.Helper()
		if !errors.Is(err, boltstore.ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, storeName)) || !strings.Contains(err.Error(), "davit restore") {
			t.Errorf("%s it says %v", when, err)
		}
	}
	says("while it runs", <-ended)
	_, err = NewServer(testOptions(t, filepath.Join(dir)))
	says("at the next start", err)
	_, err = Check(t.Context(), dir)
	says("in davit check", err)
}
