package sim

import (
	"fmt"
	"strings"
)

// FaultCase is one of the failures that the demo can show: what is wrong with
// the MCU and with the line, and a sentence for people.
type FaultCase struct {
	Name string
	// What says what goes wrong, as half a sentence.
	What string
	MCU  Fault
	// Line is merged into the line's configuration by Apply.
	ToMCU, FromMCU LineFaults
	UnplugAfter    int64
}

// faultCases returns the cases by name in the order in which they are listed.
func faultCases() []FaultCase {
	return []FaultCase{
		{Name: "reject-too-large", What: "the host MCU says that the image is too large for it", MCU: Fault{RejectTooLarge: true}},
		{Name: "reject-already", What: "the host MCU says that it runs this version already, but reports another", MCU: Fault{RejectAlready: true}},
		{Name: "checksum", What: "the host MCU's check of the image in its flash fails", MCU: Fault{BadChecksum: true}},
		{Name: "no-boot", What: "the new image does not start and the boot loader goes back to the old one", MCU: Fault{NoBoot: true}},
		{Name: "silent", What: "the host MCU acknowledges every frame and never answers an offer", MCU: Fault{Silent: true}},
		{Name: "unplug", What: "somebody pulls the serial cable during the transfer and leaves it pulled", UnplugAfter: 8000},
		// A piece of 255 bytes arrives whole about once in 5,000 times, an offer every second time.
		{Name: "crc-noise", What: "the serial line is so noisy that long frames do not get through", ToMCU: LineFaults{BitErrorRate: 4e-3}, FromMCU: LineFaults{BitErrorRate: 1e-3}},
	}
}

// FaultNames lists the names that FaultByName knows.
func FaultNames() []string {
	var names []string
	for _, c := range faultCases() {
		names = append(names, c.Name)
	}
	return names
}

// FaultByName returns the case that the demo calls name. The error lists the
// names there are.
func FaultByName(name string) (FaultCase, error) {
	for _, c := range faultCases() {
		if c.Name == name {
			return c, nil
		}
	}
	return FaultCase{}, fmt.Errorf("no failure case is called %q; there are %s", name, strings.Join(FaultNames(), ", "))
}

// Apply puts the case into the configurations of an MCU and its line. That of
// an AferoMCU is the MCUConfig in its AferoConfig.
func (c FaultCase) Apply(mcu *MCUConfig, line *LineConfig) {
	mcu.Fault = c.MCU
	line.ToMCU, line.FromMCU = c.ToMCU, c.FromMCU
	line.UnplugAfter = c.UnplugAfter
}
