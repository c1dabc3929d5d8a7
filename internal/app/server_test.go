package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/internal/durable"
	"davit/internal/secrettest"
)

func testOptions(t testing.TB, dir string) ServerOptions {
	return ServerOptions{
		Data: dir, MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Log: secrettest.New(t).Logger(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// patience bounds every wait for real sockets and terminals.
const patience = 20 * time.Second

// startServer runs a server until the test or stop ends it.
func startServer(t testing.TB, o ServerOptions) (s *Server, stop func()) {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	stop = runTask(t, s)
	select {
	case <-s.Ready():
		if o.Data != "" {
			token, err := adminToken(o.Data)
			if err != nil {
				t.Fatal(err)
			}
			secrettest.Plant(o.Log, token)
		}
	case <-s.Done():
		t.Fatal("the server ended before it was ready")
	case <-time.After(patience):
		t.Fatal("the server does not get ready")
	}
	return s, stop
}

// runTask runs a task until the returned function or the test ends it; an
// error of the task fails the test.
func runTask(t testing.TB, task interface {
	Run(context.Context) error
	String() string
}) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", task, err)
			}
		case <-time.After(patience):
			t.Errorf("%s does not end", task)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestServerIsReadyOnlyWhenItServesAndEndsInOrder(t *testing.T) {
	dir := t.TempDir()
	s, stop := startServer(t, testOptions(t, dir))
	if err := Health(t.Context(), "http://"+s.Addresses().HTTP); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("tcp", s.Addresses().MQTT)
	if err != nil {
		t.Error(err)
	} else {
		defer conn.Close()
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %s with one idle connection", took)
	}
	if err := Health(t.Context(), "http://"+s.Addresses().HTTP); err == nil || !strings.Contains(err.Error(), "davit serve") {
		t.Errorf("health of a stopped service: %v", err)
	}
	// The folder is free again, and in order.
	report, err := Check(t.Context(), dir)
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, %v", report, err)
	}
}

func TestSecondServerOnAFolderSaysWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	startServer(t, testOptions(t, dir))
	_, err := NewServer(testOptions(t, dir))
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), "davit serve (pid ") {
		t.Errorf("second server: %v", err)
	}
	if _, err := Check(t.Context(), dir); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("check of a folder in use: %v", err)
	}
}

func TestFailedStartLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	o := testOptions(t, dir)
	o.HTTP = taken.Addr().String()
	if _, err := NewServer(o); err == nil || !strings.Contains(err.Error(), "listen for HTTP") || !strings.Contains(err.Error(), o.HTTP) {
		t.Errorf("start on a taken port: %v", err)
	}
	// Lock, store and broker were given back.
	startServer(t, testOptions(t, dir))
}
