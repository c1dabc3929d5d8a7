package mosquittotest

import (
	"net"
	"testing"
)

// TestKilledAndBack: it is gone when Kill returns, and comes back under its address.
func TestKilledAndBack(t *testing.T) {
	b := Run(t, "max_queued_messages 0")
	addr := b.Addr()
	b.Kill()
	b.Kill()
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("it listens after it was killed")
	}
	b.Start(t)
	if b.Addr() != addr || b.URL() != "mqtt://"+addr {
		t.Errorf("at %s, was at %s", b.Addr(), addr)
	}
}
