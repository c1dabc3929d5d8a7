//go:build unix

package main

import "syscall"

// ownGroup has a child process not be interrupted with this one.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
