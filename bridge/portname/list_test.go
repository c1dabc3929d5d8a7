package portname

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"davit/bridge/portname/porttest"
	"davit/bridge/serialport"
)

// The adapters of a rack in a test lab.
func rack(t *testing.T) *porttest.Tree {
	t.Helper()
	tree := porttest.New(t)
	for _, u := range []porttest.USB{
		{TTY: "ttyUSB10", Place: "1-1.1:1.0", Vendor: "0403", Model: "6001", Serial: "A50285BI", Maker: "FTDI", Text: "FT232R USB UART", Driver: "ftdi_sio", ByPath: "pci-0000:00:14.0-usb-0:1.1:1.0-port0"},
		{TTY: "ttyUSB2", Place: "1-1.2:1.0", Vendor: "0403", Model: "6011", Serial: "FT4A", Text: "Quad", Driver: "ftdi_sio", ByPath: "pci-0000:00:14.0-usb-0:1.2:1.0-port0"},
		{TTY: "ttyUSB3", Place: "1-1.2:1.1", Vendor: "0403", Model: "6011", Serial: "FT4A", Text: "Quad", Driver: "ftdi_sio", ByPath: "pci-0000:00:14.0-usb-0:1.2:1.1-port0"},
		// Two without serial numbers, on a system without udev.
		{TTY: "ttyUSB4", Place: "1-1.3:1.0", Vendor: "1a86", Model: "7523", Text: "USB Serial", Driver: "ch341"},
		{TTY: "ttyUSB5", Place: "1-1.4:1.0", Vendor: "1a86", Model: "7523", Text: "USB Serial", Driver: "ch341"},
		// Two ports on one interface.
		{TTY: "ttyUSB6", Place: "1-2:1.0", Vendor: "110a", Model: "1110", Serial: "M1", Driver: "ti_usb"},
		{TTY: "ttyUSB7", Place: "1-2:1.0", Vendor: "110a", Model: "1110", Serial: "M1", Driver: "ti_usb", Number: 1},
		{TTY: "ttyACM0", Place: "1-3:1.0", Vendor: "303A", Model: "1001", Serial: "34:85:18:AB", Text: "evil\x1b[2Jname", Driver: "cdc_acm"},
	} {
		tree.Plug(u)
	}
	tree.UART("ttyS0", "pnp0/00:00", "serial", "4")
	tree.UART("ttyS1", "platform/serial8250", "serial8250", "0")
	tree.UART("ttyAMA0", "platform/soc/fe201000.serial", "uart-pl011", "32")
	tree.Virtual("tty1")
	tree.Virtual("ttyS9")
	return tree
}

