package app

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// crowd is a running service with n devices that are connected and online, have said hello
// and have asked for chunks: everything that the service holds of a device but its socket.
// A job runs on two of them.
func crowd(t testing.TB, n int) *Server {
	t.Helper()
	o := testOptions(t, t.TempDir())
	o.Reoffers = 100_000
	s, _ := startServer(t, o)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.service.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType})
	must(err)
	_, err = s.service.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: testDeviceType, Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}}})
	must(err)
	each := func(do func(ctx context.Context, device string) error) {
		t.Helper()
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(512)
		for i := range n {
			g.Go(func() error { return do(ctx, fmt.Sprintf("unit-%05d", i)) })
		}
		must(g.Wait())
	}
	each(func(ctx context.Context, device string) error {
		_, err := s.service.CreateDevice(ctx, orchestrator.NewDevice{ID: device, Type: testDeviceType})
		return err
	})
	image, err := s.service.UploadImage(ctx, orchestrator.NewImage{
		ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: "2.0.0", FileName: "crowd.bin",
	}, bytes.NewReader(sim.BuildDemoImage("2.0.0", sim.MinDemoImage, 1)))
	must(err)
	_, err = s.service.CreateJob(ctx, orchestrator.NewJob{Name: "crowd", Image: image.ID, Devices: []string{"unit-00000", "unit-00001"}})
	must(err)
	_, err = s.service.StartJob(ctx, "crowd")
	must(err)
	each(func(ctx context.Context, device string) error {
		s.principalCame(device, []string{device})
		if err := s.service.Presence(ctx, device, true); err != nil {
			return err
		}
		s.service.MayFetch(device, nil) // the streamer remembers it from then on
		return s.service.Hello(ctx, device, schemas.Hello{V: schemas.Version, DeviceType: testDeviceType, Module: "crowd", MaxChunk: 1024, Dialect: orchestrator.DialectAyla})
	})
	quiet(t, s)
	return s
}

// quiet waits until every offer is published, so that nothing else allocates much.
func quiet(t testing.TB, s *Server) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); <-tick.C {
		body := scrape(t, s).Body.Bytes()
		if bytes.Contains(body, []byte(`davit_offers_waiting{kind="new"} 0`)) && bytes.Contains(body, []byte(`davit_offers_waiting{kind="repeat"} 0`)) {
			return
		}
	}
	t.Fatal("offers are still waiting")
}

// scrape is what GET /metrics answers.
func scrape(t testing.TB, s *Server) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	metricsHandler(s.registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

// TestScrapeDoesNotWalkTheFleet: five times the devices (twenty times under
// DAVIT_TEST_FULL=1) are as many allocations and as many lines. Other goroutines allocate as well, so the least of some runs counts, and a
// handful more or less is not the fleet.
func TestScrapeDoesNotWalkTheFleet(t *testing.T) {
	var allocations [2]float64
	var lines [2]int
	many := 500
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		many = 2000
	}
	for i, n := range []int{100, many} {
		s := crowd(t, n)
		body := scrape(t, s).Body.Bytes()
		lines[i] = bytes.Count(body, []byte("\n"))
		for _, want := range []string{
			fmt.Sprintf("davit_connected_devices{type=%q} %d\n", testDeviceType, n), fmt.Sprintf("davit_devices_online %d\n", n), fmt.Sprintf("davit_devices{type=%q} %d\n", testDeviceType, n),
		} {
			if !bytes.Contains(body, []byte(want)) {
				t.Errorf("with %d devices there is no %q", n, want)
			}
		}
		for range 10 {
			if a := testing.AllocsPerRun(5, func() {
				if _, err := s.registry.Gather(); err != nil {
					t.Error(err)
				}
			}); allocations[i] == 0 || a < allocations[i] {
				allocations[i] = a
			}
		}
	}
	t.Logf("allocations of a scrape with 100 and %d devices: %v; lines: %v", many, allocations, lines)
	if d := allocations[1] - allocations[0]; d > 50 {
		t.Errorf("a scrape allocates %v times with 100 devices and %v times with %d", allocations[0], allocations[1], many)
	}
	if d := lines[1] - lines[0]; d > 20 || d < -20 {
		t.Errorf("%d lines with 100 devices and %d with %d", lines[0], lines[1], many)
	}
}

// BenchmarkScrape is GET /metrics with 19,000 devices connected.
func BenchmarkScrape(b *testing.B) {
	s := crowd(b, 19_000)
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, s)
	}
}
