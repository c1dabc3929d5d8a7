package app

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/durable"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

// layouts are the data folders that older programs left, from the oldest on
// (testdata/layouts/README.md), with the layout of their records.
var layouts = []struct {
	name   string
	layout int
}{{"first", 1}, {"console", 2}, {"afero", 2}, {"rollouts", 2}, {"packed", 2}, {"signed", 2}, {"claims", 2}, {"numbered", 3}}

// unpackLayout unpacks a fixture and returns the folders of its service and its bridge.
func unpackLayout(t testing.TB, name string) (serve, bridge string) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(filepath.Join("testdata", "layouts", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, "serve"), filepath.Join(dir, "bridge")
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wellChecked fails the test unless davit check finds nothing.
func wellChecked(t testing.TB, dir string) {
	t.Helper()
	report, err := Check(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Error(v)
	}
}

// The records of every layout are brought to this program's, check finds nothing wrong
// with them then, and the service goes on with what was under way.
func TestEveryLayoutIsMigrated(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := unpackLayout(t, l.name)
			var layout *orchestrator.LayoutError
			if _, err := Check(t.Context(), dir); !errors.As(err, &layout) || layout.Have != l.layout || !strings.Contains(err.Error(), "davit serve migrates") {
				t.Fatalf("check before the migration: %v", err)
			}
			s, stop := startServer(t, testOptions(t, dir))
			events, err := s.service.Events(t.Context(), 0, orchestrator.FeedFilter{}, 1000, 0)
			if err != nil || len(events.Events) < 10 {
				t.Errorf("the feed has %d events: %v", len(events.Events), err)
			}
			job, err := s.service.Job(t.Context(), "demo")
			if err != nil || job.State != orchestrator.JobCompleted || job.Counts["succeeded"] != 3 {
				t.Errorf("job demo: %+v %v", job, err)
			}
			if job, err = s.service.Job(t.Context(), "waiting"); err != nil || job.State != orchestrator.JobRunning {
				t.Errorf("job waiting: %+v %v", job, err)
			}
			if _, err := s.service.CancelJob(t.Context(), "waiting", orchestrator.CancelRequest{}); err != nil {
				t.Error(err)
			}
			if job, err = s.service.StartJob(t.Context(), "draft"); err != nil {
				t.Errorf("job draft: %+v %v", job, err)
			}
			devices, _, err := s.service.Devices(t.Context(), orchestrator.DeviceFilter{}, orchestrator.Page{})
			if err != nil || len(devices) != 4 {
				t.Errorf("%d devices: %v", len(devices), err)
			}
			stop()
			wellChecked(t, dir)
		})
	}
}

