// Package logevent owns the vocabulary of davit's logs: the stable names of the
// events that records are about, the keys of their attributes, the parts whose
// level can be set on its own, and the handler that applies those levels while
// the process runs. docs/logs.md is made from it and from every log call of the
// tree; internal/arch fails on a call without an event, and on a key or a part
// that is not declared here. It knows nothing of what it names: it imports no
// other package of ours.
package logevent

import "log/slog"

// An Event says what a record is about. Its name is stable and dotted, and the
// value of the attribute KeyEvent. The comment of each constant is its row in
// docs/logs.md: what it means, and behind "To do:" what a person should do.
type Event string

// LogValue makes an event a plain string in every handler.
func (e Event) LogValue() slog.Value { return slog.StringValue(string(e)) }

// Attr is the event as an attribute, for records that are built by hand.
func (e Event) Attr() slog.Attr { return slog.String(KeyEvent, string(e)) }

// Execution is the event of an execution that has come to a state, which is one
// of schemas' states.
func Execution(state string) Event {
	switch state {
	case "queued":
		return ExecutionQueued
	case "offered":
		return ExecutionOffered
	case "accepted":
		return ExecutionAccepted
	case "downloading":
		return ExecutionDownloading
	case "downloaded":
		return ExecutionDownloaded
	case "installing":
		return ExecutionInstalling
	case "booting":
		return ExecutionBooting
	case "succeeded":
		return ExecutionSucceeded
	case "rejected":
		return ExecutionRejected
	case "failed":
		return ExecutionFailed
	case "timed_out":
		return ExecutionTimedOut
	case "canceled":
		return ExecutionCanceled
	}
	return Event("execution." + state)
}
