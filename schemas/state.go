package schemas

import "slices"

// State is where one execution stands. States only move forward; a report that
// would move one back changes nothing.
type State string

// The execution states in order; the last five are final.
const (
	// StateQueued: the job is started, the device has not been offered it yet.
	StateQueued State = "queued"
	// StateOffered: the retained offer stands at the broker.
	StateOffered State = "offered"
	// StateAccepted: the host MCU (or the module for it) took the offer.
	StateAccepted State = "accepted"
	// StateDownloading: the module fetches the image; bytes_done counts what it holds.
	StateDownloading State = "downloading"
	// StateDownloaded: the module holds the whole image and its SHA-256 agrees.
	StateDownloaded State = "downloaded"
	// StateInstalling: the MCU leg; bytes_done counts what the MCU acknowledged.
	StateInstalling State = "installing"
	// StateBooting: the MCU was told to boot the image; its version is awaited.
	StateBooting State = "booting"
	// StateSucceeded: the MCU reported the image's version.
	StateSucceeded State = "succeeded"
	// StateRejected: the MCU, or a rule of the job, refused the image.
	StateRejected State = "rejected"
	// StateFailed: an error ended the execution; the cause says which.
	StateFailed State = "failed"
	// StateTimedOut: a time limit ended the execution.
	StateTimedOut State = "timed_out"
	// StateCanceled: an operator withdrew the execution.
	StateCanceled State = "canceled"
)

var stateOrder = []State{
	StateQueued, StateOffered, StateAccepted, StateDownloading, StateDownloaded, StateInstalling, StateBooting,
	StateSucceeded, StateRejected, StateFailed, StateTimedOut, StateCanceled,
}

// States lists every state in order.
func States() []State { return slices.Clone(stateOrder) }

// Valid says whether s is a state of the contract.
func (s State) Valid() bool { return slices.Contains(stateOrder, s) }

// Final says whether an execution in s has ended.
func (s State) Final() bool {
	switch s {
	case StateSucceeded, StateRejected, StateFailed, StateTimedOut, StateCanceled:
		return true
	}
	return false
}

// Reportable says whether a device may report s; the others are the service's
// own to set.
func (s State) Reportable() bool {
	return s.Valid() && s != StateQueued && s != StateOffered
}

// Rank orders the states: a higher rank is further on. All final states share
// the highest rank, so none of them follows another. An unknown state has
// rank -1.
func (s State) Rank() int {
	if s.Final() {
		return slices.Index(stateOrder, StateSucceeded)
	}
	return slices.Index(stateOrder, s)
}
