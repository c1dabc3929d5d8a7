// Package systemd tells a service manager how the process is doing, by the protocol of sd_notify(3): one datagram
// to the socket in NOTIFY_SOCKET for each change. It starts no goroutine and keeps no connection.
package systemd

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// patience is how long a manager that has much to read may keep a program from going on.
const patience = time.Second

// socketVariable is where the manager says what socket it listens on.
const socketVariable = "NOTIFY_SOCKET="

// Manager is the service manager that started the process. The zero value is none; telling it something does nothing.
type Manager struct {
	// socket is the path of a socket, or the name of an abstract one after @.
	socket string
}

// New is the manager that an environment names; each entry is NAME=VALUE.
func New(environ []string) Manager {
	var m Manager
	for _, entry := range environ {
		if path, ok := strings.CutPrefix(entry, socketVariable); ok {
			m.socket = path
		}
	}
	return m
}

// Ready says that the process does its work, at its start and after a reload. The status is a line for people.
func (m Manager) Ready(status string) error {
	return m.tell("READY=1", "STATUS="+oneLine(status))
}

// Reloading says that the process reads its configuration again. Ready ends it.
func (m Manager) Reloading() error { return m.tell("RELOADING=1") }

// Stopping says that the process is about to end. The status is a line for people.
func (m Manager) Stopping(status string) error {
	return m.tell("STOPPING=1", "STATUS="+oneLine(status))
}

// oneLine keeps a text from being taken for several assignments.
func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// tell sends assignments. That nobody listens is an error: a manager that waits for READY=1 would end the process.
func (m Manager) tell(assignments ...string) error {
	if m.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot tell the service manager %s; it was to hear it at NOTIFY_SOCKET: %w", assignments[0], err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("cannot tell the service manager %s at NOTIFY_SOCKET: %w", assignments[0], err)
	}
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("cannot tell the service manager %s at NOTIFY_SOCKET: %w", assignments[0], err)
	}
	return nil
}
