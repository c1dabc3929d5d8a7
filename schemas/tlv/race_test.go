//go:build race

package tlv

const raceDetector = true
