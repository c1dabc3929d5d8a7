package schemas

import "slices"

// Cause says why an execution ended other than in success. The list is fixed,
// so that limits can be set per cause and metrics stay bounded.
type Cause string

// The causes of the contract.
const (
	// CauseNone stands with success and with executions still in progress.
	CauseNone Cause = ""
	// CauseNetwork: the image could not be fetched from the service.
	CauseNetwork Cause = "network"
	// CauseSerial: the line to the host MCU failed (unplugged, no acks, noise).
	CauseSerial Cause = "serial"
	// CauseSize: the image does not fit the host MCU.
	CauseSize Cause = "size"
	// CauseFlash: the host MCU could not erase or write its flash.
	CauseFlash Cause = "flash"
	// CauseChecksum: CRC or hash of the image did not agree.
	CauseChecksum Cause = "checksum"
	// CauseSignature: the image's signature was not accepted.
	CauseSignature Cause = "signature"
	// CauseBoot: the host MCU did not boot the image, or fell back to the old one.
	CauseBoot Cause = "boot"
	// CauseAlready: the host MCU says that it runs the image already, and its
	// reported version does not bear that out.
	CauseAlready Cause = "already"
	// CauseMinVersion: the running version is not the image's min version.
	CauseMinVersion Cause = "min_version"
	// CauseRejected: the host MCU refused the offer for another reason.
	CauseRejected Cause = "rejected"
	// CauseTimeout: the host MCU or the module was silent past a time limit.
	CauseTimeout Cause = "timeout"
	// CauseProtocol: the peer broke the wire protocol.
	CauseProtocol Cause = "protocol"
	// CauseStorage: the module could not store the image.
	CauseStorage Cause = "storage"
	// CauseCanceled: an operator canceled the job or the execution.
	CauseCanceled Cause = "canceled"
	// CauseDeferred: the device puts the update off and wants to be asked again,
	// which is for an offer that lets it (ActionSoft, ActionConfirm).
	CauseDeferred Cause = "deferred"
	// CauseInternal: a fault of the module's or the service's own.
	CauseInternal Cause = "internal"
)

var causes = []Cause{
	CauseNetwork, CauseSerial, CauseSize, CauseFlash, CauseChecksum, CauseSignature, CauseBoot, CauseAlready,
	CauseMinVersion, CauseRejected, CauseTimeout, CauseProtocol, CauseStorage, CauseCanceled, CauseDeferred, CauseInternal,
}

// Causes lists every cause other than CauseNone.
func Causes() []Cause { return slices.Clone(causes) }

// Valid says whether c is a cause of the contract or CauseNone.
func (c Cause) Valid() bool { return c == CauseNone || slices.Contains(causes, c) }

// LwM2MResult is the value of resource /5/0/5 (Update Result) of the OMA LwM2M
// Firmware Update object that is nearest to an execution's end (OMA LightweightM2M
// Core 1.2, E.6): 0 while it is in progress, 1 for success.
func LwM2MResult(s State, c Cause) int {
	if s == StateSucceeded {
		return 1
	}
	if !s.Final() {
		return 0
	}
	switch c {
	case CauseSize, CauseStorage:
		return 2 // not enough flash memory
	case CauseNetwork:
		return 4 // connection lost during the download
	case CauseChecksum, CauseSignature:
		return 5 // integrity check failure
	case CauseAlready, CauseMinVersion, CauseRejected:
		return 6 // unsupported package
	case CauseCanceled:
		return 10 // update canceled
	case CauseDeferred:
		return 11 // update deferred
	}
	return 8 // firmware update failed
}
