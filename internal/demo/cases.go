package demo

import (
	"fmt"
	"strings"

	"davit/internal/sim"
	"davit/orchestrator"
)

// fault is one thing that the demo can make go wrong on a device.
type fault struct {
	name     string
	injected string // half a sentence
	// afero is the half sentence for the afero wire, if that needs another.
	afero string
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
		all = append(all, fault{name: name, injected: c.What, afero: aferoWords(name), mcu: c})
	}
	return append(all,
		fault{name: "unplug", at: troubleAt, trouble: cablePulled,
			injected: fmt.Sprintf("somebody pulls the serial cable when %d bytes are loaded, and leaves it off", troubleAt)},
		fault{name: "crc-noise", at: troubleAt, trouble: lineDrowned,
			injected: fmt.Sprintf("when %d bytes are loaded, noise sets in on the serial line and every frame of the host MCU arrives damaged", troubleAt),
			afero:    fmt.Sprintf("when %d bytes are loaded, noise sets in on the serial line and whatever the host MCU sends arrives damaged", troubleAt)},
		fault{name: "replug", at: troubleAt, trouble: cableReplaced,
			injected: fmt.Sprintf("somebody pulls the serial cable when %d bytes are loaded, and puts it back a moment later (the bridge overcomes it)", troubleAt)},
		// About one full frame in 25 arrives damaged, or one answer to a chunk in 150.
		fault{name: "mild-noise", noise: sim.LineFaults{BitErrorRate: 2e-5},
			injected: "noise flips a bit here and there on the serial line, so that some frames arrive damaged (the bridge overcomes it)",
			afero:    "noise flips a bit here and there in what the host MCU sends (the bridge overcomes it)"})
}

// aferoWords is what happens on the afero wire where the simulated MCU's fault
// shows in another way there.
func aferoWords(name string) string {
	switch name {
	case "reject-too-large":
		return "the host MCU refuses an image that is too large for it; its protocol has no code for the reason"
	case "reject-already":
		return "the host MCU refuses the image as if it ran this version already; its protocol has no code for the reason"
	case "checksum":
		return "the host MCU says another SHA-256 than the image's, however often the image is sent"
	case "silent":
		return "the host MCU takes every message and never answers an offer"
	}
	return ""
}

// in is what is injected, as half a sentence that is true of the dialect.
func (f fault) in(dialect string) string {
	if dialect == orchestrator.DialectAfero && f.afero != "" {
		return f.afero
	}
	return f.injected
}

// noiseIn is the noise that is on a line of the dialect from the start. A chunk of
// the afero wire has no checksum: what noise does to it shows in the SHA-256 at the
// end, and an image of some size would never get through.
func (f fault) noiseIn(dialect string) (toMCU, fromMCU sim.LineFaults) {
	if dialect == orchestrator.DialectAfero {
		return sim.LineFaults{}, f.noise
	}
	return f.noise, f.noise
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

// DescribeFaults lists the failure cases with what they do, a line each, and
// another where that is something else in the afero dialect.
func DescribeFaults() string {
	var b strings.Builder
	for _, f := range faults() {
		fmt.Fprintf(&b, "  %-18s%s\n", f.name, f.injected)
		if f.afero != "" {
			fmt.Fprintf(&b, "  %-18safero: %s\n", "", f.afero)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
