// Package fleet simulates many devices at once: modules with real MQTT connections, and
// host MCUs that are only a matter of time. It is written from package schemas alone, so
// that it tests the service from outside, but for the fetcher of the bridge, which devices
// may use; what was fetched is checked byte by byte.
//
// A device that is connected and has nothing to do costs a goroutine, which waits for its
// socket, and a record of some hundred bytes. It has no timer and no buffer: one clock
// wakes all devices (clock.go), buffers are pooled (package mqtt), and an image is kept
// once for all (image.go).
//
// A device's record is behind its mutex. The goroutine of its connection calls it with what
// the broker sends, the clock's goroutine with what has come due; a lock is never held while
// either waits.
package fleet
