package schemas

import (
	"encoding/hex"
	"strings"
)

// The names under which a message of the contract carries the trace that it
// belongs to: MQTT 5 user properties, and the header fields of HTTP (W3C Trace
// Context, sections 3.2 and 3.3). Nothing in the contract needs them.
const (
	TraceparentProperty = "traceparent"
	TracestateProperty  = "tracestate"
	// MaxTracestate is the longest tracestate that is kept, in bytes (W3C Trace
	// Context, section 3.3.1.5).
	MaxTracestate = 512
)

// TraceContext names a span of a trace (W3C Trace Context, section 3.2.2). Its
// zero value names none.
type TraceContext struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
}

// Valid says whether it names a span: neither id may be zero.
func (c TraceContext) Valid() bool { return c.Trace != [16]byte{} && c.Span != [8]byte{} }

// TraceID is the trace's id as it is written: 32 hexadecimal digits.
func (c TraceContext) TraceID() string { return hex.EncodeToString(c.Trace[:]) }

// Traceparent is the header field's value, version 00; empty if c names no span.
func (c TraceContext) Traceparent() string {
	if !c.Valid() {
		return ""
	}
	flags := "-00"
	if c.Sampled {
		flags = "-01"
	}
	return "00-" + hex.EncodeToString(c.Trace[:]) + "-" + hex.EncodeToString(c.Span[:]) + flags
}

// ParseTraceparent reads a header field's value. What is malformed is no context,
// and is to be ignored (W3C Trace Context, section 3.2.2.1): ok is false then. A
// version that is not known yet is read as far as version 00 goes (section 4.3).
func ParseTraceparent(s string) (c TraceContext, ok bool) {
	const length = 55 // of version 00
	if len(s) < length || len(s) > MaxTracestate || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.ToLower(s) != s {
		return c, false
	}
	version, err := hex.DecodeString(s[:2])
	if err != nil || version[0] == 0xff || version[0] == 0 && len(s) != length || len(s) > length && s[length] != '-' {
		return c, false
	}
	flags, err := hex.DecodeString(s[53:55])
	if err != nil {
		return c, false
	}
	if _, err := hex.Decode(c.Trace[:], []byte(s[3:35])); err != nil {
		return TraceContext{}, false
	}
	if _, err := hex.Decode(c.Span[:], []byte(s[36:52])); err != nil {
		return TraceContext{}, false
	}
	if !c.Valid() {
		return TraceContext{}, false
	}
	c.Sampled = flags[0]&1 == 1
	return c, true
}

// TraceHeader is a trace context as messages carry it, and as a device keeps it with the
// offer that it came with.
type TraceHeader struct {
	Parent string `json:"traceparent"`
	State  string `json:"tracestate,omitempty"`
}

// ReadTraceHeader takes what a message carries; nil if it carries none, or one that is
// not well-formed. A tracestate that is too long is left out.
func ReadTraceHeader(parent, state string) *TraceHeader {
	if _, ok := ParseTraceparent(parent); !ok {
		return nil
	}
	if len(state) > MaxTracestate {
		state = ""
	}
	return &TraceHeader{parent, state}
}
