package app

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"davit/gateway"
	"davit/internal/client"
	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/internal/logtest"
	"davit/orchestrator"
	"davit/orchestrator/storetest"
)

// On a disk that gets full the service stays up: it answers what it can read, refuses
// what it would have to write with 507, says that it is not ready and why, and goes on by
// itself when there is room.
func TestServiceOnAFullDisk(t *testing.T) {
	storetest.FullDisk(t, "4m", func(t *testing.T, dir string) {
		data := filepath.Join(dir, "data")
		o := testOptions(t, data)
		o.MinFree = 256 << 10
		log, err := NewLogger(io.Discard, LogOptions{Level: "info"})
		if err != nil {
			t.Fatal(err)
		}
		o.Log = log // whose levels can be changed
		s, stop := startServer(t, o)
		base := "http://" + s.Addresses().HTTP
		c := clientFor(t, data, s.Addresses().HTTP)
		ctx := t.Context()
		if _, err := c.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: testDeviceType, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}}}); err != nil {
			t.Fatal(err)
		}
		filler := filepath.Join(dir, "filler")
		// First, less than what uploads leave free.
		if err := os.WriteFile(filler, make([]byte, int(s.disk.free())-200<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = s.service.UploadImage(ctx, orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: "1"}, strings.NewReader("image"))
		if !errors.Is(err, orchestrator.ErrNoSpace) || !strings.Contains(err.Error(), "images leave 262144 free for records") {
			t.Errorf("an upload with little room: %v", err)
		}
		if _, err := c.CreateDevice(ctx, orchestrator.NewDevice{ID: "while-little-room", Type: testDeviceType}); err != nil {
			t.Errorf("a record with little room: %v", err)
		}
		// Then, nothing.
		f, err := os.OpenFile(filler, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		_ = f.Close()
		refused := 0
		for i := range 200 { // the first ones may find free pages
			_, err := c.CreateImageType(ctx, orchestrator.NewImageType{ID: "more-" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Description: strings.Repeat("x", 4000)})
			if err == nil {
				continue
			}
			if !client.IsStatus(err, http.StatusInsufficientStorage) {
				t.Fatalf("on a full disk: %v", err)
			}
			refused++
			break
		}
		if refused == 0 {
			t.Fatal("the disk did not get full")
		}
		if got := readiness(t, base); got.Ready || !strings.Contains(got.Checks["storage"], "is full") || !strings.Contains(got.Checks["storage"], data) {
			t.Errorf("readyz: %+v", got)
		}
		if _, _, err := c.Devices(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{}); err != nil {
			t.Errorf("reading on a full disk: %v", err)
		}
		if m := scraped(t, base); !strings.Contains(m, "davit_storage_full 1") || !strings.Contains(m, "davit_data_filesystem_avail_bytes") {
			t.Error("the metrics do not say that the disk is full")
		}
		refusesOnAFullDisk(t, c)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); !readiness(t, base).Ready; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it does not recover: %+v", readiness(t, base))
			}
		}
		if _, err := c.CreateDevice(ctx, orchestrator.NewDevice{ID: "afterwards", Type: testDeviceType}); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
		if m := scraped(t, base); !strings.Contains(m, "davit_storage_full 0") {
			t.Error("the metrics do not say that there is room")
		}
		c.Close()
		stop()
		wellChecked(t, data)
	})
}

// A service that was stopped on a full disk starts on it again, and says how it is.
func TestServiceStartsOnAFullDisk(t *testing.T) {
	storetest.FullDisk(t, "4m", func(t *testing.T, dir string) {
		data := filepath.Join(dir, "data")
		s, err := NewServer(testOptions(t, data))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(data, durable.LockName), 0); err != nil { // its room is what others take first
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, "filler"))
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !durable.IsNoSpace(err) {
			t.Fatal(err)
		}
		_ = f.Close() // it is for nothing but its bytes
		s, stop := startServer(t, testOptions(t, data))
		if got := readiness(t, "http://"+s.Addresses().HTTP); !got.Ready && !strings.Contains(got.Checks["storage"], "is full") {
			t.Errorf("readyz: %+v", got)
		}
		stop()
		if _, err := NewServer(testOptions(t, filepath.Join(dir, "new"))); err == nil || !strings.Contains(err.Error(), "no space left on device; make room on that disk") {
			t.Errorf("a new folder: %v", err)
		}
	})
}

// A disk that takes nothing for another reason than want of room is told in the same way. Here it is the
// process that may not write into files for a while.
func TestServiceThatCannotWrite(t *testing.T) {
	storetest.FullDisk(t, "16m", func(t *testing.T, dir string) { // which makes a process of the test's own
		data := filepath.Join(dir, "data")
		lines := &logtest.Buffer{}
		o := testOptions(t, data)
		o.Log, o.MinFree = slog.New(slog.NewTextHandler(lines, nil)), 1
		s, stop := startServer(t, o)
		base := "http://" + s.Addresses().HTTP
		c := clientFor(t, data, s.Addresses().HTTP)
		fleetRecords(t, c, []string{"d1"})
		signal.Ignore(syscall.SIGXFSZ)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "d2", Type: testDeviceType}); !problemWith(err, http.StatusInsufficientStorage, "the disk cannot be written", "file too large", data) {
			t.Errorf("a new device: %v", err)
		}
		if got := readiness(t, base); got.Ready || !strings.Contains(got.Checks["storage"], "nothing can be recorded: write store "+data) {
			t.Errorf("readyz: %+v", got)
		}
		if _, err := c.Device(t.Context(), "d1"); err != nil {
			t.Errorf("reading: %v", err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		until(t, "the service goes on", func() bool { return readiness(t, base).Ready })
		if _, err := c.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "d2", Type: testDeviceType}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		for _, event := range []logevent.Event{logevent.StoreUnwritable, logevent.StoreWrites} {
			if n := len(lines.Lines("event=" + string(event))); n != 1 {
				t.Errorf("%d lines of %s, want 1", n, event)
			}
		}
		c.Close()
		stop()
		wellChecked(t, data)
	})
}

// refusesOnAFullDisk holds that what needs room is refused with the reason, and changes nothing.
func refusesOnAFullDisk(t *testing.T, c *client.Client) {
	t.Helper()
	if archive, err := c.Backup(t.Context()); !problemWith(err, http.StatusInsufficientStorage, "no space left", "make room") {
		t.Errorf("a backup: %v", err)
		if err == nil {
			archive.Close()
		}
	}
	if _, err := c.SetLogLevel(t.Context(), "debug"); !client.IsStatus(err, http.StatusInsufficientStorage) {
		t.Errorf("another log level: %v", err)
	}
	if now, err := c.LogLevel(t.Context()); err != nil || now.Level != "info" {
		t.Errorf("after a refusal the log level is %+v, %v", now, err)
	}
}

func readiness(t *testing.T, base string) (r gateway.Readiness) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, base+"/readyz")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func scraped(t *testing.T, base string) string { t.Helper(); return read(t, base+"/metrics") }

func read(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
