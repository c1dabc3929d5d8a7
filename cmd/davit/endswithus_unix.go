//go:build unix && !linux

package main

import "syscall"

// endsWithUs has a child process not be interrupted with this one. If this one is killed the child goes on: there is
// no way here to have the kernel end it.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
