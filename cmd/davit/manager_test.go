package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/internal/logevent"
)

// notified is the socket of a service manager that only listens.
type notified struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newNotified(t *testing.T) *notified {
	t.Helper()
	n := &notified{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.conn.Close() })
	return n
}

// program is one that this manager has started.
func (n *notified) program() *program {
	return &program{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, environ: []string{"NOTIFY_SOCKET=" + n.path}}
}

// hears takes the next of what the manager was told.
func (n *notified) hears(want string) {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	b := make([]byte, 4096)
	got, err := n.conn.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:got]), want) {
		n.t.Fatalf("the manager hears %q (%v), want %q", b[:got], err, want)
	}
}

// tellIt tells the manager something itself, which comes after all that it was told before.
func (n *notified) tellIt(what string) {
	n.t.Helper()
	conn := n.dial()
	defer conn.Close()
	if _, err := conn.Write([]byte(what)); err != nil {
		n.t.Fatal(err)
	}
}

// fill tells the manager so much that it can hear no more.
func (n *notified) fill() {
	n.t.Helper()
	conn := n.dial()
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		n.t.Fatal(err)
	}
	for {
		if _, err := conn.Write([]byte("STATUS=x")); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *notified) dial() *net.UnixConn {
	n.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		n.t.Fatal(err)
	}
	return conn
}

// A program that is told to end and has ended when anybody looks says that it was about to; one that ended by itself
// does not.
func TestManagerHearsOfAnEndAtOnce(t *testing.T) {
	n := newNotified(t)
	done := make(chan struct{})
	close(done)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 64 {
		n.program().tellManager(ended, slog.New(slog.DiscardHandler), "Serving", done)
		n.hears("READY=1\nSTATUS=Serving")
		n.hears("STOPPING=1\n")
	}
	n.program().tellManager(t.Context(), slog.New(slog.DiscardHandler), "Serving", done)
	n.tellIt("the end")
	n.hears("READY=1\n")
	n.hears("the end")
}

// When serve returns, its manager has been told all that it is ever told.
func TestServeReturnsWhenItsManagerKnows(t *testing.T) {
	n := newNotified(t)
	end := n.serve(t, io.Discard)
	n.hears("READY=1\n")
	end()
	n.tellIt("the end")
	n.hears("STOPPING=1\n")
	n.hears("the end")
}

// A manager that reads nothing is waited for, though not for ever, and the log says that it does not hear.
func TestServeReturnsThoughItsManagerReadsNothing(t *testing.T) {
	n := newNotified(t)
	var log strings.Builder
	end := n.serve(t, &log)
	n.hears("READY=1\n")
	n.fill()
	end()
	if !strings.Contains(log.String(), string(logevent.ManagerNotTold)) {
		t.Errorf("serve returned before it knew whether its manager heard of it:\n%s", &log)
	}
}

// serve starts a service. What it returns ends that and waits until it has returned.
func (n *notified) serve(t *testing.T, log io.Writer) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	p := n.program()
	p.err = log
	root := p.root()
	root.SetArgs([]string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"})
	over := make(chan error, 1)
	go func() { over <- root.ExecuteContext(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-over; err != nil {
			t.Fatal(err)
		}
	}
}
