package address

import (
	"strings"
	"testing"
)

// What is wrong with an address is said; "" is nothing.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		check      func(string) error
		addr, want string
	}{
		{CheckListener, "127.0.0.1:1883", ""},
		{CheckListener, ":0", ""},
		{CheckListener, "[::1]:65535", ""},
		{CheckListener, "localhost:http", ""},
		{CheckListener, "1883", "is not HOST:PORT"},
		{CheckListener, "::1:1883", "is not HOST:PORT"},
		{CheckListener, "127.0.0.1:65536", "there is no port 65536; write one from 0 to 65535"},
		{CheckListener, "127.0.0.1:-1", "there is no port -1"},
		{CheckLoopback, "127.0.0.1:70000", "there is no port 70000"},
		{CheckLoopback, ":6060", "is not on loopback"},
		{CheckBroker, "broker.example.com", ""},
		{CheckBroker, "mqtts://broker.example.com:8883", ""},
		{CheckBroker, "mqtt://broker.example.com:70000", "there is no port 70000"},
		{CheckBroker, "http://broker.example.com", `scheme "http"`},
		{CheckBroker, "mqtt://", "names no host"},
		{CheckBroker, "mqtt://u:hunter2@broker.example.com", "has a user name in it"},
		{CheckBroker, "mqtt://u:hunter2@broker example.com", "without a user name"},
	} {
		err := tt.check(tt.addr)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.addr, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is in %v", tt.addr, err)
		}
	}
}
