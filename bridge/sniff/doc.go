// Package sniff puts what passes on a serial line into words, for both dialects:
// one Packet for each thing that was said, good or bad. Text that comes from the
// line is quoted, so that what is printed holds no control characters.
//
// The package imports schemas and bridge/recording, never a dialect: it listens to
// what dialects say and has no part in it. It starts no goroutine; a Decoder
// belongs to the goroutine that calls it.
package sniff
