package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// atOnce is a program that is ready from the beginning. It runs until it has started, and then ends.
type atOnce struct {
	started chan struct{}
	end     func()
}

func (a *atOnce) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

func (a *atOnce) Run(context.Context) error {
	<-a.started
	a.end()
	return nil
}

func (a *atOnce) managed() managed {
	return managed{program: a, started: func() { close(a.started) }, status: func() string { return "Serving" }}
}

// A program that is told to end and has ended when anybody looks says that it was about to; one that ended by itself
// does not.
func TestManagerHearsOfAnEndAtOnce(t *testing.T) {
	m, p := listen(t, io.Discard)
	run := func(ctx context.Context, end func()) {
		t.Helper()
		a := &atOnce{make(chan struct{}), end}
		if err := p.runManaged(ctx, slog.New(slog.DiscardHandler), a.managed()); err != nil {
			t.Fatal(err)
		}
		m.Hears("READY=1\nSTATUS=Serving")
	}
	for range 64 {
		run(context.WithCancel(t.Context()))
		m.Hears("STOPPING=1\n")
	}
	run(t.Context(), func() {})
	m.Tell("the end")
	m.Hears("the end")
}

// A hangup before a program is ready has it reload, and its manager hear nothing; one after that has it hear both ends
// of the reload, before anything else.
func TestManagerHearsOfReloads(t *testing.T) {
	m, p := listen(t, io.Discard)
	w := &waits{ready: make(chan struct{})}
	hangups, reloads := make(chan os.Signal), 0
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- p.runManaged(ctx, slog.New(slog.DiscardHandler), managed{
			program: w, started: func() {}, status: func() string { return fmt.Sprintf("reloaded %d times", reloads) },
			hangups: hangups, reload: func(context.Context) { reloads++ },
		})
	}()
	hangups <- syscall.SIGHUP
	hangups <- syscall.SIGHUP // taken when the first is over
	m.Tell("not ready")
	m.Hears("not ready")
	close(w.ready)
	m.Hears("READY=1\nSTATUS=reloaded 2 times")
	hangups <- syscall.SIGHUP
	cancel()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"RELOADING=1", "READY=1\nSTATUS=reloaded 3 times", "STOPPING=1\n"} {
		m.Hears(want)
	}
}

// waits is a program that is ready when its test says so, and does nothing.
type waits struct{ ready chan struct{} }

func (w *waits) Ready() <-chan struct{} { return w.ready }

func (w *waits) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
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
