package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"davit/internal/app"
	"davit/internal/app/systemd"
	"davit/internal/logevent"
)

// managed is a program that a service manager may have started.
type managed struct {
	program interface {
		Ready() <-chan struct{}
		Run(ctx context.Context) error
	}
	// started is called when the program is ready.
	started func()
	// status is a line for people.
	status func() string
	// hangups each have reload called. Both are nil for a program that reads its configuration once.
	hangups <-chan os.Signal
	reload  func(ctx context.Context)
}

// runManaged runs a program, and returns what it does when the service manager has been told of it: a process that is
// gone tells nothing.
func (p *program) runManaged(ctx context.Context, log *slog.Logger, m managed) error {
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		p.tellManager(ctx, log, m, done)
	}()
	err := m.program.Run(ctx)
	close(done)
	<-told
	return err
}

// tellManager tells the service manager that a program is ready, that it reloads, and when ctx ends that it is about to
// end, one after the other, and nothing before it is ready. It returns then, or when the program is done by itself.
func (p *program) tellManager(ctx context.Context, log *slog.Logger, m managed, done <-chan struct{}) {
	var manager systemd.Manager
	for ready := m.program.Ready(); ; {
		select {
		case <-ready:
			ready = nil
			m.started()
			manager = systemd.New(p.environ)
			warnOfManager(log, manager.Ready(m.status()))
			continue
		case <-m.hangups:
			warnOfManager(log, manager.Reloading())
			m.reload(ctx)
			warnOfManager(log, manager.Ready(m.status()))
			continue
		case <-ctx.Done():
		case <-done:
		}
		if ctx.Err() != nil { // of one that ended at once, both are seen together
			warnOfManager(log, manager.Stopping("Ending in order"))
		}
		return
	}
}

// warnOfManager logs that the service manager could not be told something.
func warnOfManager(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("the service manager does not hear this program and may take it for one that hangs", "event", logevent.ManagerNotTold, "error", err)
	}
}

// bridgeStatusLine is what systemctl status shows of a bridge.
func bridgeStatusLine(b *app.Bridge) string {
	o := b.Options()
	return fmt.Sprintf("%d ports, broker %s", len(o.Ports), o.Broker)
}
