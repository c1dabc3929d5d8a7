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
	// mcu is what is wrong with the host MCU.
	mcu sim.FaultCase
	// noise is on the line from the start.
	noise sim.LineFaults
	// at is after how many loaded bytes trouble begins with the line; 0 means
	// that it does not.
	at      uint32
	trouble trouble
}

// trouble is what happens to a line in the middle of a load.
type trouble byte

const (
	cablePulled   trouble = iota + 1 // for good
	cableReplaced                    // pulled, and put back after a while
	lineDrowned                      // noise in which nothing of the MCU's is understood
)

// troubleAt is when trouble begins, unless the image is smaller than twice that.
const troubleAt = 16 << 10

// faults returns the failure cases in the order in which they are listed: the
// simulated MCU's, then those of the line. The line's trouble begins in the
// middle of a load, when there is something to lose. The last two are faults
// that a bridge overcomes.
func faults() []fault {
	var all []fault
	for _, name := range []string{"reject-too-large", "reject-already", "checksum", "no-boot", "silent"} {
		c, err := sim.FaultByName(name)
		if err != nil {
			continue // not reached: a test holds the names against the simulator's
		}
		all = append(all, fault{name: name, injected: c.What, mcu: c})
	}
	return append(all,
		fault{name: "unplug", at: troubleAt, trouble: cablePulled,
			injected: fmt.Sprintf("somebody pulls the serial cable when %d bytes are loaded, and leaves it off", troubleAt)},
		fault{name: "crc-noise", at: troubleAt, trouble: lineDrowned,
			injected: fmt.Sprintf("when %d bytes are loaded, noise sets in on the serial line and every frame of the host MCU arrives damaged", troubleAt)},
		fault{name: "replug", at: troubleAt, trouble: cableReplaced,
			injected: fmt.Sprintf("somebody pulls the serial cable when %d bytes are loaded, and puts it back a moment later (the bridge overcomes it)", troubleAt)},
		// About one full frame in 25 arrives damaged.
		fault{name: "mild-noise", noise: sim.LineFaults{BitErrorRate: 2e-5},
			injected: "noise flips a bit here and there on the serial line, so that some frames arrive damaged (the bridge overcomes it)"})
}

// drowning is the noise of lineDrowned: what the bridge sends mostly arrives,
// and nothing of the answers does.
func drowning() (toMCU, fromMCU sim.LineFaults) {
	return sim.LineFaults{BitErrorRate: 1e-4}, sim.LineFaults{BitErrorRate: 0.2}
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
func FaultNames() string {
	var names []string
	for _, f := range faults() {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// DescribeFaults lists the failure cases with what they do, a line each.
func DescribeFaults() string {
	var b strings.Builder
	for _, f := range faults() {
		fmt.Fprintf(&b, "  %-18s%s\n", f.name, f.injected)
	}
	return strings.TrimRight(b.String(), "\n")
}
