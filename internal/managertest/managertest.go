// Package managertest is a service manager that only listens: tests look at what programs tell it by the protocol of
// sd_notify(3). It is for tests only, imports no package of ours and starts no goroutine.
package managertest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is how long a program may take to say what is expected.
const patience = 10 * time.Second

// Manager hears what comes to its socket, in order.
type Manager struct {
	t    testing.TB
	name string
	conn *net.UnixConn
}

// Listen opens a manager's socket, a path or an abstract one after @, until the test ends.
func Listen(t testing.TB, name string) *Manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Manager{t, name, conn}
}

// Environ is what a program that it starts has in its environment for it.
func (m *Manager) Environ() string { return "NOTIFY_SOCKET=" + m.name }

// Next waits for what it is told next.
func (m *Manager) Next() string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatalf("nothing is told to the manager: %v", err)
	}
	return string(b[:n])
}

// Hears wants what it is told next to begin so.
func (m *Manager) Hears(want string) {
	m.t.Helper()
	if got := m.Next(); !strings.HasPrefix(got, want) {
		m.t.Fatalf("the manager hears %q, want %q", got, want)
	}
}

// Tell tells it something, which it hears after all that it was told before.
func (m *Manager) Tell(what string) {
	m.t.Helper()
	conn := m.dial()
	defer conn.Close()
	if _, err := conn.Write([]byte(what)); err != nil {
		m.t.Fatal(err)
	}
}

// Fill tells it so much that it can take no more before it has heard some.
func (m *Manager) Fill() {
	m.t.Helper()
	conn := m.dial()
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		m.t.Fatal(err)
	}
	for {
		if _, err := conn.Write([]byte("STATUS=x")); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *Manager) dial() *net.UnixConn {
	m.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.name, Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	return conn
}
