package main

import "syscall"

// endsWithUs has a child process not be interrupted with this one, but told to end when the thread ends that has
// started it (prctl(2), PR_SET_PDEATHSIG): startKept keeps that one.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
