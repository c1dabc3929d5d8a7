package demo

import (
	"fmt"
	"strings"

	"davit/internal/sim"
)

// fault is one thing that the demo can make go wrong on a device.
type fault struct {
	name     string
	injected string // half a sentence
	sim      sim.FaultCase
	// unplugAt is after how many loaded bytes the line is unplugged for a
	// while; 0 means that it is not.
	unplugAt uint32
}

// The noise of crc-noise: about one full frame in 25 arrives damaged, so that
// the update is seen to struggle and to get through.
const noise = 2e-5

// unplugAt is when the cable of unplug is pulled.
const unplugAt = 16 << 10

// faults returns the failure cases in the order in which they are listed. They
// are the simulator's, except for the two that a bridge can recover from: here
// the cable is put back and the noise leaves frames a chance.
func faults() []fault {
	var all []fault
	for _, name := range sim.FaultNames() {
		c, err := sim.FaultByName(name)
		if err != nil {
			continue // not reached: the names are the simulator's own
		}
		f := fault{name: name, injected: c.What, sim: c}
		switch name {
		case "unplug":
			f.sim.UnplugAfter = 0
			f.unplugAt = unplugAt
			f.injected = fmt.Sprintf("somebody pulls the serial cable when %d bytes are loaded and puts it back a moment later", unplugAt)
		case "crc-noise":
			f.sim.ToMCU, f.sim.FromMCU = sim.LineFaults{BitErrorRate: noise}, sim.LineFaults{BitErrorRate: noise}
			f.injected = "noise flips bits on the serial line in both directions, so that some frames arrive damaged"
		}
		all = append(all, f)
	}
	return all
}

func faultByName(name string) (fault, error) {
	if name == "" {
		return fault{}, nil
	}
	for _, f := range faults() {
		if f.name == name {
			return f, nil
		}
	}
	return fault{}, fmt.Errorf("no failure case is called %q; there are %s", name, FaultNames())
}

// FaultNames lists the failure cases for people.
func FaultNames() string { return strings.Join(sim.FaultNames(), ", ") }

// DescribeFaults lists the failure cases with what they do, a line each.
func DescribeFaults() string {
	var b strings.Builder
	for _, f := range faults() {
		fmt.Fprintf(&b, "  %-18s%s\n", f.name, f.injected)
	}
	return strings.TrimRight(b.String(), "\n")
}
