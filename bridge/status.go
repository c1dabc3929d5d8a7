package bridge

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/portname"
	"davit/schemas"
)

// statusWait is how long Status waits for a device whose goroutine has other
// work, such as a disk that does not answer.
const statusWait = 300 * time.Millisecond

// Status is what a bridge is doing at one moment. The JSON names are stable
// (docs/cli.md). Text that host MCUs, drivers and the service have said is made
// printable: what could steer a terminal stands there as an escape sequence of Go.
type Status struct {
	// Software is the bridge's name and version.
	Software string `json:"software"`
	// At is when the status was taken, by the bridge's clock.
	At time.Time `json:"at"`
	// Since is when the bridge began to run, the zero time if it does not yet.
	Since time.Time `json:"since"`
	// Broker is the connection to the broker.
	Broker BrokerStatus `json:"broker"`
	// Spool is what images take of the disk.
	Spool SpoolStatus `json:"spool"`
	// Draining is there once the bridge is ending.
	Draining *Draining `json:"draining,omitempty"`
	// Ports are in the order of the configuration.
	Ports []PortStatus `json:"ports"`
}

// BrokerStatus is the connection to the broker.
type BrokerStatus struct {
	Connected bool `json:"connected"`
	// Since is when it was made or lost.
	Since time.Time `json:"since"`
}

// SpoolStatus is what images take of the disk, in bytes.
type SpoolStatus struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// Draining is the end of a bridge that lets its MCU legs come to their end.
type Draining struct {
	Since time.Time `json:"since"`
	// Until is the limit.
	Until time.Time `json:"until"`
}

// PortState says whether a port is open.
type PortState string

// The states of a port.
const (
	PortOpen    PortState = "open"
	PortClosed  PortState = "closed"  // it is opened again and again, unless the bridge drains
	PortWaiting PortState = "waiting" // not opened: nobody has said which dialect
)

