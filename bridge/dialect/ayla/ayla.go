// Package ayla is the bridge's dialect for host MCUs that are built on the
// published Ayla host library: the bridge plays the module of docs/wire.md.
//
// The machine is driven by package session, whose goroutine owns all of its
// state. The frame layer is link, the course of an update is update, the codec is
// schemas/tlv. In steady state, a LOAD and its ack allocate nothing.
//
// The package imports schemas, schemas/tlv, bridge/dialect and its session. It
// opens no port, stores nothing and logs nothing: that is the bridge's.
package ayla

import (
	"io"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
)

// Name is what the dialect is called in device types and hello messages.
const Name = "ayla"

// DefaultVersionProperty is the property by which the reference host
// application reports its version (docs/wire.md section 4).
const DefaultVersionProperty = "oem_host_version"

// Defaults of an update's times.
const (
	// DefaultOfferInterval is how often the reference module repeats an offer
	// that was received and not answered.
	DefaultOfferInterval  = 120 * time.Second
	DefaultAnswerTimeout  = 10 * time.Minute
	DefaultVerdictTimeout = 5 * time.Second
	DefaultBootTimeout    = 5 * time.Minute
	DefaultVersionTimeout = time.Minute
)

// Dialect is the Ayla protocol family.
type Dialect struct{}

// Name returns "ayla".
func (Dialect) Name() string { return Name }

// VersionProperty returns DefaultVersionProperty.
func (Dialect) VersionProperty() string { return DefaultVersionProperty }

// Line returns 115,200 bit/s, odd parity, RTS/CTS (docs/wire.md section 1).
func (Dialect) Line() dialect.LineSettings {
	return dialect.LineSettings{Baud: 115_200, Parity: dialect.ParityOdd, RTSCTS: true}
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
	if len(cfg.VersionProperties) == 0 {
		cfg.VersionProperties = []string{d.VersionProperty()}
	}
	return cfg
}
