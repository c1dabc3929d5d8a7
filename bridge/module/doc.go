// Package module is the module's part of the MQTT contract as a library: for the program on a
// connectivity module, or behind one, that brings firmware to a host MCU.
//
// The contract is schemas/asyncapi.yaml. The library says presence and hello, takes offers,
// fetches and verifies the image, reports each state until the service has acknowledged
// it, and goes on after a lost connection or a restart where it was. What it needs is a
// connection (package bridge/mqtt has one over MQTT 5, which comes back when a busy service
// has asked it to; anything that satisfies mqtt.Transport will do, 3.1.1 included) and a Host:
//
//	Accept  says whether the host MCU takes what is offered; a Refusal says why not.
//	Slot    is where the bytes go: flash, a file. It is read back to verify the SHA-256.
//	Boot    loads the image into the host MCU and has it start.
//
// None of them is called with bytes of an image that is not whole and verified, but Slot's
// WriteAt. Boot's success is not the update's: that is the version which the host MCU
// reports, handed in with Report, and the only proof.
//
// A module that is to go on after a restart keeps what Config.Save is given and hands it back as
// Config.State. It is a few hundred bytes of JSON that say what is under way and which
// bytes the slot holds; a slot whose Sync returned without an error holds them.
//
// How much is awaited from the service at a time, and in chunks of what size, follows the
// path (package bridge/fetcher), up to Config.Window. With an offer that points to the
// image's shared stream the module listens there, and asks alone for what did not come.
//
// A trace context that came with an offer is carried by what the module says of that
// update, so that an update is one trace in the service's spans; nobody has to do anything
// for that, and without user properties (MQTT 5) nothing is carried.
//
// One goroutine (Run) owns all state. Accept and Boot are called on goroutines of their own,
// one at a time, and may take as long as they like; their context ends when the service
// takes the offer back, and with Run. The package imports schemas, bridge/fetcher, bridge/mqtt and
// bridge/rangeset only.
package module
