// Package demo runs the whole product in one process: the service on a
// temporary data folder, and three bridges, each on a real pseudo-terminal with
// a simulated host MCU at its other end, of one dialect or of both. It owns the
// scene (what is created and which fault is injected where), the live view and the
// closing explanation.
//
// It drives the service as an operator does, through the HTTP API, and starts
// the parts through internal/app; it must not import the broker, the gateway or
// a store. The goroutine that called Run owns all of its state; the view has a
// renderer of its own behind a lock.
package demo
