package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/broker"
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

// A service whose folder is moved away while it runs goes on, is not ready, and says why.
func TestRecordsThatAreMovedAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, stop := startServer(t, testOptions(t, dir))
	base := "http://" + s.Addresses().HTTP
	if got := readiness(t, base); !got.Ready {
		t.Fatalf("%+v", got)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	until(t, "the service is not ready", func() bool {
		return strings.Contains(readiness(t, base).Checks["storage"], "not in their place any more: stat "+filepath.Join(dir, storeName))
	})
	if err := os.Rename(dir+".moved", dir); err != nil {
		t.Fatal(err)
	}
	until(t, "the service is ready", func() bool { return readiness(t, base).Ready })
	stop()
}

// A folder whose records are gone, or left empty by a power cut, is not taken for a new one: the images
// would be deleted, since no record knows them.
func TestRecordsThatAreGone(t *testing.T) {
	dir := t.TempDir()
	s, stop := startServer(t, testOptions(t, dir))
	fleetRecords(t, clientFor(t, dir, s.Addresses().HTTP), []string{"d1"})
	stop()
	records := filepath.Join(dir, storeName)
	whole, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, words ...string) {
		t.Helper()
		s, err := NewServer(testOptions(t, dir))
		if err == nil {
			_ = s.Close() // the test has failed
			t.Fatalf("a service starts on %s", what)
		}
		for _, w := range append(words, records) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; %q is missing", what, err, w)
			}
		}
	}
	if err := os.Truncate(records, 0); err != nil {
		t.Fatal(err)
	}
	refused("an empty file", "is damaged", "it has 0 bytes", "davit restore FILE --data NEW")
	if err := os.Remove(records); err != nil {
		t.Fatal(err)
	}
	refused("images without records", blobsName+" beside them is there", "davit restore FILE --data NEW")
	images := filepath.Join(dir, blobsName)
	if err := os.Rename(images, filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	refused("credentials without records", broker.CredentialsFile+" beside them is there")
	if err := os.Symlink(filepath.Join(t.TempDir(), "nothing"), records); err != nil {
		t.Fatal(err)
	}
	refused("a link that leads nowhere", "no such file")
	if err := os.Remove(records); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(records, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = NewServer(testOptions(t, dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
