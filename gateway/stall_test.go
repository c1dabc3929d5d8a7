package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
	"davit/orchestrator/memstore"
)

// pipeListener is a listener whose connections exist in virtual time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { close(l.closed); return nil }

func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// readAll is a service that reads uploads to their end.
type readAll struct{ gateway.Service }

func (readAll) UploadImage(_ context.Context, _ orchestrator.NewImage, r io.Reader) (orchestrator.Image, error) {
	_, err := io.Copy(io.Discard, r)
	return orchestrator.Image{}, fmt.Errorf("read the image: %w", err)
}

// TestSlowClients: whatever a client does not send, the server gives it up
// within a minute, and says so if it can.
func TestSlowClients(t *testing.T) {
	head := "POST /v1/images?image_type=app&device_type=pump&version=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + adminToken + "\r\nContent-Length: 100\r\n\r\n"
	for _, c := range []struct {
		name, sent string
		answer     string // its first line, "" for none
	}{
		{"nothing at all", "", ""},
		{"half a header", head[:50], "HTTP/1.1 400 Bad Request"},
		{"a body that stops", head + "x", "HTTP/1.1 408 Request Timeout"},
		{"a refused body that does not come", strings.Replace(head, adminToken, "wrong", 1), "HTTP/1.1 401 Unauthorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := slog.New(slog.DiscardHandler)
				directory, err := people.New(people.Options{Store: memstore.New(), AdminToken: adminToken, Log: log})
				if err != nil {
					t.Fatal(err)
				}
				api, err := gateway.NewAPI(gateway.APIOptions{Service: readAll{}, People: directory, Log: log})
				if err != nil {
					t.Fatal(err)
				}
				ln := &pipeListener{make(chan net.Conn), make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- gateway.Serve(ctx, ln, api, log) }()
				client, server := net.Pipe()
				ln.conns <- server
				begin := time.Now()
				go func() { _, _ = io.WriteString(client, c.sent) }() // ends with the connection
				answer, _ := bufio.NewReader(client).ReadString('\n')
				if strings.TrimSpace(answer) != c.answer {
					t.Errorf("answered %q, want %q", answer, c.answer)
				}
				_, _ = io.Copy(io.Discard, client)
				if took := time.Since(begin); took > time.Minute {
					t.Errorf("the connection was held for %v", took)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
