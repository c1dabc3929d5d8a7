package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
)

// password of every user of the tests.
const password = "correct horse battery"

// scene is a whole service on loopback.
type scene struct {
	t      *testing.T
	server *app.Server
	client *client.Client
	base   string
	token  string
	// cookies are the sessions of those who have signed in.
	cookies map[string]*http.Cookie
}

func newScene(t *testing.T) *scene {
	t.Helper()
	needBrowser(t)
	dir := filepath.Join(t.TempDir(), "serve")
	server, err := app.NewServer(app.ServerOptions{
		Data: dir, MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, server.Run)
	await(t, "the service", server.Ready(), server.Done())
	token, err := app.ReadToken(app.TokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + server.Addresses().HTTP
	c, err := client.New(base, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &scene{t: t, server: server, client: c, base: base, token: token, cookies: map[string]*http.Cookie{}}
}

// run runs a task until the test ends.
func run(t *testing.T, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := task(ctx)
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a task does not end")
		}
	})
}

func await(t *testing.T, what string, ready, done <-chan struct{}) {
	t.Helper()
	select {
	case <-ready:
	case <-done:
		t.Fatalf("%s ended before it was ready", what)
	case <-time.After(patience):
		t.Fatalf("%s does not get ready", what)
	}
}

// must fails the test if a request failed.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// user creates a user with the password of the tests.
func (s *scene) user(name, display, role string) {
	s.t.Helper()
	must[client.User](s.t)(s.client.CreateUser(s.t.Context(), client.NewUser{Name: name, DisplayName: display, Role: role, Password: password}))
}

// session signs a user in over HTTP, once, and returns the cookie.
func (s *scene) session(user string) *http.Cookie {
	s.t.Helper()
	if c := s.cookies[user]; c != nil {
		return c
	}
	form := strings.NewReader("name=" + user + "&password=" + strings.ReplaceAll(password, " ", "+"))
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.base+"/sign-in", form)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", s.base)
	direct := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer direct.CloseIdleConnections()
	resp, err := direct.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if c.HttpOnly && c.Value != "" {
			s.cookies[user] = c
			return c
		}
	}
	s.t.Fatalf("signing in as %s gave status %d and no cookie", user, resp.StatusCode)
	return nil
}

// as sends a request to the API with a user's session.
func (s *scene) as(user, method, path string, body any) (status int, answer string) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", s.base)
	r.AddCookie(s.session(user))
	caller := http.Client{}
	defer caller.CloseIdleConnections()
	resp, err := caller.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// image uploads a demo image.
func (s *scene) image(n orchestrator.NewImage, size int, seed uint64) orchestrator.Image {
	s.t.Helper()
	n.FileName = n.ImageType + "-" + n.Version + ".bin"
	return must[orchestrator.Image](s.t)(s.client.UploadImage(s.t.Context(), n, strings.NewReader(string(sim.BuildDemoImage(n.Version, size, seed)))))
}

// board brings up a device with a real bridge and a simulated host MCU on a
// pseudo-terminal. trouble names a failure case of the simulator, or is empty.
func (s *scene) board(device, deviceType, trouble string, baud int) {
	s.t.Helper()
	ctx := s.t.Context()
	must[client.DeviceCredentials](s.t)(s.client.CreateDevice(ctx, orchestrator.NewDevice{ID: device, Type: deviceType, Labels: map[string]string{"site": "lab"}}))
	mcu := sim.MCUConfig{Version: "1.0.0", BootTime: 50 * time.Millisecond, ConfirmAfter: 20 * time.Millisecond, EraseTime: time.Millisecond}
	line := sim.LineConfig{Baud: baud}
	if trouble != "" {
		must[sim.FaultCase](s.t)(sim.FaultByName(trouble)).Apply(&mcu, &line)
	}
	pty, err := sim.OpenPTY(line)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := pty.Close(); err != nil {
			s.t.Error(err)
		}
	})
	host := sim.NewMCU(mcu)
	run(s.t, func(ctx context.Context) error { return host.Run(ctx, pty.MCU()) })

	name := "bridge-" + device
	b := must[client.Bridge](s.t)(s.client.CreateBridge(ctx, name, []string{device}))
	dir := s.t.TempDir()
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(b.Password+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	br, err := app.NewBridge(app.BridgeOptions{
		Broker: "mqtt://" + s.server.Addresses().MQTT, Username: name, PasswordFile: secret, Data: filepath.Join(dir, "data"),
		Ports: []bridge.PortConfig{{Device: device, Path: pty.Path(), Baud: baud}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	run(s.t, br.Run)
	await(s.t, name, br.Ready(), br.Done())
	s.until(device+" is online and has told its version", func() bool {
		d, err := s.client.Device(ctx, device)
		return err == nil && d.Online && len(d.Versions) > 0
	})
}

// until polls for what other goroutines do in their own time.
func (s *scene) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(glance) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in time: %s", what)
		}
	}
}

// gate is closed until it is opened.
type gate struct {
	once sync.Once
	ch   chan struct{}
}

func newGate() *gate  { return &gate{ch: make(chan struct{})} }
func (g *gate) open() { g.once.Do(func() { close(g.ch) }) }
func (g *gate) is() bool {
	select {
	case <-g.ch:
		return true
	default:
		return false
	}
}