// A migration that is cut off at any write leaves the records as they were, and the
// next one does it all.
func TestMigrationIsAllOrNothing(t *testing.T) {
	dir, _ := unpackLayout(t, "first")
	failed := errors.New("injected")
	for n := 1; ; n++ {
		store, err := boltstore.Open(boltstore.Options{Path: filepath.Join(dir, storeName)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = orchestrator.Migrate(t.Context(), failing{store, n, failed}, "test", time.Now())
		if err == nil {
			if n < 50 {
				t.Errorf("the migration has %d writes only", n)
			}
			if err := errors.Join(store.View(t.Context(), orchestrator.CheckLayout), store.Close()); err != nil {
				t.Fatal(err)
			}
			break
		}
		var layout *orchestrator.LayoutError
		if is := store.View(t.Context(), orchestrator.CheckLayout); !errors.Is(err, failed) || !errors.As(is, &layout) || layout.Have != 1 {
			t.Fatalf("cut off at write %d (%v): %v", n, err, is)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wellChecked(t, dir)
}

// failing is a store whose updates fail at the n-th write.
type failing struct {
	orchestrator.Store
	n   int
	err error
}

func (f failing) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	return f.Store.Update(ctx, func(w orchestrator.Writer) error { return fn(&failingWriter{w, f.n, f.err}) })
}

type failingWriter struct {
	orchestrator.Writer
	n   int
	err error
}

func (f *failingWriter) left() error {
	if f.n--; f.n == 0 {
		return f.err
	}
	return nil
}

func (f *failingWriter) Put(table orchestrator.Table, key, value []byte) error {
	if err := f.left(); err != nil {
		return err
	}
	return f.Writer.Put(table, key, value)
}

func (f *failingWriter) Delete(table orchestrator.Table, key []byte) error {
	if err := f.left(); err != nil {
		return err
	}
	return f.Writer.Delete(table, key)
}

// Bridges go on with the folders that older ones left: the versions of host MCUs and the
// image in the spool are still known.
func TestBridgeOpensEveryLayout(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			_, dir := unpackLayout(t, l.name)
			b, err := NewBridge(bridgeFolderOptions(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			said, err := os.ReadFile(filepath.Join(dir, bridgeLayoutName))
			if err != nil || !strings.HasPrefix(string(said), `{"layout":1,`) {
				t.Errorf("the folder says %q %v", said, err)
			}
			record, err := os.ReadFile(filepath.Join(dir, "devices", "device-lab-1.json"))
			if err != nil || !strings.Contains(string(record), `"oem_host_version":"2.0.0"`) {
				t.Errorf("the record of lab-1: %s %v", record, err)
			}
			if images, _ := filepath.Glob(filepath.Join(dir, "spool", "*.img")); len(images) != 1 {
				t.Errorf("images %q", images)
			}
		})
	}
}

func bridgeFolderOptions(t testing.TB, dir string) BridgeOptions {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("unused\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return BridgeOptions{
		Data: dir, Broker: "mqtt://127.0.0.1:1", Username: "lab-1", PasswordFile: password,
		Ports: []bridge.PortConfig{{Device: "lab-1", Path: "/dev/null"}}, Log: testOptions(t, dir).Log,
	}
}

// Folders that a program cannot use are refused with a sentence that names them.
func TestFoldersThatAreRefused(t *testing.T) {
	newer := func(t *testing.T, dir string) {
		s, err := boltstore.Open(boltstore.Options{Path: filepath.Join(dir, storeName)})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Update(t.Context(), func(w orchestrator.Writer) error {
			return w.Put("meta", []byte("layout"), []byte(`{"layout":99,"program":"v9.1.0","at":"2031-01-01T00:00:00Z","more":1}`))
		}), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := func(size int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			s, _, err := openData(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Update(t.Context(), func(w orchestrator.Writer) error {
				return w.Put("meta", []byte("x"), make([]byte, 100_000))
			}); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Close(), os.Truncate(filepath.Join(dir, storeName), size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		bridge bool
		make   func(*testing.T, string)
		want   []string
	}{
		{"newer records", false, newer, []string{"layout 99", "davit v9.1.0", "understands layouts up to 4", "install davit v9.1.0"}},
		{"empty store", false, file(storeName, ""), []string{"damaged", "it has 0 bytes", "restore a backup"}}, // bbolt itself would begin anew
		{"no store", false, file(storeName, strings.Repeat("no store ", 9999)), []string{storeName, "damaged", "restore a backup"}},
		{"cut after one byte", false, cut(1), []string{"damaged", "does not begin"}},
		{"cut in the first page", false, cut(100), []string{"damaged", "missing"}},
		{"cut after the first page", false, cut(4096), []string{"damaged", "missing"}},
		{"cut after the second page", false, cut(8192), []string{"damaged", "missing"}},
		{"cut in the middle", false, cut(50_001), []string{"damaged", "has 50001 bytes", "missing"}},
		{"store of another program", false, foreignStore, []string{"another program", "ledger", "--data"}},
		{"records that are none", false, foreignLayout, []string{"damaged"}},
		{"bridge's folder", false, file(bridgeLayoutName, `{"layout":1}`), []string{"belongs to a bridge"}},
		{"half restored", false, file(restoringName, ""), []string{"half restored", "davit restore"}},
		{"bridge: newer", true, file(bridgeLayoutName, `{"layout":7,"program":"v8.0.0"}`), []string{"layout 7", "davit v8.0.0", "up to 1", "install"}},
		{"bridge: no layout", true, file(bridgeLayoutName, `hello`), []string{bridgeLayoutName, "damaged"}},
		{"bridge: service's folder", true, file(storeName, ""), []string{"belongs to a service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			var err error
			if c.bridge {
				_, err = NewBridge(bridgeFolderOptions(t, dir))
			} else {
				var s *Server
				if s, err = NewServer(testOptions(t, dir)); err == nil {
					err = s.Close()
				}
			}
			if (err == nil) != (c.want == nil) {
				t.Fatalf("opening it: %v", err)
			}
			for _, want := range append(c.want, dir) {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if err == nil {
				return
			}
			// Nothing is held: whoever repairs the folder can go on at once.
			lock, err := durable.Lock(dir, "test")
			if err != nil {
				t.Fatal(err)
			}
			if err := lock.Unlock(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func writeStore(t *testing.T, dir string, table orchestrator.Table, key, value string) {
	t.Helper()
	s, err := boltstore.Open(boltstore.Options{Path: filepath.Join(dir, storeName)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Update(t.Context(), func(w orchestrator.Writer) error {
		return w.Put(table, []byte(key), []byte(value))
	}), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func foreignStore(t *testing.T, dir string)  { writeStore(t, dir, "ledger", "k", "v") }
func foreignLayout(t *testing.T, dir string) { writeStore(t, dir, "meta", "layout", "three") }

// A store that answers, from a folder that an older program left, is ready as any.
func TestMigratedServiceIsReady(t *testing.T) {
	dir, _ := unpackLayout(t, "first")
	s, _ := startServer(t, testOptions(t, dir))
	resp, err := http.Get("http://" + s.Addresses().HTTP + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
