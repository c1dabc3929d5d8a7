package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"davit/internal/logevent"
	"davit/internal/managertest"
)

// listen is a service manager and a program that it has started, which logs to log.
func listen(t *testing.T, log io.Writer) (*managertest.Manager, *program) {
	t.Helper()
	m := managertest.Listen(t, filepath.Join(t.TempDir(), "notify"))
	return m, &program{streams: streams{in: strings.NewReader(""), out: io.Discard, err: log}, environ: []string{m.Environ()}}
}

// A program that is told to end and has ended when anybody looks says that it was about to; one that ended by itself
// does not.
func TestManagerHearsOfAnEndAtOnce(t *testing.T) {
	m, p := listen(t, io.Discard)
	done := make(chan struct{})
	close(done)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 64 {
		p.tellManager(ended, slog.New(slog.DiscardHandler), "Serving", done)
		m.Hears("READY=1\nSTATUS=Serving")
		m.Hears("STOPPING=1\n")
	}
	p.tellManager(t.Context(), slog.New(slog.DiscardHandler), "Serving", done)
	m.Tell("the end")
	m.Hears("READY=1\n")
	m.Hears("the end")
}

// When serve returns, its manager has been told all that it is ever told.
func TestServeReturnsWhenItsManagerKnows(t *testing.T) {
	m, p := listen(t, io.Discard)
	end := serve(t, p)
	m.Hears("READY=1\n")
	end()
	m.Tell("the end")
	m.Hears("STOPPING=1\n")
	m.Hears("the end")
}

// A manager that reads nothing is waited for, though not for ever, and the log says that it does not hear.
func TestServeReturnsThoughItsManagerReadsNothing(t *testing.T) {
	var log strings.Builder
	m, p := listen(t, &log)
	end := serve(t, p)
	m.Hears("READY=1\n")
	m.Fill()
	end()
	if !strings.Contains(log.String(), string(logevent.ManagerNotTold)) {
		t.Errorf("serve returned before it knew whether its manager heard of it:\n%s", &log)
	}
}

// serve starts a service. What it returns ends that and waits until it has returned.
func serve(t *testing.T, p *program) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
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
