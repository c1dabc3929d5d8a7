// Package firmware reads the files that firmware comes in and makes of them the
// flat binary that a host MCU gets: raw binary as it is, and Intel HEX. Of a flat
// binary it reads what it says of itself, if it is an image for MCUboot, of ESP-IDF
// or of the reference boards.
//
// It is a leaf: it knows no images, jobs or stores and imports nothing of this
// module. It keeps no state and starts no goroutine; a call belongs to its
// caller's.
package firmware
