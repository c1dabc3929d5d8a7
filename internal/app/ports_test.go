package app

import (
	"strings"
	"testing"

	"davit/bridge/dialect"
)

var usualLine = dialect.LineSettings{Baud: 115200, Parity: dialect.ParityOdd, RTSCTS: true}

func TestParsePort(t *testing.T) {
	tests := []struct {
		in   string
		want PortSpec
		err  string // what the error must say, empty for none
	}{
		{in: "pump-7=/dev/ttyUSB0", want: PortSpec{"pump-7", "/dev/ttyUSB0", usualLine}},
		{in: "a=/dev/serial/by-id/x=y", want: PortSpec{"a", "/dev/serial/by-id/x=y", usualLine}},
		{in: "a=/dev/pts/3,baud=921600,parity=none,rtscts=off", want: PortSpec{"a", "/dev/pts/3", dialect.LineSettings{Baud: 921600, Parity: dialect.ParityNone}}},
		{in: "a=/dev/pts/3,", want: PortSpec{"a", "/dev/pts/3", usualLine}},
		{in: "pump-7", err: "no = after"},
		{in: "", err: "no = after"},
		{in: "=/dev/ttyUSB0", err: "malformed id: empty"},
		{in: "p 7=/dev/ttyUSB0", err: `' ' at position 2`},
		{in: "a=", err: "path of the port is empty"},
		{in: "a=,baud=9600", err: "path of the port is empty"},
		{in: "a=x,baud=fast", err: `baud "fast" is not a number`},
		{in: "a=x,baud=0", err: `baud "0"`},
		{in: "a=x,baud=-1", err: `baud "-1"`},
		{in: "a=x,parity=mark", err: `parity "mark" is not odd, even or none`},
		{in: "a=x,rtscts=yes", err: `rtscts "yes" is not on or off`},
		{in: "a=x,rtscts", err: `rtscts "" is not on or off`},
		{in: "a=x,speed=1", err: `unknown option "speed"`},
	}
	for _, tt := range tests {
		got, err := ParsePort(tt.in, usualLine)
		if tt.err == "" {
			if err != nil || got != tt.want {
				t.Errorf("%q: %+v, %v", tt.in, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "DEVICE_ID=PATH") {
			t.Errorf("%q: error %v; want %q and the form", tt.in, err, tt.err)
		}
	}
}

func TestCheckPortsRefusesDoubles(t *testing.T) {
	a, b := PortSpec{Device: "a", Path: "/dev/1"}, PortSpec{Device: "b", Path: "/dev/2"}
	if err := CheckPorts([]PortSpec{a, b}); err != nil {
		t.Error(err)
	}
	if err := CheckPorts([]PortSpec{a, b, {Device: "a", Path: "/dev/3"}}); err == nil || !strings.Contains(err.Error(), "device a has two ports") {
		t.Error(err)
	}
	if err := CheckPorts([]PortSpec{a, b, {Device: "c", Path: "/dev/2"}}); err == nil || !strings.Contains(err.Error(), "both b and c") {
		t.Error(err)
	}
}
