package demo

import (
	"errors"

	"davit/internal/sim"
	"davit/schemas/afpro"
	"davit/schemas/tlv"
)

// What a byte takes on the line in bits.
const (
	aylaBits  = 11 // start, eight data bits, odd parity, stop
	aferoBits = 10 // start, eight data bits, stop
)

// aylaCeiling is the highest goodput in B/s that a line of baud bit/s allows for
// this image: every piece of it as the frame that carries it, stuffing and
// flags included, with nothing between the frames and acknowledgements that
// cost nothing (docs/wire.md section 6).
func aylaCeiling(image []byte, baud int) (float64, error) {
	loads, _ := sim.LoadBytes(image)
	pieces := (len(image) + tlv.MaxLoad - 1) / tlv.MaxLoad
	return goodput(len(image), (loads-pieces)*aylaBits, baud) // the flag between two frames is one
}

// aferoCeiling is that of the afero wire, where one side speaks at a time: both
// transactions of each chunk, the one that brings it and the one in which the MCU
// says where to go on, sync messages and ready bytes included, one behind the
// other with nothing between them (docs/afero-wire.md section 6).
func aferoCeiling(image []byte, baud int) (float64, error) {
	const (
		syncs  = 3 * afpro.SyncSize               // Request, Response, Acknowledge
		bring  = syncs + 4 + afpro.UpdateOverhead // with the ready bytes where the module speaks
		answer = syncs + 3 + afpro.UpdateOverhead // and those where the MCU does
		offset = 2 + 4                            // in both: the tunnelled attribute, and the offset
	)
	wire := 0
	for off, chunk := 0, afpro.ChunkSize(afpro.DefaultAttributeSize); off < len(image); off += chunk {
		wire += bring + offset + min(chunk, len(image)-off) + answer + offset
	}
	return goodput(len(image), wire*aferoBits, baud)
}

// goodput is what moves in a second, in bytes of an image that takes so many
// bits on a line of baud bit/s.
func goodput(image, bits, baud int) (float64, error) {
	if bits == 0 {
		return 0, errors.New("an image of no bytes has no goodput")
	}
	return float64(image) / (float64(bits) / float64(baud)), nil
}
