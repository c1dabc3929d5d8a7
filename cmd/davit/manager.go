package main

import (
	"context"
	"fmt"
	"log/slog"

	"davit/internal/app"
	"davit/internal/app/systemd"
	"davit/internal/logevent"
)

// tellManager tells the service manager that a program is ready, and when ctx ends that it is about to end. It
// returns then, or when the program is done by itself. Whoever runs the program waits for that: a process that is gone
// tells nothing.
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
