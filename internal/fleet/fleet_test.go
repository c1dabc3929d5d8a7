package fleet_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/fleet"
	"davit/internal/fleet/supply"
)

// wholeCheckOnly skips what go test has no time for.
func wholeCheckOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("runs under DAVIT_TEST_FULL=1")
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a service in this process.
type service struct {
	t      *testing.T
	client *client.Client
	broker string
	http   string
	token  string
	stop   func()
}

func startService(t *testing.T, data, mqtt string) *service {
	t.Helper()
	return startServiceWith(t, app.ServerOptions{Data: data, MQTT: mqtt})
}

func startServiceWith(t *testing.T, o app.ServerOptions) *service {
	t.Helper()
	o.HTTP, o.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	server, err := app.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	select {
	case <-server.Ready():
	case <-server.Done():
		t.Fatal(<-ended)
	}
	token, err := app.ReadToken(app.TokenFile(o.Data))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New("http://"+server.Addresses().HTTP, token)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, client: c, broker: server.Addresses().MQTT, http: "http://" + server.Addresses().HTTP, token: token}
	s.stop = func() {
		if ctx.Err() != nil {
			return
		}
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// fleet is a configuration with n devices of the service.
func (s *service) fleet(n int) fleet.Config {
	s.t.Helper()
	if err := supply.Types(s.t.Context(), s.client); err != nil {
		s.t.Fatal(err)
	}
	logins, err := supply.Devices(s.t.Context(), s.client, "sim-", n, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := fleet.DefaultConfig()
	c.Broker, c.Devices, c.DeviceType, c.TimeScale, c.Ramp, c.Timeout = s.broker, logins, supply.DeviceType, 1000, 1000, time.Minute
	return c
}

func (s *service) push(c *fleet.Config, size int) {
	c.Update = true
	c.Ready = func() error {
		_, err := supply.Push(s.t.Context(), s.client, "sim-", size, 1)
		return err
	}
}

func run(t *testing.T, c fleet.Config) *fleet.Result {
	t.Helper()
	r, err := fleet.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Succeeded {
		t.Errorf("not as it should be: %q", r.Reasons)
	}
	if t.Failed() {
		t.Logf("%+v", *r)
	}
	return r
}

func TestUpdateOfAMixedFleet(t *testing.T) {
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(50)
	good, bad := fleet.DefaultProfile(), fleet.DefaultProfile()
	good.V311, good.Loss, good.Window, good.Latency, good.Share = 0.5, 0.05, 8, 20*time.Millisecond, 30
	bad.Name, bad.Share, bad.Chunk, bad.FallBack, bad.FallBackAfter, bad.Bandwidth = "bad", 20, 1000, 0.1, time.Second, 1<<20
	for _, cause := range fleet.Causes() {
		bad.Faults = append(bad.Faults, fleet.Fault{Cause: cause, Part: 0.05})
	}
	adaptive := good
	adaptive.Name, adaptive.Adaptive, good.Share, adaptive.Share = "adaptive", true, 15, 15
	c.Profiles = []fleet.Profile{good, adaptive, bad}
	s.push(&c, 100_000)
	r := run(t, c)
	if r.Online != 50 || r.Updates.Finished != 50 || r.Updates.AsDrawn != 50 || r.Updates.FallenBack == 0 {
		t.Errorf("updates: %+v", r.Updates)
	}
	if r.Phases["failed"] != int64(len(fleet.Causes())) || r.Messages.ChunksDropped == 0 || r.Messages.Gaps == 0 {
		t.Errorf("phases %v, messages %+v", r.Phases, r.Messages)
	}
}

// TestEmulatedTimesShow: with a service as well, nothing is faster than the profile says.
func TestEmulatedTimesShow(t *testing.T) {
	const size, devices = 100_000, 5
	for name, c := range map[string]struct {
		profile func(*fleet.Profile)
		scale   float64
		least   func(*fleet.Result) map[string][2]float64 // what was measured, and what it is at least
	}{
		"latency": {func(p *fleet.Profile) { p.Latency = 50 * time.Millisecond }, 1000, func(r *fleet.Result) map[string][2]float64 {
			return map[string][2]float64{"fetch to chunk": {r.Latency.Chunk.P50, 50}}
		}},
		"latency, adaptive": {func(p *fleet.Profile) { p.Latency, p.Adaptive = 50*time.Millisecond, true }, 1000, func(r *fleet.Result) map[string][2]float64 {
			return map[string][2]float64{"fetch to chunk": {r.Latency.Chunk.P50, 50}}
		}},
		"bandwidth": {func(p *fleet.Profile) { p.Bandwidth = 200_000 }, 1000, func(r *fleet.Result) map[string][2]float64 {
			return map[string][2]float64{"download": {r.Download.Seconds, 0.5}}
		}},
		"host MCU": {func(p *fleet.Profile) { p.Line, p.Boot = 115_200, 10*time.Second }, 20, func(r *fleet.Result) map[string][2]float64 {
			return map[string][2]float64{"update": {r.Updates.Seconds, (size*10/115_200.0 + 8) / 20}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startService(t, t.TempDir(), "127.0.0.1:0")
			cfg := s.fleet(devices)
			cfg.TimeScale = c.scale
			c.profile(&cfg.Profiles[0])
			s.push(&cfg, size)
			r := run(t, cfg)
			for what, v := range c.least(r) {
				if v[0] < v[1] {
					t.Errorf("%s: %v, want %v or more", what, v[0], v[1])
				}
			}
		})
	}
}

func TestUpdateWithReboots(t *testing.T) {
	wholeCheckOnly(t)
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(20)
	c.Profiles[0].RebootEvery, c.Profiles[0].Bandwidth, c.Profiles[0].Window = 2*time.Second, 200_000, 4
	s.push(&c, 100_000)
	r := run(t, c)
	if r.Connects.Reboots == 0 || r.Phases["succeeded"] != 20 {
		t.Errorf("reboots %d, phases %v", r.Connects.Reboots, r.Phases)
	}
}

func TestThoseWhoNeverReadHoldNobodyUp(t *testing.T) {
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(40)
	c.Profiles[0].NeverRead = 0.25
	s.push(&c, 300_000)
	r := run(t, c)
	if r.Phases["succeeded"] != 30 || r.Updates.NeverRead == 0 {
		t.Errorf("phases %v, never read: %d", r.Phases, r.Updates.NeverRead)
	}
}

func TestStormOfTheFleet(t *testing.T) {
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(50)
	c.Storm, c.Hold, c.Hellos = fleet.StormCut, time.Second, 200
	r := run(t, c)
	if r.Storm == nil || r.Storm.Attempts < 50 || r.Connects.Lost != 50 || r.Messages.Hellos < 200 {
		t.Errorf("storm %+v, connects %+v, %d hellos", r.Storm, r.Connects, r.Messages.Hellos)
	}
}

// TestStormOfTheService restarts the service under the fleet.
func TestStormOfTheService(t *testing.T) {
	wholeCheckOnly(t)
	t.Parallel()
	data := t.TempDir()
	s := startService(t, data, "127.0.0.1:0")
	c := s.fleet(30)
	c.Storm, c.Hold = fleet.StormWait, 0
	c.Profiles[0].V311 = 0.5
	again := make(chan struct{})
	c.Connected = func() {
		go func() {
			defer close(again)
			s.stop()
			startService(t, data, s.broker)
		}()
	}
	r := run(t, c)
	<-again
	if r.Storm == nil || r.Online != 30 {
		t.Errorf("storm %+v, %d online", r.Storm, r.Online)
	}
}

// TestWrongPassword says which devices the broker refuses.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(3)
	c.Devices[1].Password = "wrong"
	r, err := fleet.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Succeeded || r.Connects.Refused != 1 || r.Online != 2 || len(r.Errors) != 1 {
		t.Errorf("got %+v", *r)
	}
}

// TestStormThatDoesNotBegin: nobody is back who was never away.
func TestStormThatDoesNotBegin(t *testing.T) {
	t.Parallel()
	s := startService(t, t.TempDir(), "127.0.0.1:0")
	c := s.fleet(3)
	c.Storm = fleet.StormWait
	ctx, cancel := context.WithCancel(t.Context())
	c.Connected = cancel
	r, err := fleet.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"no storm has begun: no connection was lost (interrupted)"}; r.Succeeded || !slices.Equal(r.Reasons, want) {
		t.Errorf("got %q, want %q", r.Reasons, want)
	}
}

// TestNotMeasured: what is measured when all have connected is not told if they have not.
func TestNotMeasured(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := fleet.DefaultConfig()
	c.Broker, c.Devices = silent.Addr().String(), []fleet.Login{{ID: "sim-1"}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := silent.Accept()
		cancel()
		if err == nil {
			_, _ = io.Copy(io.Discard, conn) // until the fleet ends it
			_ = conn.Close()
		}
	}()
	r, err := fleet.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	r.Print(&said)
	for _, what := range []string{"all after", "an idle device", "idle_bytes_per_device", "idle_rss_bytes_per_device"} {
		if strings.Contains(said.String()+string(b), what) {
			t.Errorf("%q was not measured:\n%s%s", what, said.String(), b)
		}
	}
	if r.Succeeded || r.Connects.Attempts != 1 || !strings.Contains(said.String(), "0 accepted of 1 attempts; 0 busy") {
		t.Errorf("said %s", said.String())
	}
}
