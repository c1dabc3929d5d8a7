package web

import "davit/schemas"

// causeHelp is what a cause means and what to do about it, for people who look
// at a failed device.
type causeHelp struct {
	Title  string
	Means  string
	Advice string
}

// causeOf explains a cause; one that is not known is shown as it is.
func causeOf(c schemas.Cause) causeHelp {
	if t, ok := hostCause(c); ok {
		return t
	}
	if t, ok := moduleCause(c); ok {
		return t
	}
	return causeHelp{Title: string(c), Means: "This version of the console does not know the cause.", Advice: "Look at the message and the code."}
}

// hostCause explains causes in the host MCU and on the line to it.
func hostCause(c schemas.Cause) (causeHelp, bool) {
	switch c {
	case schemas.CauseSerial:
		return causeHelp{"Serial line failed",
			"The line between module and host MCU failed: it was unplugged, nothing was acknowledged, or there was too much noise.",
			"Check cable, connector and speed of the port, then retry. The bridge's metrics count damaged and repeated frames."}, true
	case schemas.CauseSize:
		return causeHelp{"Image too large",
			"The host MCU has no room for an image of this size.",
			"Build a smaller image. A size limit in the device type refuses such an image before any device hears of it."}, true
	case schemas.CauseFlash:
		return causeHelp{"Flash not written",
			"The host MCU could not erase or write its flash.",
			"Retry once. If the same device fails again, its flash is worn out and the device should be replaced."}, true
	case schemas.CauseChecksum:
		return causeHelp{"Checksum did not agree",
			"The host MCU computed another checksum than the image carries. The bytes that left the module were right: their SHA-256 was verified first.",
			"If one device fails, suspect its memory and retry. If all fail, the image was built with a wrong checksum: build it anew and try it in the lab first."}, true
	case schemas.CauseSignature:
		return causeHelp{"Signature not accepted",
			"The image's signature was not accepted: by the service, where the device type requires one, by the bridge, or by the host MCU. The detail says by whom, and why.",
			"Sign the image with the keys that this product trusts and attach the manifest, or upload the image again."}, true
	case schemas.CauseBoot:
		return causeHelp{"Did not boot",
			"The host MCU did not boot the new image, or fell back to the old one. It runs its old firmware.",
			"Pause the job: an image that passes its checksum and does not start is a fault of the image or of its fit to this hardware."}, true
	case schemas.CauseAlready:
		return causeHelp{"Said to be installed already",
			"The host MCU says that it runs this version already, but the version that it reports is another one.",
			"Compare the version that was typed for the image with the one built into it; they have to be the same."}, true
	case schemas.CauseRejected:
		return causeHelp{"Refused by the host MCU",
			"The host MCU refused the offer.",
			"The code says why, if the protocol has codes; the product's documentation says what it means. Otherwise compare size and version with what the device runs."}, true
	case schemas.CauseTimeout:
		return causeHelp{"No answer in time",
			"The host MCU, or the module, was silent for longer than the device type allows.",
			"See whether the product has power and its host MCU runs, then retry. If it is only slow, raise the limit in its device type."}, true
	case schemas.CauseProtocol:
		return causeHelp{"Protocol broken",
			"The host MCU sent what the protocol of the line does not allow.",
			"Check that the device type names the right dialect, and look for damaged frames in the bridge's metrics."}, true
	}
	return causeHelp{}, false
}

// moduleCause explains causes on this side of the serial line.
func moduleCause(c schemas.Cause) (causeHelp, bool) {
	switch c {
	case schemas.CauseNetwork:
		return causeHelp{"Download failed",
			"The module could not fetch the image from the service.",
			"Look at the module's connection, then retry: what has been fetched is kept."}, true
	case schemas.CauseMinVersion:
		return causeHelp{"Needs another version first",
			"The image may only be installed over one exact version, and the host MCU runs another.",
			"Bring the device to that version first, or create a job that ignores validation."}, true
	case schemas.CauseStorage:
		return causeHelp{"Module's storage is full",
			"The module could not store the image.",
			"Free space in the bridge's data folder, then retry."}, true
	case schemas.CauseCanceled:
		return causeHelp{"Canceled",
			"Somebody canceled the job before the device had ended.",
			"Nothing is wrong. Create a new job if the device is to be updated after all."}, true
	case schemas.CauseDeferred:
		return causeHelp{"Put off by the device",
			"The product was busy, or nobody had agreed to the update yet, and it may not be put off any longer.",
			"Nothing is broken. Retry at a time at which the product is idle, or allow more time to put it off."}, true
	case schemas.CauseInternal:
		return causeHelp{"Internal error",
			"The module or the service failed by a fault of its own.",
			"Read the log around the time of the end and report it as a defect of davit."}, true
	}
	return causeHelp{}, false
}
