package bridge

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/bridge/dialect"
	"davit/bridge/dialect/ayla"
	"davit/bridge/portname"
	"davit/bridge/serialport"
	"davit/internal/sim"
)

func TestParsePort(t *testing.T) {
	on, off := true, false
	for _, c := range []struct {
		spec string
		want PortConfig
	}{
		{"pump-7=/dev/ttyUSB0", PortConfig{Device: "pump-7", Path: "/dev/ttyUSB0"}},
		{"p=/dev/serial/by-id/usb-FTDI=x", PortConfig{Device: "p", Path: "/dev/serial/by-id/usb-FTDI=x"}},
		{"p=usb:0403:6001:A=5:02/85,baud=9600", PortConfig{Device: "p", Path: "usb:0403:6001:A=5:02/85", Baud: 9600}},
		{"p=usb:0403:6011:FT4A:if02", PortConfig{Device: "p", Path: "usb:0403:6011:FT4A:if02"}},
		{"p=by-path:1-1.4:1.0,baud=300", PortConfig{Device: "p", Path: "by-path:1-1.4:1.0", Baud: 300}},
		{"p=/dev/ttyS1,baud=9600,parity=none,rtscts=off", PortConfig{Device: "p", Path: "/dev/ttyS1", Baud: 9600, Parity: dialect.ParityNone, RTSCTS: &off}},
		{"p=x,load-size=128", PortConfig{Device: "p", Path: "x", LoadSize: 128}},
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
		"p=usb:0403":                "no product id",
		"p=usb:ftdi:6001:A":         `USB id "ftdi"`,
		"p=usb:0403:6001:,baud=300": "serial number is empty",
		"p=by-path:/dev/x":          "not the name of a link",
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

		"p=x,dialect=afero,load-size=64":      "load-size is an option of dialect ayla, and the port's is afero",
		"p=x,attribute-size=510,dialect=ayla": "attribute-size is an option of dialect afero, and the port's is ayla",
	} {
		_, err := ParsePort(spec)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the form is DEVICE_ID=PORT") {
			t.Errorf("%q: error %v, want one with %q and the form", spec, err, want)
		}
	}
}

func TestPortsOfTwoDevicesDiffer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"/dev/ttyUSB0", "/dev/ttyUSB0", true},
		{"/dev/ttyUSB0", "/dev//ttyUSB0", true},
		{"usb:0403:6001:A", "usb:403:6001:A", true},
		{"usb:1A86:7523", "usb:1a86:7523", true},
		{"usb:0403:6001:A", "usb:0403:6001:a", false},
		{"usb:0403:6001:A:if00", "usb:0403:6001:A:if01", false},
		{"by-path:1-1:1.0", "by-path:1-1:1%2E0", true},
		{"by-path:x", "/dev/serial/by-path/x", false}, // told when the second is opened
	} {
		err := checkPorts(Config{Ports: []PortConfig{{Device: "a", Path: c.a}, {Device: "b", Path: c.b}}})
		if (err != nil) != c.same || err != nil && !strings.Contains(err.Error(), "is given to both a and b") {
			t.Errorf("%s and %s: %v", c.a, c.b, err)
		}
	}
	if err := checkPorts(Config{Ports: []PortConfig{{Device: "a", Path: "usb:x"}}}); err == nil || !strings.Contains(err.Error(), "device a") {
		t.Errorf("a name that is none: %v", err)
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

func TestOpenSerialOfAnAdapterThatIsNotThere(t *testing.T) {
	if ports, err := portname.Machine().List(); err != nil {
		t.Skipf("this machine's ports cannot be listed: %v, %v", ports, err)
	}
	p := PortConfig{Device: "p", Path: "usb:ffff:ffff:none"}.complete(ayla.Dialect{}.Line())
	port, err := OpenSerial(p)
	if port != nil || !errors.Is(err, serialport.ErrMissing) || !strings.Contains(err.Error(), p.Path) {
		t.Errorf("port %v, error %v", port, err)
	}
}

// Two names of one terminal cannot be told at the start: the second to be
// opened says what to look for.
func TestOpenSerialThatIsTaken(t *testing.T) {
	pty, err := sim.OpenPTY(sim.LineConfig{})
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer pty.Close()
	p := PortConfig{Device: "p", Path: pty.Path()}.complete(ayla.Dialect{}.Line())
	first, err := OpenSerial(p)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(p.Path, link); err != nil {
		t.Fatal(err)
	}
	p.Path = link
	if _, err := OpenSerial(p); !errors.Is(err, serialport.ErrInUse) || !strings.Contains(err.Error(), "two of its ports are the same adapter") {
		t.Errorf("the second: %v", err)
	}
}
