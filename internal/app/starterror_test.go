package app

import (
	"net"
	"strings"
	"testing"

	"davit/internal/machine"
)

// Two listeners of one program on one address: nobody else is to be stopped.
func TestOwnListenerIsInTheWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = net.Listen("tcp", ln.Addr().String())
	told := startError(err, machine.This())
	if told == nil || !strings.Contains(told.Error(), "another listener of this program has "+ln.Addr().String()) || strings.Contains(told.Error(), "stop that process") {
		t.Error(told)
	}
}
