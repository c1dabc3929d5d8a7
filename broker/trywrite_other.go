//go:build !unix

package broker

import "net"

// tryWriter writes to a socket what it takes without waiting.
type tryWriter interface {
	// tryWrite returns how many bytes were written; none is no error.
	tryWrite(p []byte) (int, error)
}

// newTryWriter returns nil: there is no way to ask the socket here, so all
// bytes go through the flush goroutine.
func newTryWriter(net.Conn) tryWriter { return nil }
