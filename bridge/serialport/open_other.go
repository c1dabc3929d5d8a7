//go:build !linux

package serialport

import (
	"errors"
	"fmt"
	"time"
)

// Open fails: serial ports are supported on Linux.
func Open(path string, s Settings) (*Port, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrSettings, err)
	}
	return nil, fmt.Errorf("open %s: serial ports: %w; run the bridge on Linux", path, errors.ErrUnsupported)
}

// Flush does nothing: no port can be open.
func (p *Port) Flush(time.Duration) {}

// Listen fails as Open does.
func Listen(path string, s Settings) (*Port, error) { return Open(path, s) }

// Close closes the port.
func (p *Port) Close() error { return p.file.Close() }
