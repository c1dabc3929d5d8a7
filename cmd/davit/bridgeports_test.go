package main

import (
	"encoding/json"
	"strings"
	"testing"

	"davit/bridge/portname"
	"davit/bridge/portname/porttest"
)

// listed runs davit bridge ports on a made system.
func listed(t *testing.T, tree *porttest.Tree, asJSON bool) (out, errs string) {
	t.Helper()
	var o, e strings.Builder
	p := &program{streams: streams{out: &o, err: &e}, json: asJSON}
	if err := p.listPorts(portname.At(tree.Root)); err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String()
}

func TestBridgePorts(t *testing.T) {
	tree := porttest.New(t)
	tree.Plug(porttest.USB{TTY: "ttyUSB0", Place: "1-1.4:1.0", Vendor: "0403", Model: "6001", Serial: "A5,02", Maker: "FTDI", Text: "FT232R USB UART", Driver: "ftdi_sio", ByPath: "pci-0000:00:14.0-usb-0:1.4:1.0-port0"})
	tree.Plug(porttest.USB{TTY: "ttyUSB1", Place: "1-2:1.0", Vendor: "1a86", Model: "7523", Text: "evil\x1b[2J\tname\n\u009b", Driver: "ch341"})
	tree.UART("ttyAMA0", "platform/fe201000.serial", "uart-pl011", "32")
	out, errs := listed(t, tree, false)
	want := `PATH          NAME                   BY-PATH                                       ADAPTER
/dev/ttyAMA0  /dev/ttyAMA0           -                                             uart-pl011
/dev/ttyUSB0  usb:0403:6001:A5%2C02  by-path:pci-0000:00:14.0-usb-0:1.4:1.0-port0  FT232R USB UART
/dev/ttyUSB1  usb:1a86:7523          by-path:1-2:1.0                               evil\x1b[2J\tname\n\u009b
`
	if out != want || errs != "" {
		t.Errorf("got\n%s%s\nwant\n%s", out, errs, want)
	}
	out, _ = listed(t, tree, true)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &got); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"path": "/dev/ttyUSB0", "name": "usb:0403:6001:A5%2C02", "by_path": "by-path:pci-0000:00:14.0-usb-0:1.4:1.0-port0", "driver": "ftdi_sio",
		"vendor_id": "0403", "product_id": "6001", "serial": "A5,02", "manufacturer": "FTDI", "product": "FT232R USB UART", "interface": 0.0, "port_number": 0.0,
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
	if strings.ContainsAny(out, "\x1b\u009b") {
		t.Errorf("control characters reach the terminal: %q", out)
	}
}

func TestBridgePortsOfNone(t *testing.T) {
	out, errs := listed(t, porttest.New(t), false)
	if out != "" || !strings.Contains(errs, "there are no serial ports. Is the adapter plugged in") {
		t.Errorf("printed %q and %q", out, errs)
	}
	if out, errs := listed(t, porttest.New(t), true); out != "" || errs != "" {
		t.Errorf("as JSON: %q and %q", out, errs)
	}
}
