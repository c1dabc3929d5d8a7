package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"unicode/utf8"

	"davit/internal/logevent"
	"davit/internal/logonce"
	"davit/orchestrator"
	"davit/schemas"
)

// reason says why a message was refused; it is a metric label, so the list is
// fixed.
type reason string

const (
	reasonTopic         reason = "topic"          // not a topic of the contract
	reasonOversized     reason = "oversized"      // over Kind.MaxPayload
	reasonNotUTF8       reason = "not_utf8"       //
	reasonNotJSON       reason = "not_json"       // truncated, empty or no JSON at all
	reasonVersion       reason = "version"        // another contract version
	reasonUnknownField  reason = "unknown_field"  //
	reasonInvalid       reason = "invalid"        // well-formed, but not what a conforming device sends
	reasonFlood         reason = "flood"          // more fetches than are answered
	reasonUnknownDevice reason = "unknown_device" // the service has no such device
	reasonRefused       reason = "refused"        // the orchestrator did not grant it
	reasonInternal      reason = "internal"       // a fault of ours
)

// reasons lists every reason, so that all series exist from the start.
func reasons() []reason {
	return []reason{
		reasonTopic, reasonOversized, reasonNotUTF8, reasonNotJSON, reasonVersion, reasonUnknownField,
		reasonInvalid, reasonFlood, reasonUnknownDevice, reasonRefused, reasonInternal,
	}
}

// payloadReason classifies a payload that schemas.Decode refused with err.
func payloadReason(kind schemas.Kind, payload []byte, err error) reason {
	switch {
	case len(payload) > kind.MaxPayload():
		return reasonOversized
	case !utf8.Valid(payload):
		return reasonNotUTF8
	case !json.Valid(payload):
		return reasonNotJSON
	}
	var version struct {
		V *int `json:"v"`
	}
	if json.NewDecoder(bytes.NewReader(payload)).Decode(&version) == nil && (version.V == nil || *version.V != schemas.Version) {
		return reasonVersion
	}
	if strings.Contains(err.Error(), "unknown field") {
		return reasonUnknownField
	}
	return reasonInvalid
}

// orchestratorReason classifies an error of the orchestrator.
func orchestratorReason(err error) reason {
	switch {
	case errors.Is(err, orchestrator.ErrNotFound):
		return reasonUnknownDevice
	case errors.Is(err, orchestrator.ErrInvalid), errors.Is(err, orchestrator.ErrConflict):
		return reasonRefused
	}
	return reasonInternal
}

// refusalLog writes at most one line per device and minute.
type refusalLog struct {
	log *slog.Logger
	due logonce.Limit
}

// warn logs msg for device unless it did so within the last minute.
func (l *refusalLog) warn(event logevent.Event, device, msg string, args ...any) {
	if l.due.Allow(device) {
		l.log.Warn(msg, append([]any{"event", event, "device", device}, args...)...)
	}
}

// error is warn for faults of our own.
func (l *refusalLog) error(event logevent.Event, device, msg string, args ...any) {
	if l.due.Allow(device) {
		l.log.Error(msg, append([]any{"event", event, "device", device}, args...)...)
	}
}
