//go:build !unix

package broker

import "net"

// tryReader can do nothing on systems without a way to look.
type tryReader struct{}

func newTryReader(net.Conn) tryReader { return tryReader{} }

func (tryReader) can() bool { return false }

func (tryReader) wait(func(uintptr) bool) error { panic("not reached: can says no") }

func readOnce(uintptr, []byte) (look, error) { panic("not reached: can says no") }

func tellLeft(uintptr) { panic("not reached: can says no") }

func (tryReader) unread() bool { return false }
