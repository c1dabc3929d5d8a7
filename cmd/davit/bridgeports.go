package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"davit/bridge/portname"
)

// serialPort is a port as bridge ports prints it. Texts of adapters are made
// printable; Name and ByPath are always exact.
type serialPort struct {
	Path         string `json:"path"`
	Name         string `json:"name"`
	ByPath       string `json:"by_path,omitempty"`
	Driver       string `json:"driver,omitempty"`
	VendorID     string `json:"vendor_id,omitempty"`
	ProductID    string `json:"product_id,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	Interface    *int   `json:"interface,omitempty"`
	PortNumber   *int   `json:"port_number,omitempty"`
}

func (p *program) bridgePorts() *cobra.Command {
	cmd := p.command("ports", "List this machine's serial ports and the names to give them in --port", noArgs,
		func(*cobra.Command, []string) error { return p.listPorts(portname.Machine()) })
	cmd.Long = `List the serial ports of this machine that have hardware behind them. No port is
opened, and no service is asked.

NAME is what to put in --port DEVICE_ID=NAME. For a USB adapter it stays the same when
the adapter is unplugged and is back under another path, and it is that of no other port
now. Adapters without a serial number, or with the same one, are named by the place that
they are plugged in at (by-path:).`
	return cmd
}

func (p *program) listPorts(system portname.System) error {
	found, err := system.List()
	if err != nil {
		return err
	}
	ports := describe(found)
	if p.json {
		for _, port := range ports {
			if err := p.printJSON(port); err != nil {
				return err
			}
		}
		return nil
	}
	if len(ports) == 0 {
		fmt.Fprintln(p.err, "davit: there are no serial ports. Is the adapter plugged in, does the kernel have its driver (dmesg says), and is it passed on to this container or virtual machine?")
		return nil
	}
	type T = serialPort
	return table(p, ports,
		column[T]{"PATH", func(s T) string { return s.Path }},
		column[T]{"NAME", func(s T) string { return s.Name }},
		column[T]{"BY-PATH", func(s T) string { return s.ByPath }},
		column[T]{"ADAPTER", serialPort.adapter})
}

// adapter says what a port is: the product text, else what else is known.
func (s serialPort) adapter() string {
	switch {
	case strings.TrimSpace(s.Product) != "":
		return s.Product
	case strings.TrimSpace(s.Manufacturer) != "":
		return s.Manufacturer
	}
	return s.Driver
}

func describe(ports []portname.Port) []serialPort {
	names := portname.Names(ports)
	all := make([]serialPort, len(ports))
	for i, port := range ports {
		s := serialPort{Path: portname.Printable(port.Path), Name: names[i].String(), Driver: portname.Printable(port.Driver)}
		if place, ok := portname.Place(port, ports); ok {
			s.ByPath = place.String()
		}
		if u := port.USB; u != nil {
			s.VendorID, s.ProductID = fmt.Sprintf("%04x", u.Vendor), fmt.Sprintf("%04x", u.Product)
			s.Serial, s.Manufacturer, s.Product = portname.Printable(u.Serial), portname.Printable(u.Maker), portname.Printable(u.Model)
			s.Interface, s.PortNumber = &u.Interface, &u.Number
		}
		all[i] = s
	}
	return all
}
