package main

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// The second signal stops the bridge, also if the first came before there was one.
func TestStopOnSecondSignal(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		signals []syscall.Signal // not twice the same: the system may make one of these
	}{
		"both come while it runs": {t.Context(), []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}},
		"the first came before":   {ended, []syscall.Signal{syscall.SIGTERM}},
	} {
		t.Run(name, func(t *testing.T) {
			stopped := make(chan struct{})
			over := stopOnSecondSignal(c.ctx, func() { close(stopped) })
			defer over()
			for n, s := range c.signals {
				select {
				case <-stopped:
					t.Fatalf("stopped after %d signals", n)
				default:
				}
				if err := syscall.Kill(syscall.Getpid(), s); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-stopped:
			case <-time.After(10 * time.Second):
				t.Error("not stopped")
			}
		})
	}
}
