// Package live listens to serial ports and tells what passes on them as it
// happens: one port for each direction of a line that is heard. It writes nothing
// to them. A port that is unplugged is waited for.
//
// Each port has a goroutine that opens and reads it; that of Run decodes, records
// and tells. What is waiting between them is bounded: where the one that is told
// does not keep up, the kernel drops bytes.
//
// The package imports bridge/sniff, bridge/recording, bridge/portname and
// bridge/serialport.
package live
