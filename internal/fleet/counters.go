package fleet

import (
	"errors"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"davit/internal/fleet/mqtt"
)

// link is where a device's connection stands.
type link byte

const (
	linkOff        link = iota // until the next attempt
	linkConnecting             // until the subscriptions are there
	linkOnline
	linkRefused // for good
	links
)

// String is the link's name in results.
func (l link) String() string { return [...]string{"waiting", "connecting", "online", "refused"}[l] }

// phase is where a device's update stands.
type phase byte

const (
	phaseNone phase = iota
	phaseAnswering
	phaseDownloading
	phaseInstalling
	phaseBooting
	phaseReporting // its end, until that is acknowledged
	phaseSucceeded
	phaseFailed
	phases
)

// String is the phase's name in results.
func (p phase) String() string {
	return [...]string{"none", "answering", "downloading", "installing", "booting", "reporting", "succeeded", "failed"}[p]
}

type counter = atomic.Int64

// counters are what the fleet counts. Any goroutine may add.
type counters struct {
	attempts, accepted, busy, refused, unreachable, lost, reboots                  counter
	hellos, statuses, statusRepeats, acks, superseded, offers, withdrawals         counter
	fetches, fetchRepeats, chunks, dropped, gaps, duplicates, unasked, wrong       counter
	imageBytes, chunkBytes, progress                                               counter
	asDrawn, otherwise, fallenBack, stalled, wrongImages, finished, met, streamed  counter
	firstFetch, lastChunk, firstOffer, lastEnd, firstAttempt, allOnline, lossBegan atomic.Int64 // instants

	links  [links]counter
	phases [phases]counter

	chunkTime, offerTime, connectTime histogram

	mu     sync.Mutex
	errors map[string]int64
}

// maxErrors is how many kinds of errors are told apart.
const maxErrors = 64

// mark notes an error.
func (c *counters) mark(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = map[string]int64{}
	}
	if _, known := c.errors[what]; !known && len(c.errors) >= maxErrors {
		what = "others"
	}
	c.errors[what]++
}

func (c *counters) errorCounts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.errors)
}

// kindOf is an error without what differs from connection to connection.
func kindOf(err error) string {
	var refused *mqtt.RefusedError
	var told *mqtt.DisconnectedError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &refused), errors.As(err, &told), errors.Is(err, mqtt.ErrProtocol),
		errors.Is(err, mqtt.ErrSilent), errors.Is(err, mqtt.ErrBacklog), errors.Is(err, errContract):
		return err.Error()
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the broker closed the connection"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}

// first stores t unless something is stored already.
func first(a *atomic.Int64, t instant) {
	if a.Load() == 0 {
		a.CompareAndSwap(0, int64(t))
	}
}

// last stores t.
func last(a *atomic.Int64, t instant) { a.Store(int64(t)) }
