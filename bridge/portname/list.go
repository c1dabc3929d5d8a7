package portname

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Port is a serial port that the machine has.
type Port struct {
	// Path of the port now, for example /dev/ttyUSB0.
	Path string
	// Driver is the kernel driver's name, for example ftdi_sio; empty if sysfs
	// names none.
	Driver string
	// ByPath are the names of its links in /dev/serial/by-path, sorted. Newer
	// versions of udev make two for each port, older systems none.
	ByPath []string
	// USB is what there is to know of a USB adapter; nil for other ports.
	USB *USB
}

// USB describes a USB adapter and which of its ports this is
// (Linux, Documentation/ABI/stable/sysfs-bus-usb and testing/sysfs-bus-usb).
// The texts come from the device as they are: see Printable.
type USB struct {
	Vendor, Product uint16
	// Serial number, empty if the adapter has none.
	Serial string
	// Maker and Model are the adapter's manufacturer and product texts.
	Maker, Model string
	// Interface is bInterfaceNumber of the interface behind the port.
	Interface int
	// Number of the port on its interface, 0 for the first.
	Number int
	// Place is the name of the interface in sysfs: bus, ports of the hubs on the
	// way, configuration and interface, for example 1-1.4:1.0.
	Place string
}

// System is where ports are looked for.
type System struct{ root string }

// Machine is the machine that the program runs on.
func Machine() System { return System{"/"} }

// At is a system whose /sys and /dev lie below a folder, for tests.
func At(root string) System { return System{root} }

// List lists the ports that have hardware behind them, sorted by path. It opens
// none of them. On other systems than Linux the error is errors.ErrUnsupported.
func (s System) List() ([]Port, error) {
	if s.root == "/" && runtime.GOOS != "linux" {
		return nil, fmt.Errorf("list serial ports: %w; run the bridge on Linux", errors.ErrUnsupported)
	}
	class := filepath.Join(s.root, "sys", "class", "tty")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list serial ports: %w; is sysfs mounted at /sys?", err)
	}
	links := s.links()
	var ports []Port
	for _, e := range entries {
		if p, ok := read(filepath.Join(class, e.Name())); ok {
			p.Path = "/dev/" + strings.ReplaceAll(e.Name(), "!", "/") // sysfs has ! for / in names
			p.ByPath = links[p.Path]
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, func(a, b Port) int {
		stemA, numberA := split(a.Path)
		stemB, numberB := split(b.Path)
		return cmp.Or(cmp.Compare(stemA, stemB), cmp.Compare(numberA, numberB), cmp.Compare(a.Path, b.Path))
	})
	return ports, nil
}

// split cuts the number off the end of a path, so that ttyUSB2 comes before
// ttyUSB10.
func split(path string) (string, int) {
	stem := strings.TrimRight(path, "0123456789")
	n, _ := strconv.Atoi(path[len(stem):])
	return stem, n
}

// links are the names in /dev/serial/by-path by the path that they lead to.
// udev makes the folder with the first link in it, so there may be none.
func (s System) links() map[string][]string {
	const folder = "/dev/serial/by-path"
	names := map[string][]string{}
	entries, _ := os.ReadDir(filepath.Join(s.root, folder))
	for _, e := range entries { // sorted, and so are the lists
		target, err := os.Readlink(filepath.Join(s.root, folder, e.Name()))
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(folder, target)
		}
		names[target] = append(names[target], e.Name())
	}
	return names
}

// read reads what sysfs says of a terminal. It is false for one without
// hardware, and for one that vanishes meanwhile.
func read(dir string) (Port, bool) {
	// Pseudo-terminals and virtual consoles have no device.
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return Port{}, false
	}
	// The 8250 driver makes its ttyS whether or not there is a chip. The type of one without is 0, PORT_UNKNOWN
	// (Linux, Documentation/ABI/testing/sysfs-tty, and include/uapi/linux/serial_core.h).
	if kind, ok := text(dir, "type"); ok && kind == "0" {
		return Port{}, false
	}
	return Port{Driver: driver(device), USB: readUSB(device)}, true
}

// driver finds the driver of a device, or of the next one above that has a
// driver of hardware: since Linux 6.5 a UART has two devices of the bus serial-base
// below its own, whose drivers say nothing.
func driver(device string) string {
	for dir := range upwards(device) {
		if bus, err := os.Readlink(filepath.Join(dir, "subsystem")); err == nil && filepath.Base(bus) == "serial-base" {
			continue
		}
		if target, err := os.Readlink(filepath.Join(dir, "driver")); err == nil {
			return filepath.Base(target)
		}
	}
	return ""
}

// readUSB looks upwards for the USB interface that a terminal stands on, whose
// parent is the USB device; nil if there is none.
func readUSB(device string) *USB {
	for dir := range upwards(device) {
		iface, ok := number(dir, "bInterfaceNumber", 16)
		if !ok {
			continue
		}
		adapter := filepath.Dir(dir)
		vendor, okVendor := number(adapter, "idVendor", 16)
		product, okProduct := number(adapter, "idProduct", 16)
		if !okVendor || !okProduct {
			return nil
		}
		u := &USB{Vendor: uint16(vendor), Product: uint16(product), Interface: int(iface), Place: filepath.Base(dir)}
		u.Serial, _ = text(adapter, "serial")
		u.Maker, _ = text(adapter, "manufacturer")
		u.Model, _ = text(adapter, "product")
		// Of drivers that serve several ports through one interface.
		n, _ := number(device, "port_number", 10)
		u.Number = int(n)
		return u
	}
	return nil
}

// upwards goes through a device's folder and those above it, up to
// /sys/devices.
func upwards(dir string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for ; filepath.Base(dir) != "devices" && filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
			if !yield(dir) {
				return
			}
		}
	}
}

func text(dir, attribute string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(dir, attribute))
	return strings.TrimSuffix(string(b), "\n"), err == nil
}

func number(dir, attribute string, base int) (uint64, bool) {
	s, ok := text(dir, attribute)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(s), base, 16)
	return n, err == nil
}
