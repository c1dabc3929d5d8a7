package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/fleet"
	"davit/internal/fleet/supply"
	"davit/orchestrator"
)

// watch has a terminal and a pipe that were closed end the run as an interrupt does, with all that it has
// started. over ends that.
func (r *fleetRun) watch(ctx context.Context) (_ context.Context, over func()) {
	ctx, cancel := context.WithCancel(ctx)
	out, err := r.p.out, r.p.err
	r.cfg.Terminal = app.IsTerminal(err)
	r.cfg.Width = func() int {
		columns, _, _ := app.TerminalSize(err)
		return columns
	}
	r.childErr = err
	r.p.out, r.p.err = watchedWriter{out, cancel}, watchedWriter{err, cancel}
	r.cfg.View = r.p.err
	// Several may come when a terminal is closed: one from the kernel, one from the shell.
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(hangups, syscall.SIGHUP)
	}
	// Nobody reads these. But a process that takes them is not killed by a pipe without a reader: its write fails.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	go func() {
		select {
		case <-hangups:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		signal.Stop(hangups)
		signal.Stop(pipes)
		r.p.out, r.p.err = out, err
	}
}

// watchedWriter calls gone when nobody reads any more what is written.
type watchedWriter struct {
	io.Writer
	gone func()
}

// Write implements io.Writer.
func (w watchedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		w.gone()
	}
	return n, err
}

// leave removes what was made for the run, if that is asked for.
func (r *fleetRun) leave(ctx context.Context) error {
	if r.client == nil {
		return nil
	}
	defer r.client.Close()
	if !r.cleanUp || len(r.cfg.Devices) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if r.job != "" {
		if err := r.cancelJob(ctx); err != nil {
			return fmt.Errorf("clean up: %w; the devices are left: cancel the job with davit job cancel %s, and delete them", err, r.job)
		}
	}
	r.say("removing devices: %d", len(r.cfg.Devices))
	err := supply.Remove(ctx, r.client, r.cfg.Devices, func(n int) { r.say("%d are removed", n) })
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// cancelTime is how long a canceled job may take to let go of its devices.
const cancelTime = time.Minute

// cancelJob ends the run's job, and waits until no device is in use by it.
func (r *fleetRun) cancelJob(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTime)
	defer cancel()
	_, err := r.client.CancelJob(ctx, r.job, orchestrator.CancelRequest{})
	switch {
	case client.IsStatus(err, http.StatusNotFound), client.IsStatus(err, http.StatusConflict):
		return nil // it was never made, or is completed
	case err != nil:
		return fmt.Errorf("cancel the job %q: %w", r.job, err)
	}
	for since := uint64(0); ; {
		c, err := r.client.Changes(ctx, r.job, since, cancelTime)
		if err != nil {
			return fmt.Errorf("wait for the end of the job %q: %w", r.job, err)
		}
		if !c.Job.CompletedAt.IsZero() {
			return nil
		}
		since = c.Rev
	}
}

// resultFile is the file of --result, which is open from the beginning of the run: whether it can be written
// shows before anything is done. Its content stays until there is another one.
type resultFile struct {
	file *os.File
	made bool // it was not there
}

// openResult opens the file, nil for none.
func openResult(path string) (*resultFile, error) {
	if path == "" {
		return nil, nil
	}
	_, err := os.Lstat(path)
	made := errors.Is(err, os.ErrNotExist)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, cannotError{fmt.Errorf("sim fleet: --result cannot be written: %w; name another file", err)}
	}
	return &resultFile{file, made}, nil
}

// write puts the result in the place of what the file had.
func (f *resultFile) write(result *fleet.Result) error {
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	f.made = false // it is kept from now on
	if info, err := f.file.Stat(); err == nil && info.Mode().IsRegular() {
		if err := f.file.Truncate(0); err != nil {
			return err
		}
	}
	_, err = f.file.Write(append(b, '\n'))
	return errors.Join(err, f.file.Close())
}

// close ends a file that has got no result.
func (f *resultFile) close() {
	if f == nil {
		return
	}
	_ = f.file.Close() // nothing was written, or write has closed it
	if f.made {
		_ = os.Remove(f.file.Name()) // it is empty
	}
}

// tell prints the result and writes it to its file, each whatever becomes of the other.
func (r *fleetRun) tell(result *fleet.Result, file *resultFile) error {
	err := r.p.show(result, result.Print)
	if file != nil {
		if failed := file.write(result); failed != nil {
			err = errors.Join(err, fmt.Errorf("the result is not written: %w", failed))
		}
	}
	if !result.Succeeded {
		err = errors.Join(err, errReported)
	}
	return err
}
