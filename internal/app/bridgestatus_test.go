package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/bridge"
)

// statusBridge runs a bridge without a broker on a data folder, until the test
// ends or the returned function is called.
func statusBridge(t *testing.T, data string) (*Bridge, func()) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := NewBridge(BridgeOptions{
		Broker: "mqtt://127.0.0.1:1", Username: "rack", PasswordFile: password, Data: data, Metrics: "127.0.0.1:0",
		Ports: []bridge.PortConfig{{Device: "pump-1", Path: "/nowhere/tty\x1bX", Dialect: "ayla"}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return b, stop
}

func TestBridgeStatus(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if _, err := BridgeStatus(t.Context(), data); !errors.Is(err, ErrNoBridge) || !strings.Contains(err.Error(), "davit bridge --data "+data) {
		t.Errorf("of no bridge: %v", err)
	}
	b, stop := statusBridge(t, data)
	socket := filepath.Join(data, statusName)
	s, err := BridgeStatus(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Ports; len(p) != 1 || p[0].Device != "pump-1" || p[0].Port != `/nowhere/tty\x1bX` || s.Software == "" || s.Broker.Connected {
		t.Errorf("status %+v", s)
	}
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
	resp, err := http.Get("http://" + b.MetricsAddr() + "/status")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	var same bridge.Status
	if err := json.Unmarshal(body, &same); err != nil || len(same.Ports) != 1 || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("beside the metrics: %s, %v", body, err)
	}
	stop()
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end the socket is there: %v", err)
	}
	if _, err := BridgeStatus(t.Context(), data); !errors.Is(err, ErrNoBridge) {
		t.Errorf("after the end: %v", err)
	}
}

// The socket of a killed bridge is told from one that answers, and replaced.
func TestBridgeStatusOverAStaleSocket(t *testing.T) {
	data := t.TempDir()
	socket := filepath.Join(data, statusName)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	if _, err := BridgeStatus(t.Context(), data); !errors.Is(err, ErrNoBridge) {
		t.Errorf("of a killed bridge: %v", err)
	}
	_, stop := statusBridge(t, data)
	if _, err := BridgeStatus(t.Context(), data); err != nil {
		t.Error(err)
	}
	// What is another bridge's by now stays.
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := os.Lstat(socket); err != nil {
		t.Error(err)
	}
}

// A data folder's path may be longer than a socket's address has room for.
func TestBridgeStatusInADeepFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	_, stop := statusBridge(t, data)
	if _, err := BridgeStatus(t.Context(), data); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(filepath.Join(data, statusName)); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
	stop()
	if left, _ := filepath.Glob(filepath.Join(data, statusName)); left != nil {
		t.Errorf("left: %v", left)
	}
}

// A folder in which no socket can be made costs the status and not the bridge.
func TestBridgeWithoutASocket(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, statusName, "x"), 0o700); err != nil { // cannot be removed
		t.Fatal(err)
	}
	b, stop := statusBridge(t, data)
	resp, err := http.Get("http://" + b.MetricsAddr() + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	stop()
}

// A bridge that ends removes its own socket only, and not the next one's, though that may have got
// the same number in the file system.
func TestBridgeLeavesTheNextOnesSocket(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, statusName)
	listen := func() fs.FileInfo {
		ln, err := listenStatus(data)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err := errors.Join(err, ln.Close()); err != nil {
			t.Fatal(err)
		}
		return info
	}
	for range 20 {
		first := listen()
		next := listen()
		if !os.SameFile(first, next) {
			continue // the file system gave it another number
		}
		if err := removeStatus(data, first); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil && !next.ModTime().Equal(first.ModTime()) {
			t.Errorf("the next one's socket is gone: %v", err)
		}
		if err := removeStatus(data, next); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("its own socket is there yet")
		}
		return
	}
}
