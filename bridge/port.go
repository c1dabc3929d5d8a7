package bridge

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"davit/bridge/dialect"
	"davit/bridge/portname"
	"davit/bridge/serialport"
	"davit/schemas"
	"davit/schemas/tlv"
)

// PortConfig is one serial port and the device behind it. What is left zero is
// the dialect's default.
type PortConfig struct {
	// Device is the id of the device at the port.
	Device string
	// Path names the port: a path, for example /dev/ttyUSB0, or a usb: or
	// by-path: name as package portname has them, which is looked up anew each
	// time that the port is opened.
	Path string
	// Dialect names the protocol of the host MCU; empty means that of the device
	// type, as the service says it.
	Dialect string
	// Baud is the speed in bit/s.
	Baud int
	// Parity of the line.
	Parity dialect.Parity
	// RTSCTS says whether RTS/CTS flow control is used.
	RTSCTS *bool
	// DeviceType is the id of the device's type, which signed images have to be for;
	// it is needed with image keys only.
	DeviceType string
	// VersionProperty is the property by which the host MCU reports its version.
	VersionProperty string
	// AttributeSize is the size in bytes of the attribute that carries the image,
	// in the afero dialect; 0 leaves it to the device type.
	AttributeSize int
	// LoadSize is how many bytes of the image go into one LOAD at most, in the
	// ayla dialect; 0 means as many as it allows.
	LoadSize int
}

// equal says whether two configurations say the same.
func (p PortConfig) equal(q PortConfig) bool {
	if (p.RTSCTS == nil) != (q.RTSCTS == nil) || p.RTSCTS != nil && *p.RTSCTS != *q.RTSCTS {
		return false
	}
	p.RTSCTS, q.RTSCTS = nil, nil
	return p == q
}

// Foreign names an option that is set and that the port's dialect does not have,
// and the dialect that has it; "" for none, or if the dialect is left to the device type.
func (p PortConfig) Foreign() (option, of string) {
	switch {
	case p.AttributeSize != 0 && p.Dialect != "" && p.Dialect != "afero":
		return "attribute-size", "afero"
	case p.LoadSize != 0 && p.Dialect != "" && p.Dialect != "ayla":
		return "load-size", "ayla"
	}
	return "", ""
}

// checkOptions refuses options that the port's dialect does not have.
func (p PortConfig) checkOptions() error {
	if option, of := p.Foreign(); option != "" {
		return fmt.Errorf("%s is an option of dialect %s, and the port's is %s", option, of, p.Dialect)
	}
	return nil
}

// PortKey is one text for all ways to write a port's name in a configuration;
// the error is portname.Parse's.
func PortKey(path string) (string, error) {
	name, err := portname.Parse(path)
	if err != nil {
		return "", err
	}
	if name.IsPath() {
		return filepath.Clean(name.String()), nil
	}
	return name.String(), nil
}

// portForm is shown with every error about a port specification.
const portForm = "DEVICE_ID=PORT[,baud=115200][,parity=odd|even|none][,rtscts=on|off][,dialect=ayla|afero][,device-type=TYPE][,version-property=NAME][,attribute-size=253][,load-size=255], where PORT is a path, usb:VID:PID[:SERIAL][:ifNN] or by-path:NAME"

// ParsePort reads a port specification of the form
//
//	DEVICE_ID=PORT[,baud=115200][,parity=odd][,rtscts=on][,dialect=ayla][,device-type=TYPE][,version-property=NAME][,attribute-size=253][,load-size=255]
//
// where PORT is a path or a name (portname.Parse) and ends at the first comma. An
// error says which part is wrong and shows the form.
func ParsePort(spec string) (PortConfig, error) {
	p, err := parsePort(spec)
	if err != nil {
		return PortConfig{}, fmt.Errorf("port %q: %w; the form is %s", spec, err, portForm)
	}
	return p, nil
}

