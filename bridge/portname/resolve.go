package portname

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"davit/bridge/serialport"
)

// ErrAmbiguous is wrapped by Resolve if a name fits several ports.
var ErrAmbiguous = errors.New("the name fits several ports")

// Resolve returns the path of the port that n means now. It looks again each
// time. A path is returned as it is, whether there is such a port or not; for
// the other names the error wraps serialport.ErrMissing if none fits, and
// ErrAmbiguous, with the names of all that fit, if several do.
func (s System) Resolve(n Name) (string, error) {
	if n.IsPath() {
		return n.text, nil
	}
	ports, err := s.List()
	if err != nil {
		return "", fmt.Errorf("%s: %w", n, err)
	}
	var fit []int
	for i, p := range ports {
		if n.fits(p) {
			fit = append(fit, i)
		}
	}
	switch len(fit) {
	case 0:
		return "", fmt.Errorf("%s: %w; is the adapter plugged in? davit bridge ports lists what is there", n, serialport.ErrMissing)
	case 1:
		return ports[fit[0]].Path, nil
	}
	return "", fmt.Errorf("%s: %w: %s; name one of them", n, ErrAmbiguous, candidates(ports, fit))
}

// candidates lists ports for an error, not more than can be read.
func candidates(ports []Port, fit []int) string {
	const most = 16
	names, list := Names(ports), []string{}
	for _, i := range fit[:min(len(fit), most)] {
		list = append(list, fmt.Sprintf("%s (%s)", names[i], ports[i].Path))
	}
	if more := len(fit) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// fits says whether n means p. What n leaves out fits anything.
func (n Name) fits(p Port) bool {
	switch n.kind {
	case kindPath:
		return n.text == p.Path
	case kindPlace:
		return slices.Contains(p.ByPath, n.text) || p.USB != nil && p.USB.at(n.text)
	}
	u := p.USB
	return u != nil && n.vendor == u.Vendor && n.product == u.Product && (n.text == "" || n.text == u.Serial) &&
		(n.iface == unsaid || n.iface == u.Interface) && (n.number == unsaid || n.number == u.Number)
}

// at says whether place is the adapter's place in sysfs. No link of udev has
// that form: theirs begin with the bus of the controller, such as pci-.
func (u *USB) at(place string) bool { return place == u.Place || place == u.exactPlace() }

func (u *USB) exactPlace() string { return fmt.Sprintf("%s-port%d", u.Place, u.Number) }

// Names gives each of a machine's ports the name to configure it by, which fits
// no other of them: the USB identity, with as much of it as is needed; else the
// place, because adapters without a serial number, or with one that others
// have too, cannot be told apart otherwise; else the path.
func Names(ports []Port) []Name {
	names := make([]Name, len(ports))
	for i, p := range ports {
		names[i] = Name{kind: kindPath, text: p.Path, iface: unsaid, number: unsaid}
		for _, n := range append(p.identities(), p.places()...) {
			if unique(n, ports) {
				names[i] = n
				break
			}
		}
	}
	return names
}

func unique(n Name, ports []Port) bool {
	count := 0
	for _, p := range ports {
		if n.fits(p) {
			count++
		}
	}
	return count == 1
}

// identities are the usb: names of a port, the shortest first.
func (p Port) identities() []Name {
	u := p.USB
	if u == nil {
		return nil
	}
	n := Name{kind: kindUSB, text: u.Serial, vendor: u.Vendor, product: u.Product, iface: unsaid, number: unsaid}
	withInterface := n
	withInterface.iface = u.Interface
	withNumber := withInterface
	withNumber.number = u.Number
	return []Name{n, withInterface, withNumber}
}

// places are the by-path: names of a USB adapter's port. Other ports do not
// move: their path is as good.
func (p Port) places() []Name {
	if p.USB == nil {
		return nil
	}
	var names []Name
	for _, place := range append(slices.Clone(p.ByPath), p.USB.Place, p.USB.exactPlace()) {
		names = append(names, Name{kind: kindPlace, text: place, iface: unsaid, number: unsaid})
	}
	return names
}

// Place is the by-path: name of one of ports, false if it has none that fits
// no other.
func Place(p Port, ports []Port) (Name, bool) {
	names := p.places()
	if p.USB == nil {
		for _, place := range p.ByPath {
			names = append(names, Name{kind: kindPlace, text: place, iface: unsaid, number: unsaid})
		}
	}
	for _, n := range names {
		if unique(n, ports) {
			return n, true
		}
	}
	return Name{}, false
}
