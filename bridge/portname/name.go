// Package portname says which serial port of the machine a name means, and
// which ports there are.
//
// A name is a path, the identity of a USB adapter, or the physical place that
// an adapter is plugged in at. The last two are looked up in sysfs each time,
// because the kernel gives an adapter that comes back whatever /dev/ttyUSBn is
// free. No port is opened for that.
//
// The package imports serialport for its errors only; it keeps no state and
// starts no goroutine.
package portname

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The words that names of each kind begin with.
const (
	usbPrefix   = "usb:"
	placePrefix = "by-path:"
)

type kind uint8

const (
	kindPath kind = iota
	kindUSB
	kindPlace
)

// unsaid is an interface or port number that a name leaves out.
const unsaid = -1

// Name names a serial port. Names can be compared: two that are equal mean the
// same port at any time. Two that differ can still mean the same one.
type Name struct {
	kind            kind
	text            string // path, serial number ("" if left out) or place
	vendor, product uint16
	iface           int // bInterfaceNumber
	number          int // of the port on its interface
}

// interfaceForm is the end of a usb: name that tells the ports of one adapter
// apart, as udev writes it in /dev/serial/by-id.
var interfaceForm = regexp.MustCompile(`^if([0-9a-fA-F]{2})(?:-port([0-9]{1,3}))?$`)

// Parse reads a name. There are three forms:
//
//	/dev/ttyUSB0                         a path: everything without the prefixes below
//	usb:VID:PID[:SERIAL][:ifNN[-portN]]  a USB adapter, ids and interface in hexadecimal
//	by-path:NAME                         a place: a link in /dev/serial/by-path, or BUS-PORT[.PORT]:CONFIG.INTERFACE[-portN] as sysfs has it
//
// In the last two, %XX stands for a byte that cannot be written as it is: a
// comma, a per cent sign, a space or anything that is not printable ASCII. A
// serial number that ends like an interface has its i written as %69. A file
// whose name begins like one of the prefixes is named by ./ or its whole path.
func Parse(s string) (Name, error) {
	if rest, ok := strings.CutPrefix(s, usbPrefix); ok {
		return parseUSB(rest)
	}
	if rest, ok := strings.CutPrefix(s, placePrefix); ok {
		return parsePlace(rest)
	}
	if s == "" {
		return Name{}, errors.New("the path is empty")
	}
	return Name{kind: kindPath, text: s, iface: unsaid, number: unsaid}, nil
}

func parseUSB(s string) (Name, error) {
	const form = "the form is usb:VID:PID[:SERIAL][:ifNN], for example usb:0403:6001:A50285BI"
	parts := strings.SplitN(s, ":", 3)
	if len(parts) < 2 {
		return Name{}, errors.New("no product id; " + form)
	}
	n := Name{kind: kindUSB, iface: unsaid, number: unsaid}
	for i, id := range []*uint16{&n.vendor, &n.product} {
		v, err := strconv.ParseUint(parts[i], 16, 16)
		if err != nil {
			return Name{}, fmt.Errorf("USB id %q is not one to four hexadecimal digits; %s", parts[i], form)
		}
		*id = uint16(v)
	}
	if len(parts) == 2 {
		return n, nil
	}
	serial, err := unescape(n.cutInterface(parts[2]))
	switch {
	case err != nil:
		return Name{}, fmt.Errorf("serial number: %w", err)
	case serial == "" && n.iface == unsaid:
		return Name{}, errors.New("the serial number is empty; leave it out with the colon before it")
	case serial == "" && strings.HasPrefix(parts[2], ":"):
		return Name{}, errors.New("the serial number is empty; leave it out with one of its colons")
	}
	n.text = serial
	return n, nil
}

// cutInterface takes the interface off the end of s, if there is one.
func (n *Name) cutInterface(s string) string {
	at := strings.LastIndexByte(s, ':')
	m := interfaceForm.FindStringSubmatch(s[at+1:])
	if m == nil {
		return s
	}
	iface, _ := strconv.ParseUint(m[1], 16, 8) // the form admits nothing that fails
	n.iface = int(iface)
	if m[2] != "" {
		n.number, _ = strconv.Atoi(m[2])
	}
	return s[:max(at, 0)]
}

func parsePlace(s string) (Name, error) {
	place, err := unescape(s)
	switch {
	case err != nil:
		return Name{}, fmt.Errorf("by-path name: %w", err)
	case place == "" || place == "." || place == ".." || strings.ContainsRune(place, '/'):
		return Name{}, fmt.Errorf("by-path name %q is not the name of a link; ls /dev/serial/by-path shows them", s)
	}
	return Name{kind: kindPlace, text: place, iface: unsaid, number: unsaid}, nil
}

// IsPath says whether the name is a path, which is used as it is.
func (n Name) IsPath() bool { return n.kind == kindPath }

// String is the name in the form that Parse reads. Apart from paths it is
// printable ASCII without commas.
func (n Name) String() string {
	switch n.kind {
	case kindUSB:
		s := fmt.Sprintf("%s%04x:%04x", usbPrefix, n.vendor, n.product)
		if n.text != "" {
			s += ":" + escapeSerial(n.text)
		}
		if n.iface != unsaid {
			s += fmt.Sprintf(":if%02x", n.iface)
		}
		if n.number != unsaid {
			s += fmt.Sprintf("-port%d", n.number)
		}
		return s
	case kindPlace:
		return placePrefix + escape(n.text)
	}
	return n.text
}
