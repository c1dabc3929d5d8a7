package orchestrator_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// listing is one listing of the service: it reads the page after a cursor.
type listing struct {
	name string
	page func(s *orchestrator.Service, after string, limit int) (items int, next string, err error)
	// sparse says that the filter keeps few of what no index answers: a page then
	// looks at a bounded number of entries that depends on what there is.
	sparse bool
}

func devicesBy(name string, f orchestrator.DeviceFilter) listing {
	return listing{name: "devices " + name, page: func(s *orchestrator.Service, after string, limit int) (int, string, error) {
		items, next, err := s.Devices(ctx, f, orchestrator.Page{After: after, Limit: limit})
		return len(items), next, err
	}}
}

func detailsBy(name string, f orchestrator.DeviceFilter) listing {
	return paged("details "+name, func(s *orchestrator.Service, p orchestrator.Page) ([]orchestrator.DeviceDetail, string, error) {
		return s.DeviceDetails(ctx, f, p)
	})
}

func paged[T any](name string, list func(*orchestrator.Service, orchestrator.Page) ([]T, string, error)) listing {
	return listing{name: name, page: func(s *orchestrator.Service, after string, limit int) (int, string, error) {
		items, next, err := list(s, orchestrator.Page{After: after, Limit: limit})
		return len(items), next, err
	}}
}

func sparse(l listing) listing {
	l.sparse = true
	return l
}

// listings are all listings with each of their filters.
func listings() []listing {
	yes, no := true, false
	type S = orchestrator.Service
	type P = orchestrator.Page
	jobs := func(f orchestrator.JobFilter) func(*S, P) ([]orchestrator.Job, string, error) {
		return func(s *S, p P) ([]orchestrator.Job, string, error) { return s.Jobs(ctx, f, p) }
	}
	images := func(f orchestrator.ImageFilter) func(*S, P) ([]orchestrator.Image, string, error) {
		return func(s *S, p P) ([]orchestrator.Image, string, error) { return s.Images(ctx, f, p) }
	}
	executions := func(states ...schemas.State) func(*S, P) ([]orchestrator.Execution, string, error) {
		return func(s *S, p P) ([]orchestrator.Execution, string, error) {
			return s.JobExecutions(ctx, "job-000", orchestrator.ExecutionFilter{States: states}, p)
		}
	}
	audit := func(f orchestrator.AuditFilter) func(*S, P) ([]orchestrator.AuditEntry, string, error) {
		return func(s *S, p P) ([]orchestrator.AuditEntry, string, error) { return s.AuditEntries(ctx, f, p) }
	}
	group := func(id string) func(*S, P) ([]orchestrator.Device, string, error) {
		return func(s *S, p P) ([]orchestrator.Device, string, error) { return s.GroupDevices(ctx, id, p) }
	}
	return []listing{
		devicesBy("all", orchestrator.DeviceFilter{}),
		devicesBy("by type", orchestrator.DeviceFilter{Type: "type-1"}),
		devicesBy("online", orchestrator.DeviceFilter{Online: &yes}),
		devicesBy("offline", orchestrator.DeviceFilter{Online: &no}),
		devicesBy("by label value", orchestrator.DeviceFilter{Label: "site=site-3"}),
		devicesBy("by label", orchestrator.DeviceFilter{Label: "site"}),
		devicesBy("by version", orchestrator.DeviceFilter{Version: "application=1.2.0"}),
		devicesBy("by text", orchestrator.DeviceFilter{Text: "sn0"}),
		devicesBy("by group, static", orchestrator.DeviceFilter{Group: "group-01"}),
		devicesBy("by group, dynamic", orchestrator.DeviceFilter{Group: "group-00"}),
		devicesBy("by query with an index", orchestrator.DeviceFilter{Query: `label.site == "site-3" and version.application >= "1.3"`}),
		sparse(devicesBy("by query without", orchestrator.DeviceFilter{Query: `version.application > "1.6" or label.ring == "canary"`})),
		sparse(devicesBy("by rare label", orchestrator.DeviceFilter{Label: "ring"})),
		sparse(devicesBy("by rare text", orchestrator.DeviceFilter{Text: "canary"})),
		devicesBy("by type, text, version, query", orchestrator.DeviceFilter{Type: "type-1", Text: "dev", Version: "bootloader=3.1", Query: `id startsWith "dev-"`}),
		detailsBy("all", orchestrator.DeviceFilter{}),
		detailsBy("by type", orchestrator.DeviceFilter{Type: "type-1"}),
		paged("devices of a static group", group("group-01")),
		paged("devices of a dynamic group", group("group-00")),
		paged("groups", func(s *S, p P) ([]orchestrator.Group, string, error) { return s.Groups(ctx, p) }),
		paged("jobs", jobs(orchestrator.JobFilter{})),
		paged("jobs by state", jobs(orchestrator.JobFilter{State: orchestrator.JobRunning})),
		paged("jobs by image", jobs(orchestrator.JobFilter{Image: "img-001"})),
		paged("executions of a job", executions()),
		paged("executions of a job, failed", executions(schemas.StateFailed)),
		paged("executions of a device", func(s *S, p P) ([]orchestrator.Execution, string, error) {
			return s.DeviceExecutions(ctx, "dev-000005", p)
		}),
		paged("images", images(orchestrator.ImageFilter{})),
		paged("images by tag", images(orchestrator.ImageFilter{Tag: "tag-1"})),
		paged("images by device type", images(orchestrator.ImageFilter{DeviceType: "type-1", Text: "1."})),
		paged("audit", audit(orchestrator.AuditFilter{})),
		paged("audit by kind", audit(orchestrator.AuditFilter{Kind: orchestrator.KindDevice})),
		paged("audit by actor", audit(orchestrator.AuditFilter{Actor: "user-3"})),
	}
}