func parsePort(spec string) (PortConfig, error) {
	device, rest, ok := strings.Cut(spec, "=")
	if !ok {
		return PortConfig{}, errors.New("no = between device id and port")
	}
	if err := schemas.ValidateID(device); err != nil {
		return PortConfig{}, fmt.Errorf("device id: %w", err)
	}
	path, options, more := strings.Cut(rest, ",")
	if _, err := portname.Parse(path); err != nil {
		return PortConfig{}, err
	}
	p := PortConfig{Device: device, Path: path}
	seen := map[string]bool{}
	for more {
		var option string
		option, options, more = strings.Cut(options, ",")
		name, value, ok := strings.Cut(option, "=")
		if !ok || value == "" {
			return PortConfig{}, fmt.Errorf("option %q has no value", option)
		}
		if seen[name] {
			return PortConfig{}, fmt.Errorf("option %q stands twice", name)
		}
		seen[name] = true
		if err := p.Set(name, value); err != nil {
			return PortConfig{}, err
		}
	}
	return p, p.checkOptions()
}

// Set gives one of the options of ParsePort its value, which is everything but
// device and port. An error begins with the option's name, unless there is no such option.
func (p *PortConfig) Set(name, value string) error {
	switch name {
	case "baud":
		n, err := strconv.Atoi(value)
		if err != nil || n < serialport.MinBaud || n > serialport.MaxBaud {
			return fmt.Errorf("baud is %q, allowed are %d to %d", value, serialport.MinBaud, serialport.MaxBaud)
		}
		p.Baud = n
	case "parity":
		switch p.Parity = dialect.Parity(value); p.Parity {
		case dialect.ParityOdd, dialect.ParityEven, dialect.ParityNone:
		default:
			return fmt.Errorf("parity is %q, allowed are odd, even and none", value)
		}
	case "rtscts":
		if value != "on" && value != "off" {
			return fmt.Errorf("rtscts is %q, allowed are on and off", value)
		}
		on := value == "on"
		p.RTSCTS = &on
	case "dialect":
		p.Dialect = value
	case "device-type":
		if err := schemas.ValidateID(value); err != nil {
			return fmt.Errorf("device-type: %w", err)
		}
		p.DeviceType = value
	case "version-property":
		if err := schemas.ValidateVersion(value); err != nil { // the same limits hold for a property's name
			return fmt.Errorf("version-property: %w", err)
		}
		p.VersionProperty = value
	case "attribute-size":
		n, err := strconv.Atoi(value)
		if err != nil || n < schemas.MinAttributeSize || n > schemas.MaxAttributeSize {
			return fmt.Errorf("attribute-size is %q, allowed are %d to %d", value, schemas.MinAttributeSize, schemas.MaxAttributeSize)
		}
		p.AttributeSize = n
	case "load-size":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > tlv.MaxLoad {
			return fmt.Errorf("load-size is %q, allowed are 1 to %d", value, tlv.MaxLoad)
		}
		p.LoadSize = n
	default:
		return fmt.Errorf("unknown option %q", name)
	}
	return nil
}

// complete puts the dialect's settings in the place of what is not set.
func (p PortConfig) complete(line dialect.LineSettings) PortConfig {
	if p.Baud == 0 {
		p.Baud = line.Baud
	}
	if p.Parity == "" {
		p.Parity = line.Parity
	}
	if p.RTSCTS == nil {
		p.RTSCTS = &line.RTSCTS
	}
	return p
}

// OpenSerial opens a real serial port or pseudo-terminal, after it has looked
// up which one p.Path means now. It is what a Config without OpenPort uses;
// every setting of p has to be there.
func OpenSerial(p PortConfig) (io.ReadWriteCloser, error) {
	path, err := resolve(p, portname.Machine())
	if err != nil {
		return nil, err
	}
	port, err := serialport.Open(path, serialport.Settings{
		Baud: p.Baud, Parity: serialport.Parity(p.Parity), RTSCTS: p.RTSCTS != nil && *p.RTSCTS,
	})
	if err == nil {
		return port, nil
	}
	if errors.Is(err, serialport.ErrInUse) {
		err = fmt.Errorf("%w; if that is this bridge, two of its ports are the same adapter", err)
	}
	if path != p.Path {
		err = fmt.Errorf("%s: %w", p.Path, err)
	}
	return nil, err // not port: a nil *Port is not a nil interface
}

// resolve says which path the name of a port means now.
func resolve(p PortConfig, ports portname.System) (string, error) {
	name, err := portname.Parse(p.Path)
	if err != nil {
		return "", fmt.Errorf("port %q: %w", p.Path, err)
	}
	return ports.Resolve(name)
}
