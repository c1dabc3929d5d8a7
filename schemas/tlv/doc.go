// Package tlv is the codec of the wire between a module and a host MCU (Ayla
// Module/MCU Interface): frames with stuffing and CRC, packets, TLVs, the
// opcodes and error codes of host OTA. docs/wire.md holds the facts; comments
// cite its sections.
//
// The package is a leaf: bytes in, values out. It opens no port, reads no clock,
// logs nothing and imports no other package of this module. Nothing in it is
// safe for concurrent use: a Decoder, Reader, Lollipop, Receiver or Assembler
// belongs to the goroutine that drives its line. In steady state neither
// direction allocates.
package tlv
