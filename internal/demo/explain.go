package demo

import (
	"fmt"
	"maps"
	"strings"

	"davit/orchestrator"
	"davit/schemas"
)

// meaning is what a cause stands for and what an operator does about it.
type meaning struct {
	means  string
	advice string
}

// meanings returns the text for each cause of the contract, as it is true of a
// dialect.
func meanings(dialect string) map[schemas.Cause]meaning {
	all := hostMeanings()
	if dialect == orchestrator.DialectAfero {
		maps.Copy(all, aferoMeanings())
	}
	maps.Copy(all, serviceMeanings())
	return all
}

// serviceMeanings are those of causes on this side of the serial line.
func serviceMeanings() map[schemas.Cause]meaning {
	return map[schemas.Cause]meaning{
		schemas.CauseNetwork: {
			"the module could not fetch the image from the service",
			"Look at the module's connection to the broker, then create a new job for the device: what has been fetched is kept.",
		},
		schemas.CauseMinVersion: {
			"the image may only be installed over one exact version, and the host MCU runs another",
			"Bring the device to that version first, or create the job with --ignore-validation.",
		},
		schemas.CauseStorage: {
			"the module could not store the image",
			"Free space in the bridge's data folder, then create a new job.",
		},
		schemas.CauseCanceled: {
			"an operator withdrew the execution",
			"Nothing: create a new job when the device should be updated after all.",
		},
		schemas.CauseDeferred: {
			"the product was busy, or nobody had agreed to the update yet, and it may not be put off any longer",
			"Nothing is broken: try again at a time at which the product is idle, or allow more time to put it off.",
		},
		schemas.CauseInternal: {
			"the module or the service failed by a fault of its own",
			"Read the log around the time of the end and report it as a defect of davit.",
		},
	}
}

// hostMeanings are those of causes on the serial line and in the host MCU.
func hostMeanings() map[schemas.Cause]meaning {
	return map[schemas.Cause]meaning{
		schemas.CauseSerial: {
			"the line between module and host MCU failed: unplugged, no acknowledgements, or too much noise",
			"Check cable, connector and speed of the port; the bridge's metrics count frames that were sent again or came in damaged. Then create a new job.",
		},
		schemas.CauseSize: {
			"the host MCU has no room for an image of this size",
			"Build a smaller image. To have such an upload refused before any device hears of it, give the device type a limit: davit device-type create ID --image-type TYPE,limit=BYTES.",
		},
		schemas.CauseFlash: {
			"the host MCU could not erase or write its flash",
			"Try once more; if it fails again on the same device only, its flash is worn out and the device should be replaced.",
		},
		schemas.CauseChecksum: {
			"the host MCU computed another CRC over the image than the image says; the bytes that left the module were right, their SHA-256 was verified before the first of them was sent",
			"If one device fails, suspect its memory or flash and try again; if all do, the image was built with a wrong CRC: build it anew and try it in the lab first.",
		},
		schemas.CauseSignature: {
			"the image's signature was not accepted, by the service, the bridge or the host MCU",
			"Sign the image with the key that this product trusts.",
		},
		schemas.CauseBoot: {
			"the host MCU did not boot the new image, or fell back to the old one",
			"The device is safe, it runs its old firmware. Stop the rollout: an image that passes its CRC and does not start is a fault of the image or of its fit to this hardware.",
		},
		schemas.CauseAlready: {
			"the host MCU says that it runs this version already, but the version that it reports is another one",
			"Compare the version that the image was uploaded with and the one built into it; they have to be the same string.",
		},
		schemas.CauseRejected: {
			"the host MCU refused the offer",
			"The code says why; the product's documentation says what it means there.",
		},
		schemas.CauseTimeout: {
			"the host MCU did not answer within the time limit of its device type",
			"See whether the product has power and whether its host MCU runs; if it is only slow, raise the limit (davit device-type create ID --answer-timeout ...). A new job tries again.",
		},
		schemas.CauseProtocol: {
			"the host MCU broke the protocol of the line",
			"Look for the port's bad frames in the bridge's metrics; check that the device type names the right dialect.",
		},
	}
}

