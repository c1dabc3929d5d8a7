package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/internal/logonce"
)

// Settings of the HTTP server; see middleware.go for bodies and answers.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	shutdownTimeout   = 10 * time.Second
	// maxConnections is how many connections there may be at a time, and
	// maxAddressConnections from one address: what says nothing is ended after
	// readHeaderTimeout, and more than so many must not wait for that.
	maxConnections        = 8192
	maxAddressConnections = 2048
)

// connections counts those of a server and closes what is too many. It is safe for
// concurrent use.
type connections struct {
	all, each int // that there may be
	log       *slog.Logger
	logged    logonce.Limit

	mu    sync.Mutex
	count int
	from  map[string]int // by address
}

// changed is http.Server.ConnState. Below TLS a connection cannot be wrapped without
// hiding TLS from net/http, so they are counted here.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	address := people.Network(conn.RemoteAddr().String())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.count++
		c.from[address]++
		if c.count > c.all || c.from[address] > c.each {
			_ = conn.Close() // StateClosed comes for it as for others
			if c.logged.Allow("connections") {
				c.log.Warn("HTTP connections are closed: there are too many", "event", logevent.ConnectionsLimited, "open", c.count, "remote", address, "of_remote", c.from[address])
			}
		}
	case http.StateClosed, http.StateHijacked:
		c.count--
		if c.from[address]--; c.from[address] == 0 {
			delete(c.from, address)
		}
	}
}

type drainKey struct{}

// untilDrain ends with ctx or when the server begins to shut down: for
// requests that only wait.
func untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	drain, ok := ctx.Value(drainKey{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	stop := context.AfterFunc(drain, cancel)
	return ctx, func() { stop(); cancel() }
}

// Serve answers HTTP requests on ln, which it closes, until ctx ends. Then long
// polls are answered at once and other requests have ten seconds to end.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	base := context.WithValue(context.WithoutCancel(ctx), drainKey{}, ctx)
	open := &connections{all: maxConnections, each: maxAddressConnections, log: log, from: map[string]int{}}
	srv := &http.Server{
		ConnState:         open.changed,
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("HTTP server on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		log.Warn("HTTP requests were cut off at shutdown", "event", logevent.RequestsCutOff, "error", err)
		err = srv.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
