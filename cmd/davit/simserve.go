package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"davit/internal/app"
)

// startServe starts davit serve as a process of its own, on a temporary folder, and has the
// run use it. stop ends it and removes the folder.
func (r *fleetRun) startServe(ctx context.Context) (stop func() error, err error) {
	dir, err := os.MkdirTemp("", "davit-fleet-")
	if err != nil {
		return nil, err
	}
	r.api.data = filepath.Join(dir, "data")
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// An interrupt of the terminal reaches the child as well; it is to end after the fleet.
	cmd := exec.Command(self, "serve", "--data", r.api.data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-level", "error",
		"--max-image", strconv.FormatInt(max(r.push, app.DefaultMaxImage), 10))
	cmd.Args[0], cmd.Stderr, cmd.SysProcAttr = os.Args[0], r.childErr, endsWithUs()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	wait, err := startKept(cmd)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		failed := cmd.Process.Signal(syscall.SIGTERM)
		if errors.Is(failed, os.ErrProcessDone) {
			failed = errors.New("the service of this run has ended before it was told to")
		}
		return errors.Join(failed, unlessTerminated(wait()), os.RemoveAll(dir))
	}
	ready, err := readReady(ctx, out)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	r.cfg.Broker, r.api.server = ready.MQTT, ready.HTTP
	r.say("a service runs at http://%s, with its data in %s for as long as the fleet runs", ready.HTTP, r.api.data)
	return stop, nil
}

// unlessTerminated leaves out that SIGTERM has ended a process: one that has just begun does not handle it yet.
func unlessTerminated(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	return err
}

// readReady waits until the service says that it is ready, or ctx ends.
func readReady(ctx context.Context, out io.Reader) (ready serveReady, err error) {
	said := make(chan error, 1)
	var line []byte
	go func() { // ends with the service at the latest
		var err error
		line, err = bufio.NewReader(out).ReadBytes('\n')
		said <- err
	}()
	select {
	case <-ctx.Done():
		return ready, ctx.Err()
	case err = <-said:
	}
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		err = fmt.Errorf("the service did not start: %w", err)
	}
	return ready, err
}

// startKept starts a process that the kernel ends with this one (endsWithUs). The kernel looks at the thread that
// has started it, and not at the process: so one thread does nothing but wait for the child.
func startKept(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return func() error { return <-ended }, <-started
}