// registry is a service on a store that is filled.
func registry(t testing.TB, store orchestrator.Store, devices, jobs int) *orchestrator.Service {
	t.Helper()
	if err := orchestrator.BuildRegistry(ctx, store, devices, jobs); err != nil {
		t.Fatal(err)
	}
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return must[*orchestrator.Service](t)(orchestrator.New(orchestrator.Options{
		Store: store, Blobs: blobs, Publisher: newBroker(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}))
}

func boltRegistry(t testing.TB, devices, jobs int) *orchestrator.Service {
	store, err := boltstore.Open(boltstore.Options{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return registry(t, store, devices, jobs)
}

// countingStore counts what is read: every Get, and every key that a Scan yields.
type countingStore struct {
	orchestrator.Store
	reads  int
	tables map[orchestrator.Table]int // the same by table, if it is not nil
}

func (c *countingStore) count(t orchestrator.Table) {
	c.reads++
	if c.tables != nil {
		c.tables[t]++
	}
}

func (c *countingStore) View(ctx context.Context, fn func(orchestrator.Reader) error) error {
	return c.Store.View(ctx, func(r orchestrator.Reader) error { return fn(&countingReader{r, c}) })
}

type countingReader struct {
	orchestrator.Reader
	store *countingStore
}

func (r *countingReader) Get(table orchestrator.Table, key []byte) ([]byte, error) {
	r.store.count(table)
	return r.Reader.Get(table, key)
}

func (r *countingReader) Scan(table orchestrator.Table, prefix, after []byte, fn func(k, v []byte) bool) error {
	return r.Reader.Scan(table, prefix, after, func(k, v []byte) bool {
		r.store.count(table)
		return fn(k, v)
	})
}

// TestListsCostTheSame reads the first pages of every listing of a small and a
// large registry: they take as many reads.
func TestListsCostTheSame(t *testing.T) {
	const limit, pages = 5, 2
	sizes := []int{1000, 5000}
	var stores []*countingStore
	var services []*orchestrator.Service
	for _, n := range sizes {
		stores = append(stores, &countingStore{Store: memstore.New()})
		services = append(services, registry(t, stores[len(stores)-1], n, 20))
	}
	for _, l := range listings() {
		var reads [2]int
		for i, s := range services {
			stores[i].reads = 0
			after := ""
			for range pages {
				_, next, err := l.page(s, after, limit)
				if err != nil {
					t.Fatalf("%s: %v", l.name, err)
				}
				after = next
			}
			reads[i] = stores[i].reads
		}
		switch most := reads[1]; {
		case most == 0:
			t.Errorf("%s: nothing was read", l.name)
		case l.sparse && most > pages*(1500+10):
			t.Errorf("%s: %d reads for %d pages", l.name, most, pages)
		case !l.sparse && most != reads[0]:
			t.Errorf("%s: %d reads with %d devices, %d with %d", l.name, reads[0], sizes[0], most, sizes[1])
		}
		t.Logf("%-32s %5d reads with %d devices, %5d with %d", l.name, reads[0], sizes[0], reads[1], sizes[1])
	}
}

// BenchmarkLists reads pages of 100 of every listing of a registry of 1,000 and
// one of 100,000 devices in turn, page after page, and reports how long they took.
func BenchmarkLists(b *testing.B) {
	services := []*orchestrator.Service{boltRegistry(b, 1000, 200), boltRegistry(b, 100_000, 200)}
	for _, l := range listings() {
		b.Run(l.name, func(b *testing.B) {
			var took [2][]time.Duration
			var after [2]string
			for b.Loop() {
				for i, s := range services {
					began := time.Now()
					_, next, err := l.page(s, after[i], 100)
					if err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
					after[i] = next
				}
			}
			var p [2][2]float64
			for i, size := range []string{"1k", "100k"} {
				slices.Sort(took[i])
				for j, q := range []int{50, 99} {
					p[i][j] = float64(took[i][(len(took[i])-1)*q/100].Microseconds()) / 1000
					b.ReportMetric(p[i][j], fmt.Sprintf("p%d-ms-%s", q, size))
				}
			}
			b.ReportMetric(p[1][0]/p[0][0], "p50-ratio")
			b.ReportMetric(p[1][1]/p[0][1], "p99-ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkPreview100k previews queries on 100,000 devices.
func BenchmarkPreview100k(b *testing.B) {
	s := boltRegistry(b, 100_000, 1)
	for _, q := range []string{
		`version.application < "1.5" or label.ring == "canary"`,
		`type == "type-1" and version.application < "1.5"`,
		`label.site == "site-3" and online and seen > ago("24h")`,
		`label.ring == "canary"`,
		`id startsWith "dev-0001"`,
	} {
		b.Run(q, func(b *testing.B) {
			for b.Loop() {
				p := must[orchestrator.QueryPreview](b)(s.PreviewQuery(ctx, q, 20))
				b.ReportMetric(float64(p.Count), "devices")
			}
		})
	}
}
