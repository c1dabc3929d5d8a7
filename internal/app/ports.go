package app

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"davit/bridge/dialect"
	"davit/schemas"
)

// PortSpec is one serial port of a bridge as it is written on the command
// line: DEVICE_ID=PATH[,baud=115200][,parity=odd][,rtscts=on].
type PortSpec struct {
	Device string
	Path   string
	Line   dialect.LineSettings
}

// maxBaud is the fastest speed that a port specification may name.
const maxBaud = 12_000_000

// ParsePort reads a port specification. What it does not name is taken from
// defaults. Errors name the part that is wrong and show the form.
func ParsePort(s string, defaults dialect.LineSettings) (PortSpec, error) {
	device, rest, ok := strings.Cut(s, "=")
	if !ok {
		return PortSpec{}, portError(s, errors.New("there is no = after the device id"))
	}
	if err := schemas.ValidateID(device); err != nil {
		return PortSpec{}, portError(s, err)
	}
	path, options, _ := strings.Cut(rest, ",")
	if path == "" {
		return PortSpec{}, portError(s, errors.New("the path of the port is empty"))
	}
	spec := PortSpec{Device: device, Path: path, Line: defaults}
	for option := range strings.SplitSeq(options, ",") {
		if option == "" {
			continue
		}
		if err := spec.set(option); err != nil {
			return PortSpec{}, portError(s, err)
		}
	}
	return spec, nil
}

func portError(s string, err error) error {
	return fmt.Errorf("port %q: %w; the form is DEVICE_ID=PATH[,baud=115200][,parity=odd|even|none][,rtscts=on|off]", s, err)
}

func (p *PortSpec) set(option string) error {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "baud":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxBaud {
			return fmt.Errorf("baud %q is not a number from 1 to %d", value, maxBaud)
		}
		p.Line.Baud = n
	case "parity":
		switch parity := dialect.Parity(value); parity {
		case dialect.ParityNone, dialect.ParityOdd, dialect.ParityEven:
			p.Line.Parity = parity
		default:
			return fmt.Errorf("parity %q is not odd, even or none", value)
		}
	case "rtscts":
		switch value {
		case "on":
			p.Line.RTSCTS = true
		case "off":
			p.Line.RTSCTS = false
		default:
			return fmt.Errorf("rtscts %q is not on or off", value)
		}
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

// CheckPorts refuses a set of ports in which a device or a path stands twice.
func CheckPorts(ports []PortSpec) error {
	devices, paths := map[string]bool{}, map[string]string{}
	for _, p := range ports {
		if devices[p.Device] {
			return fmt.Errorf("device %s has two ports; give each device one", p.Device)
		}
		if other, taken := paths[p.Path]; taken {
			return fmt.Errorf("port %s is given to both %s and %s; a line has one host MCU", p.Path, other, p.Device)
		}
		devices[p.Device], paths[p.Path] = true, p.Device
	}
	return nil
}