// aferoMeanings are those of hostMeanings that are others in the afero dialect: no
// code says why, and the SHA-256 is the only checksum of the image.
func aferoMeanings() map[schemas.Cause]meaning {
	return map[schemas.Cause]meaning{
		schemas.CauseChecksum: {
			"the host MCU computed another SHA-256 than the image's over what it received, each time that the image was sent; the bytes that left the module were right, their SHA-256 was verified before the first of them was sent",
			"If one device fails, suspect its memory or flash and try again; if all do, suspect how this firmware stores what it receives or computes the SHA-256, and try in the lab first.",
		},
		schemas.CauseBoot: {
			"the host MCU did not boot the new image, or fell back to the old one",
			"The device is safe, it runs its old firmware. Stop the rollout: an image that arrived whole and does not start is a fault of the image or of its fit to this hardware.",
		},
		schemas.CauseRejected: {
			"the host MCU refused the offer; it cannot say why in this protocol",
			"See whether the image fits its flash, whether its version id is above that of the running version (many refuse the same and lower ones), and whether the product was busy.",
		},
	}
}

// explain tells the story of one device in sentences: what was done to it,
// what came of it, what that means and what to do.
func (o outcome) explain() []string {
	var text []string
	add := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	if o.fault.name != "" {
		add("Injected on %s (--fail %s): %s.", o.device, o.fault.name, o.fault.in(o.dialect))
	}
	e := o.execution
	if e.State == schemas.StateSucceeded {
		if o.fault.name != "" {
			add("The update succeeded all the same: %s", o.recovery())
		}
		return text
	}
	if !e.State.Final() {
		add("The update of %s has not ended; it stands at %q with %d of %d bytes.", o.device, e.State, e.BytesDone, e.BytesTotal)
		return text
	}
	ended := fmt.Sprintf("The execution ended as %q", e.State)
	if e.Cause != schemas.CauseNone {
		ended += fmt.Sprintf(" with cause %q", e.Cause)
	}
	if e.Code != 0 {
		ended += fmt.Sprintf("; the MCU's error code is %s", errorCode(e.Code))
	}
	add("%s.", ended)
	if e.Detail != "" {
		add("Reported: %s.", strings.TrimRight(e.Detail, "."))
	}
	if m, ok := meanings(o.dialect)[e.Cause]; ok {
		add("Cause %q means: %s.", e.Cause, m.means)
		add("What an operator would do: %s", m.advice)
	}
	if o.after.version != "" {
		add("The host MCU runs %s.", o.after)
	}
	return text
}

// recovery says what it took to succeed on a line with faults.
func (o outcome) recovery() string {
	anew := "offered the image anew from its spool"
	dropped := times(o.line.bad, "frame was", "frames were") + " dropped by the bridge because the CRC did not agree"
	again := times(o.line.retried, "frame was", "frames were") + " sent again"
	if o.dialect == orchestrator.DialectAfero {
		anew += ", and the host MCU said where to go on"
		dropped = "the bridge passed over what meant nothing " + times(o.line.bad, "time", "times")
		again = times(o.line.retried, "message was", "messages were") + " sent again"
	}
	var parts []string
	if o.line.dropouts > 0 {
		parts = append(parts, fmt.Sprintf("the bridge lost the port %s, opened it again and %s", times(o.line.dropouts, "time", "times"), anew))
	}
	if o.line.flipped > 0 {
		parts = append(parts, fmt.Sprintf("%s arrived damaged", times(o.line.flipped, "byte", "bytes")))
	}
	if o.line.bad > 0 {
		parts = append(parts, dropped)
	}
	if o.line.retried > 0 {
		parts = append(parts, again)
	}
	if len(parts) == 0 {
		return "the fault cost nothing that was counted."
	}
	return strings.Join(parts, ", ") + "."
}

func times(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
