package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Constants of ptrace(2) and wait(2) that package unix has under other names or not at all.
const (
	ptraceEventStop = 128
	wAll            = unix.WALL | unix.WNOTHREAD // threads that this thread traces, and no other child
)

// countSteps has every thread of a Go process single-stepped while work runs, and
// returns how many instructions they executed in user space. It replaces the processor's
// own counter, which virtual machines often do not have. The process should run with
// GOMAXPROCS=1 and without garbage collection. The runtime's monitor thread is held
// meanwhile: it looks at the clock, which runs a thousand times too fast for a process that
// is stepped, and takes the processor away from goroutines that are slow.
func countSteps(pid int, work func() error) (steps int64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // a tracer is a thread; this one ends with the goroutine
		s := stepper{pid: pid, threads: map[int]bool{}}
		steps, err = s.run(work)
	}()
	<-done
	return steps, err
}

type stepper struct {
	pid     int
	threads map[int]bool // by id: whether it is to be stepped
	steps   int64
}

func (s *stepper) run(work func() error) (int64, error) {
	if err := s.attach(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- work() }()
	for id, step := range s.threads {
		if step {
			if err := unix.PtraceSingleStep(id); err != nil {
				return 0, fmt.Errorf("step thread %d: %w", id, err)
			}
		}
	}
	var result error
	for over := false; !over; {
		if err := s.next(); err != nil {
			return 0, err
		}
		select {
		case result = <-ended:
			over = true
		default:
		}
	}
	return s.steps, errors.Join(result, s.detach())
}

// attach stops all threads.
func (s *stepper) attach() error {
	for {
		ids, err := threadsOf(s.pid)
		if err != nil {
			return err
		}
		fresh := false
		for i, id := range ids {
			if _, known := s.threads[id]; known {
				continue
			}
			fresh = true
			if err := unix.PtraceSeize(id); err != nil {
				return fmt.Errorf("trace thread %d: %w", id, err)
			}
			if err := s.halt(id); err != nil {
				return err
			}
			if err := unix.PtraceSetOptions(id, unix.PTRACE_O_TRACECLONE); err != nil {
				return fmt.Errorf("options of thread %d: %w", id, err)
			}
			s.threads[id] = i != 1 // the second thread that a Go program has is the monitor
		}
		if !fresh {
			return nil
		}
	}
}

// halt stops a thread that runs.
func (s *stepper) halt(id int) error {
	if err := unix.PtraceInterrupt(id); err != nil {
		return fmt.Errorf("stop thread %d: %w", id, err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Microsecond) {
		var status unix.WaitStatus
		got, err := unix.Wait4(id, &status, wAll|unix.WNOHANG, nil)
		switch {
		case err != nil:
			return fmt.Errorf("wait for thread %d: %w", id, err)
		case got == id:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("thread %d does not stop:\n%s", id, readOr(fmt.Sprintf("/proc/%d/task/%d/status", s.pid, id)))
		}
	}
}

// next waits a little for a thread to stop, and has it make the next step.
func (s *stepper) next() error {
	var status unix.WaitStatus
	id, err := unix.Wait4(-1, &status, wAll|unix.WNOHANG, nil)
	switch {
	case err != nil:
		return fmt.Errorf("wait for a step: %w", err)
	case id == 0:
		time.Sleep(20 * time.Microsecond)
		return nil
	case status.Exited() || status.Signaled():
		if id == s.pid {
			return fmt.Errorf("the process has ended")
		}
		delete(s.threads, id)
		return nil
	}
	s.threads[id] = true
	signal := 0
	switch event := int(status) >> 16; {
	case event == 0 && status.StopSignal() == unix.SIGTRAP:
		s.steps++
	case event == 0:
		signal = int(status.StopSignal())
	}
	return singleStep(id, signal)
}

func singleStep(id, signal int) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SINGLESTEP, uintptr(id), 0, uintptr(signal), 0, 0)
	if errno != 0 && errno != unix.ESRCH { // gone meanwhile, which wait tells
		return fmt.Errorf("step thread %d: %w", id, errno)
	}
	return nil
}

// detach lets all threads run freely again.
func (s *stepper) detach() error {
	for id, step := range s.threads {
		if step {
			if err := s.halt(id); err != nil {
				return err
			}
		}
		if err := unix.PtraceDetach(id); err != nil {
			return fmt.Errorf("let thread %d go: %w", id, err)
		}
	}
	return nil
}

// threadsOf lists a process's threads in the order in which they began.
func threadsOf(pid int) ([]int, error) {
	dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, e := range dir {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}
