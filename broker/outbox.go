package broker

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/mochi-mqtt/server/v2/packets"
)

// outbox is what waits to be written to one client: encoded packets in order,
// and the QoS 1 messages that the client's Receive Maximum does not let out
// yet. It does no I/O; the conn's mutex guards it.
//
// It exists because mochi's own accounting cannot be used: it never gives back
// quota for messages that waited, deadlocks while it looks for the next one,
// and keeps the packet ids of both directions in one map.
type outbox struct {
	ready  []byte   // encoded, in order
	held   [][]byte // QoS 1 messages, oldest first, waiting for the window
	heldN  int      // bytes in held
	window int      // how many may be unacknowledged
	lastID uint16
	// unacked holds the packet ids that the client has not acknowledged.
	unacked map[uint16]struct{}
}

// size is how many bytes wait.
func (o *outbox) size() int { return len(o.ready) + o.heldN }

// push adds one encoded packet, which is copied. A QoS 1 PUBLISH gets its
// packet id here.
func (o *outbox) push(p []byte) {
	at, ok := publishIDOffset(p)
	switch {
	case !ok:
		o.ready = append(o.ready, p...)
	case len(o.held) > 0 || len(o.unacked) >= o.window:
		o.held = append(o.held, bytes.Clone(p))
		o.heldN += len(p)
	default:
		o.release(p, at)
	}
}

// release puts a QoS 1 message into ready under a packet id that is free.
func (o *outbox) release(p []byte, at int) {
	if o.unacked == nil {
		o.unacked = make(map[uint16]struct{})
	}
	id := o.lastID
	for {
		id++
		if _, taken := o.unacked[id]; id != 0 && !taken {
			break // there is a free one: the window is below 65,535
		}
	}
	o.lastID = id
	o.unacked[id] = struct{}{}
	start := len(o.ready)
	o.ready = append(o.ready, p...)
	binary.BigEndian.PutUint16(o.ready[start+at:], id)
}

// acked takes a PUBACK. It returns whether messages became ready.
func (o *outbox) acked(id uint16) bool {
	if _, ok := o.unacked[id]; !ok {
		return false
	}
	delete(o.unacked, id)
	released := false
	for len(o.held) > 0 && len(o.unacked) < o.window {
		p := o.held[0]
		o.held[0] = nil
		o.held = o.held[1:]
		o.heldN -= len(p)
		at, _ := publishIDOffset(p)
		o.release(p, at)
		released = true
	}
	if len(o.held) == 0 {
		o.held = nil
	}
	return released
}

// publishIDOffset finds the packet id in an encoded QoS 1 PUBLISH (MQTT 3.1.1
// and 5, 3.3.2); ok is false for every other packet.
func publishIDOffset(p []byte) (at int, ok bool) {
	if len(p) < 2 || p[0]>>4 != packets.Publish || p[0]>>1&3 == 0 {
		return 0, false
	}
	at = 1
	for at < len(p) && p[at]&0x80 != 0 {
		at++
	}
	at++ // now at the topic's length
	if at+2 > len(p) {
		return 0, false
	}
	at += 2 + int(binary.BigEndian.Uint16(p[at:]))
	return at, at+2 <= len(p)
}

// windowFor combines our limit with the Receive Maximum of the client's
// CONNECT; 0 is its default, 65,535 (MQTT 5, 3.1.2.11.3).
func windowFor(limit int, receiveMaximum uint16) int {
	if receiveMaximum == 0 {
		receiveMaximum = math.MaxUint16
	}
	return min(limit, int(receiveMaximum), math.MaxUint16-1)
}
