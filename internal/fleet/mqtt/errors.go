package mqtt

import (
	"fmt"
	"time"
)

// RefusedError is a CONNECT that the server has refused.
type RefusedError struct {
	Version Version
	// Code is CONNACK's: a return code in 3.1.1, a reason code in 5.
	Code byte
	// Reason is what the server adds in words, if anything.
	Reason string
	// RetryAfter is the server's advice when to come back; 0 is none.
	RetryAfter time.Duration
}

// Busy says whether the same CONNECT may be accepted later: the server is busy, not
// available, or wants fewer connections a second.
func (e *RefusedError) Busy() bool {
	if e.Version == V311 {
		return e.Code == 3
	}
	switch e.Code {
	case 0x88, 0x89, 0x97, 0x9f: // unavailable, busy, quota exceeded, connection rate exceeded
		return true
	}
	return false
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the broker refused the connection: %s", inWords(e.Version, e.Code, e.Reason))
}

// DisconnectedError is a connection that the server has ended with a DISCONNECT.
type DisconnectedError struct {
	Code       byte
	Reason     string
	RetryAfter time.Duration // the server's advice when to come back; 0 is none
}

// Error implements error.
func (e *DisconnectedError) Error() string {
	return fmt.Sprintf("the broker ended the connection: %s", inWords(V5, e.Code, e.Reason))
}

var returnCodes = map[byte]string{
	1: "unacceptable protocol version", 2: "client id rejected", 3: "server unavailable",
	4: "bad user name or password", 5: "not authorized",
}

var reasonCodes = map[byte]string{
	0x00: "normal", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x84: "unsupported protocol version",
	0x85: "client id not valid", 0x86: "bad user name or password", 0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy",
	0x8a: "banned", 0x8b: "server shutting down", 0x8d: "keep alive timeout", 0x8e: "session taken over", 0x93: "receive maximum exceeded",
	0x95: "packet too large", 0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action", 0x9f: "connection rate exceeded",
}

func inWords(v Version, code byte, reason string) string {
	names := reasonCodes
	if v == V311 {
		names = returnCodes
	}
	text := fmt.Sprintf("code %#02x", code)
	if name := names[code]; name != "" {
		text = fmt.Sprintf("%s (%s)", name, text)
	}
	if reason != "" {
		text += fmt.Sprintf(", %q", reason)
	}
	return text
}
