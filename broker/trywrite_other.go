//go:build !unix

package broker

import (
	"net"
	"sync"
)

// newTryWriter returns nil: there is no way to ask the socket here.
func newTryWriter(net.Conn, *sync.Pool) tryWriter { return nil }

func newVector() any { return nil } // nobody asks for one
