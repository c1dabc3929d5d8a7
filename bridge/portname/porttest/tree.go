// Package porttest builds what sysfs and udev say of serial ports below a
// folder, links laid out as the kernel does, for tests of everything that looks
// ports up.
//
// It imports nothing of this module. A Tree is used by one goroutine at a time;
// others may read its files meanwhile, as programs read sysfs while adapters
// come and go.
package porttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tree is a folder with sys and dev in it.
type Tree struct {
	t *testing.T
	// Root is the folder.
	Root string
}

// USB is a port of a USB adapter.
type USB struct {
	TTY    string // ttyUSB0
	Place  string // of the interface: 1-1.4:1.0
	Vendor string // 0403
	Model  string // 6001
	Serial string // "" for none
	Maker  string // manufacturer text, "" for none
	Text   string // product text, "" for none
	Driver string // ftdi_sio; cdc_acm has no device of its own between interface and terminal
	ByPath string // link in /dev/serial/by-path, "" for none
	Number int    // of the port on its interface
}

// New makes a tree without ports.
func New(t *testing.T) *Tree {
	t.Helper()
	tree := &Tree{t, t.TempDir()}
	tree.folder("sys/class/tty")
	tree.folder("sys/devices")
	tree.folder("dev")
	return tree
}

// Plug adds a port.
func (t *Tree) Plug(u USB) {
	t.t.Helper()
	// The folder of a device with the ports of the hubs on the way is 1-1.4, and its interface 1-1.4:1.0.
	adapter, setting, _ := strings.Cut(u.Place, ":")
	dir := "sys/devices/pci0000:00/0000:00:14.0/usb1/" + adapter
	t.attributes(dir, "idVendor", u.Vendor, "idProduct", u.Model, "serial", u.Serial, "manufacturer", u.Maker, "product", u.Text)
	iface := dir + "/" + u.Place
	t.attributes(iface, "bInterfaceNumber", fmt.Sprintf("%02s", setting[strings.IndexByte(setting, '.')+1:]))
	device := iface
	if u.Driver != "cdc_acm" {
		device += "/" + u.TTY
		t.attributes(device, "port_number", fmt.Sprint(u.Number))
	}
	t.link(device+"/driver", "sys/bus/usb/drivers/"+u.Driver)
	t.terminal(u.TTY, device)
	if u.ByPath != "" {
		t.link("dev/serial/by-path/"+u.ByPath, "dev/"+u.TTY)
	}
}

// UART adds a port of the board: device is its folder below /sys/devices, kind
// its port type, "0" for one without a chip.
func (t *Tree) UART(tty, device, driver, kind string) {
	t.t.Helper()
	t.link("sys/devices/"+device+"/driver", "sys/bus/platform/drivers/"+driver)
	// The two devices between, of Linux 6.5 and later.
	inner := "sys/devices/" + device + "/x:0/x:0.0"
	t.link(inner+"/driver", "sys/bus/serial-base/drivers/port")
	t.link(inner+"/subsystem", "sys/bus/serial-base")
	t.terminal(tty, inner)
	t.attributes(inner+"/tty/"+tty, "type", kind)
}

// Virtual adds a terminal without a device.
func (t *Tree) Virtual(tty string) {
	t.t.Helper()
	t.folder("sys/devices/virtual/tty/" + tty)
	t.link("sys/class/tty/"+tty, "sys/devices/virtual/tty/"+tty)
}

// Unplug takes a port away, and what else its adapter has below its interface.
func (t *Tree) Unplug(tty string) {
	t.t.Helper()
	device, err := filepath.EvalSymlinks(t.path("sys/class/tty/" + tty + "/device"))
	if err != nil {
		t.t.Fatal(err)
	}
	links, _ := filepath.Glob(t.path("dev/serial/by-path/*"))
	for _, l := range links {
		if target, _ := os.Readlink(l); filepath.Base(target) == tty {
			t.remove(l)
		}
	}
	t.remove(t.path("sys/class/tty/" + tty))
	t.remove(device)
}

// terminal adds DEVICE/tty/TTY, its device link and its link in the class.
func (t *Tree) terminal(tty, device string) {
	dir := device + "/tty/" + tty
	t.folder(dir)
	t.link(dir+"/device", device)
	t.link("sys/class/tty/"+tty, dir)
}

func (t *Tree) path(name string) string { return filepath.Join(t.Root, filepath.FromSlash(name)) }

func (t *Tree) folder(name string) {
	t.t.Helper()
	if err := os.MkdirAll(t.path(name), 0o700); err != nil {
		t.t.Fatal(err)
	}
}

// attributes writes files, names and values in turn; empty values make none.
func (t *Tree) attributes(dir string, pairs ...string) {
	t.t.Helper()
	t.folder(dir)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if err := os.WriteFile(t.path(dir+"/"+pairs[i]), []byte(pairs[i+1]+"\n"), 0o600); err != nil {
			t.t.Fatal(err)
		}
	}
}

// link makes a relative symbolic link, as sysfs and udev do.
func (t *Tree) link(name, target string) {
	t.t.Helper()
	t.folder(filepath.Dir(name))
	to, err := filepath.Rel(t.path(filepath.Dir(name)), t.path(target))
	if err == nil {
		_ = os.Remove(t.path(name)) // ports of one interface share its links
		err = os.Symlink(to, t.path(name))
	}
	if err != nil {
		t.t.Fatal(err)
	}
}

func (t *Tree) remove(path string) {
	t.t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.t.Fatal(err)
	}
}
