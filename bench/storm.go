package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// stormRate is how many connections a second all who have bad credentials open
	// together, stormers how many of them there are.
	stormRate = 5000
	stormers  = 100
	// stormAddresses is from how many addresses they come.
	stormAddresses = 8
	// stormPatience is how long one of them waits for an answer.
	stormPatience = 250 * time.Millisecond
	// stormOpen is how many may wait at a time; both ends are this process's where the
	// service is not concerned, and it may not have more files open than so.
	stormOpen = 4000
)

// storm connects over and over with bad credentials, never the same twice: one half are
// names that nobody has, the other are those of the good modules with wrong
// passwords. Each connection waits for its answer, or for its end, for a while.
func storm(ctx context.Context, n *neighbourhood, i int) error {
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%stormAddresses))}, Timeout: patience}
	n.tasks.Go(func() {
		const interval = time.Second * stormers / stormRate
		next := time.Now().Add(interval * time.Duration(i) / stormers)
		for try := 0; ; try++ {
			select {
			case <-time.After(time.Until(next)):
			case <-ctx.Done():
				return
			}
			next = next.Add(interval)
			name := n.d.devices[(i+try)%n.first]
			if try%2 == 0 {
				name = fmt.Sprintf("nobody-%d-%d", i, try)
			}
			n.tasks.Go(func() { n.guess(ctx, from, name, fmt.Sprintf("guess-%d-%d", i, try)) })
		}
	})
	return nil
}

// guess opens one connection and ends it.
func (n *neighbourhood) guess(ctx context.Context, from *net.Dialer, name, password string) {
	defer n.open.Add(-1)
	if n.open.Add(1) > stormOpen {
		n.failed.Add(1)
		return
	}
	conn, err := from.DialContext(ctx, "tcp", n.addr)
	if err != nil {
		n.failed.Add(1)
		return
	}
	n.opened.Add(1)
	defer conn.Close() // whatever comes of it
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.SetDeadline(time.Now().Add(stormPatience)) // the read tells
	if _, err := conn.Write(appendConnect(nil, name, name, password)); err != nil {
		n.refused.Add(1)
		return
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		n.refused.Add(1)
	}
}
