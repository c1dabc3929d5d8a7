package mqtt

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// aProxy is where a proxy listens. The library reads the environment once in a process, so there is
// one for all runs of the test.
var aProxy = sync.OnceValues(func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })

// The environment's proxy is asked for the broker, over TCP and TLS alike.
func TestReachThroughProxy(t *testing.T) {
	l, err := aProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("all_proxy", "socks5://"+l.Addr().String())
	for _, scheme := range []string{"mqtt", "mqtts"} {
		done := make(chan error, 1)
		go func() {
			c, err := reach(t.Context(), &url.URL{Scheme: scheme, Host: "broker.example:8883"}, nil)
			if err == nil {
				_ = c.Close()
			}
			done <- err
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		greeting := make([]byte, 3) // SOCKS 5 (RFC 1928, 3)
		if _, err := io.ReadFull(c, greeting); err != nil || greeting[0] != 5 {
			t.Errorf("%s: the proxy was greeted with %x, %v", scheme, greeting, err)
		}
		_ = c.Close()
		if err := <-done; err == nil {
			t.Errorf("%s: connected by a proxy that hangs up", scheme)
		}
	}
}
