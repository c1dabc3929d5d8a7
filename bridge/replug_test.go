package bridge

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/portname"
	"davit/bridge/portname/porttest"
	"davit/bridge/serialport"
	"davit/internal/sim"
	"davit/schemas"
)

// An adapter that goes away during an update and is back as another tty is
// found by its name, and the update is finished. What has taken its old path
// meanwhile is left alone.
func TestAdapterIsBackUnderAnotherPath(t *testing.T) {
	for _, name := range []string{"usb:0403:6001:A50285BI", "by-path:1-1.4:1.0"} {
		for _, dialect := range []string{ayla.Name, afero.Name} {
			t.Run(dialect+"/"+name, func(t *testing.T) { replug(t, dialect, name) })
		}
	}
}

func replug(t *testing.T, dialect, name string) {
	tree := porttest.New(t)
	adapter := porttest.USB{TTY: "ttyUSB0", Place: "1-1.4:1.0", Vendor: "0403", Model: "6001", Serial: "A50285BI", Driver: "ftdi_sio"}
	tree.Plug(adapter)
	opened := []string{}
	var mcu sim.Host
	offer := (*world).theOffer
	furnish := func(w *world) {
		w.lines[pump], mcu = sim.NewLine(sim.LineConfig{}), sim.NewMCU(sim.MCUConfig{})
		if dialect == afero.Name {
			w.lines[pump], mcu = sim.NewLine(sim.LineConfig{BitsPerByte: 10, NoFlowControl: true}), sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID})
			offer = func(w *world) schemas.Offer { return (&aferoWorld{world: w}).theOffer() }
		}
		w.cfg.Ports = []PortConfig{{Device: pump, Path: name, Dialect: dialect, Baud: sim.DefaultBaud}}
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			path, err := resolve(p, portname.At(tree.Root))
			if err != nil {
				if !errors.Is(err, serialport.ErrMissing) {
					t.Error(err)
				}
				return nil, err
			}
			port, err := w.lines[pump].Open()
			if err == nil {
				opened = append(opened, path)
			}
			return port, err
		}
		w.run(pump, mcu)
	}
	inBareWorld(t, 20_000, furnish, func(w *world) {
		w.service.offer(pump, offer(w))
		w.awaitState(schemas.StateInstalling)
		w.lines[pump].Unplug()
		tree.Unplug("ttyUSB0")
		time.Sleep(time.Minute) // virtual
		tree.Plug(porttest.USB{TTY: "ttyUSB0", Place: "1-1.1:1.0", Vendor: "0403", Model: "6001", Serial: "ANOTHER", Driver: "ftdi_sio"})
		adapter.TTY = "ttyUSB3"
		tree.Plug(adapter)
		w.lines[pump].Replug()
		if st := w.awaitEnd(theExecution); st.State != schemas.StateSucceeded || !bytes.Equal(mcu.RunningImage(), w.image) {
			w.Errorf("%s, cause %q, %s", st.State, st.Cause, st.Detail)
		}
	})
	if len(opened) != 2 || opened[0] != "/dev/ttyUSB0" || opened[1] != "/dev/ttyUSB3" {
		t.Errorf("opened were %q", opened)
	}
}