func TestList(t *testing.T) {
	ports, err := At(rack(t).Root).List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, n := range Names(ports) {
		place, _ := Place(ports[i], ports)
		got = append(got, strings.Join([]string{ports[i].Path, ports[i].Driver, n.String(), place.String()}, " "))
	}
	want := []string{
		"/dev/ttyACM0 cdc_acm usb:303a:1001:34:85:18:AB by-path:1-3:1.0",
		"/dev/ttyAMA0 uart-pl011 /dev/ttyAMA0 ",
		"/dev/ttyS0 serial /dev/ttyS0 ",
		"/dev/ttyUSB2 ftdi_sio usb:0403:6011:FT4A:if00 by-path:pci-0000:00:14.0-usb-0:1.2:1.0-port0",
		"/dev/ttyUSB3 ftdi_sio usb:0403:6011:FT4A:if01 by-path:pci-0000:00:14.0-usb-0:1.2:1.1-port0",
		"/dev/ttyUSB4 ch341 by-path:1-1.3:1.0 by-path:1-1.3:1.0",
		"/dev/ttyUSB5 ch341 by-path:1-1.4:1.0 by-path:1-1.4:1.0",
		"/dev/ttyUSB6 ti_usb usb:110a:1110:M1:if00-port0 by-path:1-2:1.0-port0",
		"/dev/ttyUSB7 ti_usb usb:110a:1110:M1:if00-port1 by-path:1-2:1.0-port1",
		"/dev/ttyUSB10 ftdi_sio usb:0403:6001:A50285BI by-path:pci-0000:00:14.0-usb-0:1.1:1.0-port0",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestListOfNothing(t *testing.T) {
	if ports, err := At(porttest.New(t).Root).List(); err != nil || len(ports) != 0 {
		t.Errorf("ports %v, error %v", ports, err)
	}
	if _, err := At(t.TempDir()).List(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is sysfs mounted") {
		t.Errorf("without sysfs: %v", err)
	}
}

func TestResolve(t *testing.T) {
	system := At(rack(t).Root)
	for name, want := range map[string]string{
		"/dev/anything":                                "/dev/anything",
		"usb:0403:6001:A50285BI":                       "/dev/ttyUSB10",
		"usb:403:6001":                                 "/dev/ttyUSB10",
		"usb:0403:6001:if00":                           "/dev/ttyUSB10",
		"usb:0403:6011:FT4A:if01":                      "/dev/ttyUSB3",
		"usb:303A:1001:34:85:18:AB":                    "/dev/ttyACM0",
		"usb:110a:1110:M1:if00-port1":                  "/dev/ttyUSB7",
		"by-path:1-1.4:1.0":                            "/dev/ttyUSB5",
		"by-path:1-1.4:1.0-port0":                      "/dev/ttyUSB5",
		"by-path:1-2:1.0-port1":                        "/dev/ttyUSB7",
		"by-path:1-1.1:1.0":                            "/dev/ttyUSB10", // by topology although there is a link
		"by-path:pci-0000:00:14.0-usb-0:1.2:1.1-port0": "/dev/ttyUSB3",
	} {
		if got, err := system.Resolve(parse(t, name)); err != nil || got != want {
			t.Errorf("%s is %q, error %v, want %s", name, got, err, want)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	system := At(rack(t).Root)
	for name, c := range map[string]struct {
		is    error
		names []string
	}{
		"usb:0403:6001:OTHER":     {serialport.ErrMissing, []string{"usb:0403:6001:OTHER", "davit bridge ports"}},
		"usb:0403:6001:a50285bi":  {serialport.ErrMissing, nil}, // serial numbers have case
		"usb:0403:6011:FT4A:if02": {serialport.ErrMissing, nil},
		"usb:1a86:7523:X":         {serialport.ErrMissing, nil},
		"by-path:1-9:1.0":         {serialport.ErrMissing, nil},
		"usb:0403:6011:FT4A":      {ErrAmbiguous, []string{"usb:0403:6011:FT4A:if00 (/dev/ttyUSB2)", "usb:0403:6011:FT4A:if01 (/dev/ttyUSB3)"}},
		"usb:1a86:7523":           {ErrAmbiguous, []string{"by-path:1-1.3:1.0 (/dev/ttyUSB4)", "by-path:1-1.4:1.0 (/dev/ttyUSB5)"}},
		"usb:110a:1110:M1:if00":   {ErrAmbiguous, []string{"if00-port0 (/dev/ttyUSB6)", "if00-port1 (/dev/ttyUSB7)"}},
		"by-path:1-2:1.0":         {ErrAmbiguous, []string{"usb:110a:1110:M1:if00-port1 (/dev/ttyUSB7)"}},
	} {
		got, err := system.Resolve(parse(t, name))
		if !errors.Is(err, c.is) {
			t.Errorf("%s is %q, error %v, want %v", name, got, err, c.is)
			continue
		}
		for _, part := range c.names {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v does not say %q", name, err, part)
			}
		}
	}
}

// An adapter that is back under another number is found by both of its names.
func TestResolveLooksAnew(t *testing.T) {
	tree := porttest.New(t)
	u := porttest.USB{TTY: "ttyUSB0", Place: "1-1:1.0", Vendor: "0403", Model: "6001", Serial: "A", Driver: "ftdi_sio", ByPath: "pci-usb-0:1:1.0"}
	tree.Plug(u)
	names := []Name{parse(t, "usb:0403:6001:A"), parse(t, "by-path:pci-usb-0:1:1.0"), parse(t, "by-path:1-1:1.0")}
	check := func(want string, is error) {
		t.Helper()
		for _, n := range names {
			if got, err := At(tree.Root).Resolve(n); got != want || !errors.Is(err, is) {
				t.Errorf("%s is %q, error %v; want %q, %v", n, got, err, want, is)
			}
		}
	}
	check("/dev/ttyUSB0", nil)
	tree.Unplug("ttyUSB0")
	check("", serialport.ErrMissing)
	u.TTY = "ttyUSB4"
	tree.Plug(u)
	check("/dev/ttyUSB4", nil)
}

// An error about many ports can still be read.
func TestCandidatesAreCapped(t *testing.T) {
	var ports []Port
	var fit []int
	for i := range 20 {
		ports, fit = append(ports, Port{Path: "/dev/ttyUSB0"}), append(fit, i)
	}
	if s := candidates(ports, fit); strings.Count(s, "ttyUSB0 (") != 16 || !strings.HasSuffix(s, ", and 4 more") {
		t.Error(s)
	}
}

func parse(t *testing.T, s string) Name {
	t.Helper()
	n, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
