package fleet_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"davit/internal/app"
	"davit/internal/fleet"
	"davit/internal/mosquittotest"
)

// metric reads the value of a series of the service.
func (s *service) metric(series string) float64 {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.http+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close(); http.DefaultClient.CloseIdleConnections() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("no series %s", series)
	return 0
}

// TestSharedStreamOfTheService: devices that follow the stream of the service itself get the
// image, most of it by the stream: with the embedded broker and with another, where
// each chunk is published once for all.
func TestSharedStreamOfTheService(t *testing.T) {
	const devices, size = 30, 1 << 20
	follow := func(t *testing.T, s *service) float64 {
		c := s.fleet(devices)
		c.Broker = s.broker
		lossy, old := fleet.DefaultProfile(), fleet.DefaultProfile()
		whole := fleet.DefaultProfile()
		whole.Streams, whole.Adaptive, whole.Bandwidth, whole.Share, whole.V311 = true, true, 2<<20, 24, 0.3
		lossy.Name, lossy.Streams, lossy.Adaptive, lossy.Loss, lossy.Bandwidth, lossy.Share = "lossy", true, true, 0.03, 2<<20, 4
		old.Name, old.Share = "old", 2
		c.Profiles = []fleet.Profile{whole, lossy, old}
		s.push(&c, size)
		r := run(t, c)
		if r.Updates.AsDrawn != devices || r.Updates.WrongChunks+r.Updates.WrongImages > 0 {
			t.Errorf("updates: %+v", r.Updates)
		}
		shared := s.metric(`davit_chunk_sent_bytes_total{way="shared"}`)
		t.Logf("%.0f shared, %.0f short, %.0f long, %d came", shared, s.metric(`davit_chunk_sent_bytes_total{way="short"}`), s.metric(`davit_chunk_sent_bytes_total{way="long"}`), r.Download.ChunkBytes)
		return shared
	}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		s := startService(t, t.TempDir(), "127.0.0.1:0")
		if shared := follow(t, s); shared < devices*size/2 {
			t.Errorf("%.0f of %d bytes were shared", shared, devices*size)
		}
		s.stop()
	})
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		addr := mosquittotest.Run(t).Addr()
		s := startServiceWith(t, app.ServerOptions{Data: t.TempDir(), External: app.ExternalBroker{URL: "mqtt://" + addr, Username: "service"}})
		s.broker = addr
		if shared := follow(t, s); shared < size/2 || shared > 4*size {
			t.Errorf("%.0f bytes were published for all, of an image of %d", shared, size)
		}
		if long := s.metric(`davit_chunk_sent_bytes_total{way="long"}`); long > devices*size/2 {
			t.Errorf("%.0f bytes were published for one each", long)
		}
		s.stop()
	})
}
