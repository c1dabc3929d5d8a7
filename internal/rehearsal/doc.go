// Package rehearsal plays a job against a modelled fleet in virtual time: the
// service with its rules as it is, on a store in memory and with a clock that jumps
// from one event to the next, and devices that are a few numbers each. It owns the
// model of the fleet, the queue of events and what is told of a play: the curve, the
// waves and the log.
//
// It knows no command line, no network and no wall clock, and starts no goroutine:
// everything happens in the caller's, one event after the other. Chance is drawn
// from the fleet's seed, by device, so that a play is the same each time, and a device
// has the same luck under another plan.
package rehearsal
