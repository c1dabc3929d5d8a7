// Package afpro is the codec of the wire between an Afero-style module (the ASR)
// and a host MCU that is built on afLib: ready bytes and sync messages of the
// afPro UART transport, attribute messages, and the attributes of MCU OTA that
// are tunnelled through them. docs/afero-wire.md holds the facts; comments cite its
// sections. Multi-byte integers of this wire are little-endian.
//
// The package is a leaf: bytes in, values out. It opens no port, reads no clock,
// logs nothing and imports no other package of this module. Nothing in it is
// safe for concurrent use: a Scanner belongs to the goroutine that drives its
// line. In steady state neither direction allocates.
package afpro
