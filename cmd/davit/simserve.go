package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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
	cmd := exec.Command(self, "serve", "--data", r.api.data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-level", "error")
	cmd.Args[0], cmd.Stderr, cmd.SysProcAttr = os.Args[0], r.p.err, ownGroup()
	stop = func() error {
		failed := cmd.Process.Signal(syscall.SIGTERM)
		return errors.Join(failed, cmd.Wait(), os.RemoveAll(dir))
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready serveReady
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the service did not start: %w", err), stop())
	}
	r.cfg.Broker, r.api.server = ready.MQTT, ready.HTTP
	r.say("a service runs at http://%s, with its data in %s for as long as the fleet runs", ready.HTTP, r.api.data)
	return stop, ctx.Err()
}
