package main

import (
	"context"
	"fmt"
	"log/slog"

	"davit/internal/app"
	"davit/internal/app/systemd"
	"davit/internal/logevent"
)

// managed is a program that a service manager may have started.
type managed interface {
	Ready() <-chan struct{}
	Run(ctx context.Context) error
}

// runManaged runs a program, has ready say when it is so, and tells the service manager what it has to know. It returns
// what the program does, when the manager has been told: a process that is gone tells nothing. ready returns a line for
// people.
func (p *program) runManaged(ctx context.Context, log *slog.Logger, m managed, ready func() (status string)) error {
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		select {
		case <-m.Ready():
			p.tellManager(ctx, log, ready(), done)
		case <-done:
		}
	}()
	err := m.Run(ctx)
	close(done)
	<-told
	return err
}

// tellManager tells the service manager that a program is ready, and when ctx ends that it is about to end. It
// returns then, or when the program is done by itself.
func (p *program) tellManager(ctx context.Context, log *slog.Logger, status string, done <-chan struct{}) {
	manager := systemd.New(p.environ)
	warnOfManager(log, manager.Ready(status))
	select {
	case <-ctx.Done():
	case <-done:
	}
	if ctx.Err() != nil { // of one that ended at once, both are seen together
		warnOfManager(log, manager.Stopping("Ending in order"))
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
