// Package sim plays the world that davit works in, so that it can be tested
// from outside: a serial line in software (Line) or behind a real
// pseudo-terminal (PTY), simulated host MCUs with flash, slots and a boot
// loader for each wire (MCU, AferoMCU; Host is what they share), demo images
// (BuildDemoImage), and a small foreign module that speaks the MQTT contract
// itself (Module).
//
// It knows the contract (schemas, schemas/tlv, schemas/afpro) and client
// libraries, and must never import broker, gateway, orchestrator or bridge: a
// simulator that shares code with what it tests would share its mistakes.
//
// A Line has no goroutine: its state is guarded by a mutex and worked out
// from the clock when an end reads or writes. An MCU's state belongs to the
// goroutine that runs its Run; what its accessors return is copied under a
// mutex. Everything but PTY and Module works in the virtual time of
// testing/synctest.
package sim