// PortStatus is one port and the device behind it.
type PortStatus struct {
	Device string `json:"device"`
	// Port is the port's name as it is configured, TTY the path by which it is
	// open.
	Port string `json:"port"`
	TTY  string `json:"tty,omitempty"`
	// Dialect and line settings: those in use, or configured as long as the port
	// has not been opened; empty and 0 for what is not known yet.
	Dialect string         `json:"dialect,omitempty"`
	Baud    int            `json:"baud,omitempty"`
	Parity  dialect.Parity `json:"parity,omitempty"`
	RTSCTS  *bool          `json:"rtscts,omitempty"`
	// State of the port, since when, and why it is not open.
	State  PortState `json:"state"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	// Busy says that the device did not answer in time, as when its disk does not:
	// versions, update and last result are not known then.
	Busy bool `json:"busy,omitempty"`
	// Versions are what the host MCU has reported, by property.
	Versions []VersionStatus `json:"versions,omitempty"`
	// Update is the one under way, Last the end of the one before.
	Update *UpdateStatus `json:"update,omitempty"`
	Last   *ResultStatus `json:"last,omitempty"`
	// Counts are what the line has counted since the bridge began to run.
	Counts LineCounts `json:"counts"`
}

// VersionStatus is a version property of a host MCU.
type VersionStatus struct {
	Property string `json:"property"`
	Version  string `json:"version"`
	// Confirmed says that the MCU reported it since it was last seen to start.
	Confirmed bool `json:"confirmed"`
}

// UpdateStatus is an execution under way.
type UpdateStatus struct {
	Execution string        `json:"execution"`
	Attempt   int           `json:"attempt"`
	Version   string        `json:"version"`
	State     schemas.State `json:"state"`
	// Since is when this run of the bridge took it up.
	Since time.Time `json:"since"`
	// Bytes of Size that the state counts: fetched, or acknowledged by the MCU.
	Bytes uint64 `json:"bytes"`
	Size  uint64 `json:"size"`
	// BytesPerSecond is the pace of the last seconds, and LineShare, while the MCU
	// is loaded, what that is of the bytes that the line carries in a second.
	BytesPerSecond float64 `json:"bytes_per_second,omitempty"`
	LineShare      float64 `json:"line_share,omitempty"`
	// Left says that a drain has left it for the next start.
	Left bool `json:"left,omitempty"`
}

// ResultStatus is the end of an execution.
type ResultStatus struct {
	Execution   string        `json:"execution"`
	Attempt     int           `json:"attempt"`
	State       schemas.State `json:"state"`
	Cause       schemas.Cause `json:"cause,omitempty"`
	Code        int           `json:"code,omitempty"`
	Detail      string        `json:"detail,omitempty"`
	HostVersion string        `json:"host_version,omitempty"`
	// At is when it ended, the zero time if that is not known.
	At time.Time `json:"at,omitzero"`
	// Acknowledged says that the service knows of it.
	Acknowledged bool `json:"acknowledged"`
}

// LineCounts are a line's counters (dialect.Counter).
type LineCounts struct {
	Sent      uint64 `json:"sent"`
	Retried   uint64 `json:"retried"`
	Received  uint64 `json:"received"`
	Bad       uint64 `json:"bad"`
	Lost      uint64 `json:"lost"`
	Loaded    uint64 `json:"loaded_bytes"`
	MCUResets uint64 `json:"mcu_resets"`
}

// add adds the counts of another line.
func (c *LineCounts) add(d LineCounts) {
	c.Sent += d.Sent
	c.Retried += d.Retried
	c.Received += d.Received
	c.Bad += d.Bad
	c.Lost += d.Lost
	c.Loaded += d.Loaded
	c.MCUResets += d.MCUResets
}

// Status says what the bridge is doing. It holds up no device and no line, and
// waits for none of them longer than a moment or until ctx ends.
func (b *Bridge) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	lines := b.lines()
	s := Status{
		Software: b.cfg.Module, Spool: SpoolStatus{Used: b.spool.Used(), Limit: b.spool.Limit()}, Ports: make([]PortStatus, len(lines)),
	}
	b.life.tell(&s)
	var all sync.WaitGroup
	for i, l := range lines {
		all.Go(func() { s.Ports[i] = l.status(ctx) })
	}
	all.Wait()
	s.At = time.Now()
	return s
}

// status is the line's part of a Status.
func (l *line) status(ctx context.Context) PortStatus {
	d := l.dev
	s := PortStatus{Device: d.id, Counts: l.counts.read()}
	l.port.tell(&s)
	s.Busy = !d.tryDo(ctx, func() { d.tell(&s, time.Now()) })
	return s
}

// tryDo is do that gives up when ctx ends before the device has begun with f. A
// device that has stopped has nothing to tell, which is not to be busy.
func (d *device) tryDo(ctx context.Context, f func()) bool {
	c := call{f, make(chan struct{})}
	select {
	case d.calls <- c:
		<-c.done
		return true
	case <-d.gone:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell adds what the device's goroutine knows.
func (d *device) tell(s *PortStatus, now time.Time) {
	if s.Dialect == "" && d.kind != nil {
		s.Dialect = d.kind.Name()
	}
	for property, version := range d.rec.Versions {
		s.Versions = append(s.Versions, VersionStatus{
			Property: portname.Printable(property), Version: portname.Printable(version), Confirmed: d.believed[property],
		})
	}
	slices.SortFunc(s.Versions, func(a, b VersionStatus) int { return strings.Compare(a.Property, b.Property) })
	s.Update = d.updateStatus(s, now)
	for _, e := range slices.Backward(d.rec.Ended) {
		if r := e.Status; r != nil {
			s.Last = &ResultStatus{
				Execution: r.Execution, Attempt: r.Attempt, State: r.State, Cause: r.Cause, Code: r.Code, Detail: portname.Printable(r.Detail),
				HostVersion: portname.Printable(r.HostVersion), At: e.At, Acknowledged: e.Acked,
			}
			return
		}
	}
}

func (d *device) updateStatus(s *PortStatus, now time.Time) *UpdateStatus {
	open := d.rec.Open
	if open == nil {
		return nil
	}
	u := &UpdateStatus{
		Execution: open.Offer.Execution, Attempt: open.Offer.Attempt, Version: portname.Printable(open.Offer.Version), State: open.State, Size: open.Offer.Size,
	}
	ex := d.ex
	if ex == nil {
		u.Left = true
		return u
	}
	u.Since, u.Bytes, u.BytesPerSecond = ex.since, ex.bytes(), ex.pace.rate(ex.state, ex.bytes(), now)
	if ex.state == schemas.StateInstalling && s.Baud > 0 {
		u.LineShare = u.BytesPerSecond / bytesPerSecond(s)
	}
	return u
}

// bytesPerSecond is what the port's line carries: start, eight data bits, stop,
// and a parity bit if there is one.
func bytesPerSecond(s *PortStatus) float64 {
	bits := 10
	if s.Parity != dialect.ParityNone {
		bits++
	}
	return float64(s.Baud) / float64(bits)
}
