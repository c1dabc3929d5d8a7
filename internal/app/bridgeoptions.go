package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"davit/bridge"
)

// BridgeOptions configure a Bridge.
type BridgeOptions struct {
	// Broker is the URL of the MQTT broker, or HOST:PORT.
	Broker       string
	Username     string
	PasswordFile string
	// CAFile is a PEM file with the certificates that vouch for the broker;
	// empty means the system's.
	CAFile string
	Ports  []bridge.PortConfig
	// Data is the bridge's data folder; it is made if it is not there.
	Data string
	// OfferInterval is how long after an unanswered offer the host MCU is
	// offered the image again; 0 means the dialect's default.
	OfferInterval time.Duration
	// Record is a folder for recordings of what passes on the ports; empty for none.
	Record string
	// DrainTimeout is how long Run goes on for MCU legs that are under way when
	// its context ends; 0 ends them at once.
	DrainTimeout time.Duration
	// Metrics is the address of a listener for /metrics and /status; empty for none.
	Metrics string
	Log     *slog.Logger
}

// Devices are the ids of the bridge's devices in the order of its ports.
func (o *BridgeOptions) Devices() []string {
	ids := make([]string, len(o.Ports))
	for i, p := range o.Ports {
		ids[i] = p.Device
	}
	return ids
}

// Validate checks what can be checked without touching anything.
func (o *BridgeOptions) Validate() error {
	switch {
	case o.Broker == "":
		return errors.New("bridge: name the broker with --broker")
	case o.Username == "":
		return errors.New("bridge: give the bridge's user name with --username")
	case o.PasswordFile == "":
		return errors.New("bridge: name the file with the password with --password-file")
	case len(o.Ports) == 0:
		return errors.New("bridge: name at least one serial port with --port")
	case o.Data == "":
		return errors.New("bridge: name the data folder with --data")
	case o.OfferInterval < 0:
		return fmt.Errorf("bridge: --offer-interval is %s", o.OfferInterval)
	case o.DrainTimeout < 0:
		return fmt.Errorf("bridge: --drain-timeout is %s; 0 ends what is under way at once", o.DrainTimeout)
	}
	seen := map[string]bool{}
	for _, p := range o.Ports {
		if seen[p.Device] {
			return fmt.Errorf("bridge: device %s has two ports; a line has one host MCU and a device one line", p.Device)
		}
		seen[p.Device] = true
	}
	if err := checkBrokerURL(o.Broker); err != nil {
		return fmt.Errorf("bridge: --broker: %w", err)
	}
	if o.Metrics != "" {
		if err := checkAddr(o.Metrics); err != nil {
			return fmt.Errorf("bridge: --metrics: %w", err)
		}
	}
	return nil
}
