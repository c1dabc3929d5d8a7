package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

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
	reasonUnknownDevice reason = "unknown_device" // the service has no such device
	reasonRefused       reason = "refused"        // the orchestrator did not grant it
	reasonInternal      reason = "internal"       // a fault of ours
)

// reasons lists every reason, so that all series exist from the start.
func reasons() []reason {
	return []reason{
		reasonTopic, reasonOversized, reasonNotUTF8, reasonNotJSON, reasonVersion, reasonUnknownField,
		reasonInvalid, reasonUnknownDevice, reasonRefused, reasonInternal,
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

// Limits of refusalLog.
const (
	refusalLogEvery = time.Minute
	refusalLogMost  = 10_000 // devices remembered
)

// refusalLog writes at most one line per device and minute, and remembers a
// bounded number of devices: past that it stays silent, the metrics count on.
type refusalLog struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	last  map[string]time.Time
	swept time.Time
}

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log: log, now: time.Now, last: map[string]time.Time{}}
}

// warn logs msg for device unless it did so within the last minute.
func (l *refusalLog) warn(device, msg string, args ...any) {
	if l.admit(device) {
		l.log.Warn(msg, append([]any{"device", device}, args...)...)
	}
}

// error is warn for faults of our own.
func (l *refusalLog) error(device, msg string, args ...any) {
	if l.admit(device) {
		l.log.Error(msg, append([]any{"device", device}, args...)...)
	}
}

func (l *refusalLog) admit(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if t, ok := l.last[device]; ok && now.Sub(t) < refusalLogEvery {
		return false
	}
	// A sweep looks at every device, so there is one a minute at most.
	if len(l.last) >= refusalLogMost && now.Sub(l.swept) >= refusalLogEvery {
		l.swept = now
		for d, t := range l.last {
			if now.Sub(t) >= refusalLogEvery {
				delete(l.last, d)
			}
		}
	}
	if len(l.last) >= refusalLogMost {
		return false
	}
	l.last[device] = now
	return true
}
