// Package dialect defines what a protocol family has to provide so that the
// bridge can update host MCUs that speak it. A dialect is a codec and a state
// machine for one serial line; image spool, durable session, MQTT reports and
// policy are the bridge's and shared by every dialect.
//
// The package imports only schemas. A session owns its line; all calls of its
// Events and of an update's Reporter come from the goroutine that runs
// Session.Run.
package dialect

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"davit/schemas"
)

// Dialect is one protocol family. It holds no state of any line.
type Dialect interface {
	// Name is what device types and hello payloads call it, for example "ayla".
	Name() string
	// VersionProperty is the property that a session asks an MCU for when it is
	// told of none, "" if the family has no usual one.
	VersionProperty() string
	// Line is how the family's ports are set unless configured otherwise.
	Line() LineSettings
	// NewSession prepares a session on an open line. Nothing is read or
	// written before its Run. The session closes the line when Run returns:
	// that is what ends a Read or Write which waits for the peer.
	NewSession(line io.ReadWriteCloser, cfg Config, events Events) Session
}

// LineSettings are the settings of a serial port.
type LineSettings struct {
	Baud   int
	Parity Parity
	RTSCTS bool
}

// Parity of a serial port.
type Parity string

// The parities.
const (
	ParityNone Parity = "none"
	ParityOdd  Parity = "odd"
	ParityEven Parity = "even"
)

// Config is what a session needs to know beside the update itself.
type Config struct {
	// Baud is the line's speed in bit/s; timers start from it.
	Baud int
	// VersionProperties are the host MCU's properties to ask for when it
	// appears, beside the one that an Update names; none means the family's
	// usual one.
	VersionProperties []string
	// OfferInterval is how long after an unanswered offer it is repeated; 0
	// means the family's default.
	OfferInterval time.Duration
	// AttributeSize is the size in bytes of the attribute that carries the image,
	// in families that have one; 0 leaves it to the update.
	AttributeSize int
	// LoadSize is how many bytes of the image go into one piece at most, in
	// families that leave that to the module; 0 means as many as the family allows.
	LoadSize int
}

// ErrHeldBack is why a session ends whose line takes no bytes any more.
var ErrHeldBack = errors.New("the line has taken nothing (the host MCU holds RTS low, or the adapter is stuck)")

// Session drives one open line until it dies.
type Session interface {
	// Run talks to the host MCU until ctx ends (it then returns nil) or the
	// line fails (it returns an error, which wraps ErrHeldBack if the line took
	// nothing for too long). A bad frame is not a failure. When ctx ends, what is
	// being written is written to its end, unless the line takes it much more
	// slowly than it could. Run closes the line and leaves no goroutine behind.
	Run(ctx context.Context) error
	// Start asks for an update from another goroutine. It replaces the one
	// under way, which then ends without a further event.
	Start(u Update)
	// Cancel drops the update under way, if any, without a further event.
	Cancel()
}

// Update is one MCU leg to be carried out, from the offer to the version
// report.
type Update struct {
	Version string
	// VersionID and NumericType stand for version and image type in families that
	// know these by numbers, AttributeSize is the size in bytes of the attribute
	// that carries the image there; 0 means none, or the family's default.
	VersionID     uint64
	NumericType   int
	AttributeSize int
	Size          uint64
	// SHA256 of the image.
	SHA256 [sha256.Size]byte
	// Reporter receives what happens to this update and to no other.
	Reporter Reporter
	// Image is the verified image; it is read only after Ready is closed.
	Image io.ReaderAt
	// Ready is closed when the load may begin: the whole image is there and verified, or
	// enough of one that is verified block by block.
	Ready <-chan struct{}
	// Arrives returns nil if Image can be read from offset on for length bytes, or a channel
	// that is closed when it is worth asking again: the rest of the image is arriving yet. A
	// load waits for it meanwhile. nil means that the whole image is there once Ready is
	// closed.
	Arrives func(offset, length uint64) <-chan struct{}
	// Force offers the image even if the MCU reports this version already.
	Force bool
	// ResumeAt tells what an earlier session had reached: StateBooting means
	// that the MCU may have booted the image already, so its version is asked
	// for before anything is offered. Any other state starts with an offer.
	ResumeAt schemas.State
	// Loaded is how many bytes the MCU had acknowledged in an earlier session, as
	// far as that is known: a hint where to go on, in families whose MCUs keep
	// what they have.
	Loaded uint64
	// Before is, with ResumeAt StateBooting, the version that the MCU reported
	// before it was first told to boot, "" if that is not known. A version that
	// was there before proves nothing.
	Before string
	// VersionProperty is the property whose report is the proof.
	VersionProperty string
	// Limits; the zero value of each means the family's default.
	AnswerTimeout  time.Duration // all offers unanswered
	VerdictTimeout time.Duration // after the last piece
	BootTimeout    time.Duration // after boot was asked for, until the MCU is back
	VersionTimeout time.Duration // after the MCU is back, until it reports its version
}

// Events receives what happens on a line, whatever update is under way.
type Events interface {
	// Version says that the MCU reported a version property.
	Version(property, version string)
	// Restarted says that the MCU has restarted, or was silent for so long that
	// it may have: what it reported before does not count any more. It is asked again.
	Restarted()
	// Counted adds to the line's counters.
	Counted(c Counter, n int)
}

// Reporter receives what happens to one update. An update that was replaced or
// canceled may report for a moment longer, which is why each has its own.
type Reporter interface {
	// State says that the update moved to a state that is not final:
	// accepted, installing (with the bytes that the MCU acknowledged) or
	// booting. It may be called again with more bytes, and goes back when the
	// MCU has to be offered the image again. When State(booting) returns nil,
	// the state survives a crash: only then is the MCU told to boot. An error
	// ends the update as failed for want of storage.
	State(s schemas.State, bytesDone uint64) error
	// Ended says that the update ended. It is the last report.
	Ended(r Result)
}

// Result is the end of an MCU leg.
type Result struct {
	State       schemas.State // a final state
	Cause       schemas.Cause
	Code        int    // the MCU's own code, 0 for none
	Detail      string // a sentence for a person
	HostVersion string // what the MCU reported last in this update, if anything
	// Busy says of a rejected update that the MCU may take it later: it said that
	// it is busy. Unexplained says that it gave no reason, so that this may be one.
	Busy, Unexplained bool
}

// Counter names something that a line counts.
type Counter string

// The counters of a line.
const (
	FramesSent     Counter = "sent"      // data frames sent for the first time
	FramesRetried  Counter = "retried"   // data frames sent again
	FramesReceived Counter = "received"  // good frames received
	FramesBad      Counter = "bad"       // frames dropped: checksum, length, type
	FramesLost     Counter = "lost"      // data frames given up: no ack came
	BytesLoaded    Counter = "loaded"    // image bytes that the MCU acknowledged
	MCUResets      Counter = "mcu_reset" // sequence restarts seen
)
