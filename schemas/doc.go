// Package schemas is the contract between the service, the modules and the
// bridges: device ids, MQTT topics, JSON payloads, the binary chunk header,
// execution states and failure causes (version 1).
//
// Everything here is a value with a strict Validate; decoding refuses what a
// conforming sender cannot have produced. The package owns no I/O, no clock and
// no logging, and imports no other package of this module, so that a module
// author can read it (or asyncapi.yaml beside it) as the specification.
package schemas

// Version is the contract version: it stands in every topic, in every JSON
// payload as "v" and in the first byte of every chunk.
const Version = 1
