package bridge

import (
	"errors"
	"strings"
	"testing"

	"davit/bridge/dialect"
	"davit/bridge/dialect/ayla"
	"davit/bridge/serialport"
)

func TestParsePort(t *testing.T) {
	on, off := true, false
	for _, c := range []struct {
		spec string
		want PortConfig
	}{
		{"pump-7=/dev/ttyUSB0", PortConfig{Device: "pump-7", Path: "/dev/ttyUSB0"}},
		{"p=/dev/serial/by-id/usb-FTDI=x", PortConfig{Device: "p", Path: "/dev/serial/by-id/usb-FTDI=x"}},
		{"p=/dev/ttyS1,baud=9600,parity=none,rtscts=off", PortConfig{Device: "p", Path: "/dev/ttyS1", Baud: 9600, Parity: dialect.ParityNone, RTSCTS: &off}},
		{"p=x,dialect=afero,attribute-size=510", PortConfig{Device: "p", Path: "x", Dialect: "afero", AttributeSize: 510}},
		{"p=x,rtscts=on,dialect=ayla,version-property=version,parity=even", PortConfig{Device: "p", Path: "x", Parity: dialect.ParityEven, RTSCTS: &on, Dialect: "ayla", VersionProperty: "version"}},
	} {
		got, err := ParsePort(c.spec)
		if err != nil || got.Device != c.want.Device || got.Path != c.want.Path || got.Baud != c.want.Baud || got.Parity != c.want.Parity ||
			got.Dialect != c.want.Dialect || got.VersionProperty != c.want.VersionProperty || got.AttributeSize != c.want.AttributeSize ||
			(got.RTSCTS == nil) != (c.want.RTSCTS == nil) || got.RTSCTS != nil && *got.RTSCTS != *c.want.RTSCTS {
			t.Errorf("%s: %+v, error %v", c.spec, got, err)
		}
	}
	for spec, want := range map[string]string{
		"":                          "no = between",
		"/dev/ttyUSB0":              "no = between",
		"=/dev/ttyUSB0":             "empty",
		"a/b=/dev/ttyUSB0":          "device id",
		"p=":                        "path is empty",
		"p=,baud=9600":              "path is empty",
		"p=x,":                      "no value",
		"p=x,baud":                  "no value",
		"p=x,baud=":                 "no value",
		"p=x,baud=fast":             "300 to 4000000",
		"p=x,baud=9600,baud=9600":   "twice",
		"p=x,parity=mark":           "odd, even and none",
		"p=x,rtscts=yes":            "on and off",
		"p=x,speed=1":               `unknown option "speed"`,
		"p=x,attribute-size=4":      "5 to 2046",
		"p=x,attribute-size=big":    "5 to 2046",
		"p=x,version-property=a\nb": "control character",
	} {
		_, err := ParsePort(spec)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the form is DEVICE_ID=PATH") {
			t.Errorf("%q: error %v, want one with %q and the form", spec, err, want)
		}
	}
}

func TestPortDefaultsAreTheDialects(t *testing.T) {
	p := PortConfig{Device: "p", Path: "x", Baud: 9600}.complete(ayla.Dialect{}.Line())
	if p.Baud != 9600 || p.Parity != dialect.ParityOdd || p.RTSCTS == nil || !*p.RTSCTS {
		t.Errorf("%+v", p)
	}
}

func TestOpenSerialThatIsNotThere(t *testing.T) {
	p := PortConfig{Device: "p", Path: "/dev/does-not-exist"}.complete(ayla.Dialect{}.Line())
	port, err := OpenSerial(p)
	if port != nil || !errors.Is(err, serialport.ErrMissing) {
		t.Errorf("port %v, error %v", port, err)
	}
}
