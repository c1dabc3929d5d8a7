// Package afero is the bridge's dialect for host MCUs that are built on Afero's
// afLib: the bridge plays the module (ASR) of docs/afero-wire.md.
//
// The machine is driven by package session, whose goroutine owns all of its
// state. The afPro transport as the slave is transport, what is said before an
// MCU lets traffic through is startup, the course of an update is update, the codec
// is schemas/afpro. In steady state, a chunk and its answer allocate nothing.
//
// Message bytes have no checksum on this wire, so nothing that one message says
// is final by itself: a refusal and a version are asked for twice, an accepted
// offer has to come back as it was sent, and the SHA-256 decides about the image.
//
// The package imports schemas, schemas/afpro, bridge/dialect and its session. It
// opens no port, stores nothing and logs nothing: that is the bridge's.
package afero

import (
	"io"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
)

// Name is what the dialect is called in device types and hello messages.
const Name = "afero"

// Defaults of an update's times.
const (
	// DefaultOfferInterval is how long an MCU has to answer an offer before it
	// is begun anew from the start-up on: it may erase its flash first.
	DefaultOfferInterval  = 30 * time.Second
	DefaultAnswerTimeout  = 10 * time.Minute
	DefaultVerdictTimeout = 30 * time.Second
	DefaultBootTimeout    = 5 * time.Minute
	DefaultVersionTimeout = time.Minute
)

// defaultBaud is that of the documentation's traces (docs/afero-wire.md section 1).
const defaultBaud = 9600

// Dialect is the Afero protocol family.
type Dialect struct{}

// Name returns "afero".
func (Dialect) Name() string { return Name }

// VersionProperty returns "": which attribute reports the version depends on the
// image type's number.
func (Dialect) VersionProperty() string { return "" }

// Line returns 9600 bit/s, no parity, no flow control (docs/afero-wire.md
// section 1).
func (Dialect) Line() dialect.LineSettings {
	return dialect.LineSettings{Baud: defaultBaud, Parity: dialect.ParityNone}
}

// NewSession implements dialect.Dialect.
func (d Dialect) NewSession(line io.ReadWriteCloser, cfg dialect.Config, events dialect.Events) dialect.Session {
	cfg = d.complete(cfg)
	return session.New(line, cfg.Baud, newMachine(cfg, events))
}

// NewMachine returns the state machine that a session drives, for a caller with a
// clock of its own.
func (d Dialect) NewMachine(cfg dialect.Config, events dialect.Events) session.Machine {
	return newMachine(d.complete(cfg), events)
}

// complete puts the family's usual settings in the place of those that are missing.
func (d Dialect) complete(cfg dialect.Config) dialect.Config {
	if cfg.Baud <= 0 {
		cfg.Baud = d.Line().Baud
	}
	if cfg.OfferInterval <= 0 {
		cfg.OfferInterval = DefaultOfferInterval
	}
	return cfg
}
