// Package address reads the addresses that people write for brokers and
// listeners, on the command line and in files. It opens nothing and keeps no
// state.
package address

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CheckListener says what is wrong with the address of a listener, HOST:PORT.
func CheckListener(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	if err := checkPort(port); err != nil {
		return fmt.Errorf("%q: %w", addr, err)
	}
	return nil
}

// checkPort says what is wrong with a port, which is a number or the name of a service.
func checkPort(port string) error {
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > math.MaxUint16) {
		return fmt.Errorf("there is no port %s; write one from 0 to %d", port, math.MaxUint16)
	}
	return nil
}

// CheckLoopback says what is wrong with the address of a listener that only this machine
// may reach.
func CheckLoopback(addr string) error {
	if err := CheckListener(addr); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(addr) // as checked
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not on loopback; write 127.0.0.1:PORT, [::1]:PORT or localhost:PORT", addr)
	}
	return nil
}

// Broker completes what people write for a broker: a bare HOST:PORT is
// MQTT over TCP.
func Broker(s string) string {
	if s == "" || strings.Contains(s, "://") {
		return s
	}
	return "mqtt://" + s
}

// Secure says whether a broker, as people write it, is reached over TLS.
func Secure(s string) bool {
	u, err := url.Parse(Broker(s))
	return err == nil && slices.Contains([]string{"mqtts", "tls", "ssl", "wss"}, u.Scheme)
}

// CheckBroker says what is wrong with what a person wrote for a broker.
func CheckBroker(s string) error {
	u, err := url.Parse(Broker(s))
	if err != nil {
		if strings.Contains(s, "@") { // it may have a password in it
			return errors.New("this is not a URL; the form is mqtt://HOST:PORT, without a user name")
		}
		return fmt.Errorf("%q is not a URL: %w", s, err)
	}
	if u.User != nil {
		return fmt.Errorf("%q has a user name in it; leave it out, the name and the file with the password are settings of their own", u.Redacted())
	}
	switch u.Scheme {
	case "mqtt", "mqtts", "tcp", "tls", "ssl", "ws", "wss":
	default:
		return fmt.Errorf("%q: the scheme %q is not mqtt, mqtts, ws or wss", s, u.Scheme)
	}
	if err := checkPort(u.Port()); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%q names no host; the form is mqtt://HOST:PORT", s)
	}
	return nil
}
