package fleet

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"davit/schemas"
)

// Limits of a Config.
const (
	// MaxDevices is how many devices a fleet may have.
	MaxDevices = 100_000
	// MaxProfiles is how many kinds of devices.
	MaxProfiles = 64
	// MaxHellos is how many hellos a second a fleet may be asked to say.
	MaxHellos = 1_000_000
)

// Login is what a device connects with: its id, which is its user name, and its password.
type Login struct{ ID, Password string }

// Storm says how all connections are lost at once.
type Storm string

// The storms.
const (
	NoStorm Storm = ""
	// StormCut: the fleet cuts all its connections itself.
	StormCut Storm = "cut"
	// StormWait: the fleet waits until somebody has ended them, such as a restart of the broker.
	StormWait Storm = "wait"
)

// Config describes a fleet and what it does.
type Config struct {
	// Broker is HOST:PORT of an MQTT broker, without TLS.
	Broker string
	// Devices are the devices that there are, at least one.
	Devices []Login
	// DeviceType is what hellos say; it may be empty.
	DeviceType string
	// Property is the version property that hellos report and Version what host MCUs run
	// at first.
	Property, Version string
	Profiles          []Profile
	// Seed is what all chance is drawn from.
	Seed uint64
	// Ramp is how many connections a second are begun at first.
	Ramp float64
	// Pending is how many connections may be in the making at a time, storms aside; 0 is no
	// limit.
	Pending int
	// KeepAlive of the connections.
	KeepAlive time.Duration
	// Repeat is after how long without an answer a status is repeated, or a fetch of which
	// nothing has come; the wait doubles up to a minute.
	Repeat time.Duration
	// TimeScale is how much faster time passes for host MCUs.
	TimeScale float64

	// Storm, Update and Hold are done one after the other, when all devices are connected.
	Storm Storm
	// Update waits until every device has brought an update to its end.
	Update bool
	// Connected, if there is one, is called when all devices have connected the first time:
	// from then on a storm may come.
	Connected func()
	// Ready, if there is one, is called before Update, such as to start a job.
	Ready func() error
	// Hold is for how long the fleet stays connected then; Forever until it is told to end.
	Hold time.Duration
	// Hellos is how many hellos a second the fleet says while it holds, beside those that
	// devices repeat by themselves.
	Hellos float64
	// Timeout is how long connecting, a storm and updates may take, each.
	Timeout time.Duration

	// View, if there is one, is where progress is shown, every Every: as a table that is
	// drawn anew on a Terminal, as a line otherwise.
	View     io.Writer
	Terminal bool
	// Width, if there is one, is how many columns the terminal has at the moment; 0 if that is
	// not known.
	Width func() int
	Every time.Duration
}

// Forever is a Hold without an end.
const Forever = time.Duration(math.MaxInt64)

// Profile is a kind of device.
type Profile struct {
	Name string
	// Share is how many of the devices are of this kind, in relation to the others' shares.
	Share float64
	// V311 is the part of them that speaks MQTT 3.1.1, 0 to 1; the others speak MQTT 5.
	V311 float64
	// Bandwidth is what a module reads in bytes a second; 0 is no limit.
	Bandwidth float64
	// Latency is the round-trip time that is added: what a device publishes leaves so much later.
	Latency time.Duration
	// Loss is the part of the chunks that get lost on their way.
	Loss float64
	// Chunk is the size in bytes of the chunks that are asked for; 0 is what offers prefer.
	// Window is how many may be on their way.
	Chunk, Window int
	// Adaptive has window and chunk size follow the path, as those of the bridge and of the
	// reference module do; Window means nothing then, and Chunk is the largest.
	Adaptive bool
	// Streams says that modules follow the image's shared stream if the offer names one.
	Streams bool
	// RebootEvery is after how long, on average, a module reboots: its connection is lost,
	// what it has fetched is not. 0 is never.
	RebootEvery time.Duration
	// Answer is how long host MCUs take to accept an offer, Line the speed in bit/s of the
	// line on which they are loaded (8N1), and Boot how long they take to boot and to report
	// the version. All are divided by TimeScale.
	Answer time.Duration
	Line   int
	Boot   time.Duration
	// Faults are the parts of the devices whose updates fail, by cause. A device has at most
	// one of them.
	Faults []Fault
	// FallBack is the part of the devices that return to the version before, FallBackAfter
	// having succeeded.
	FallBack      float64
	FallBackAfter time.Duration
	// NeverRead is the part of the devices that ask for chunks and read nothing from then on.
	NeverRead float64
}

// Fault is a cause and the part of the devices, 0 to 1, that fail with it.
type Fault struct {
	Cause schemas.Cause
	Part  float64
}

// DefaultProfile is a device without faults, on a fast network.
func DefaultProfile() Profile {
	return Profile{
		Name: "default", Share: 1, Window: 16, Answer: 2 * time.Second, Line: 115200, Boot: 10 * time.Second, FallBackAfter: time.Minute,
	}
}

// DefaultConfig has one DefaultProfile and no devices.
func DefaultConfig() Config {
	return Config{
		Broker: "127.0.0.1:1883", Property: "oem_host_version", Version: "1.0.0", Profiles: []Profile{DefaultProfile()}, Seed: 1, Ramp: 500, Pending: 200,
		KeepAlive: 5 * time.Minute, Repeat: 3 * time.Second, TimeScale: 1, Timeout: 10 * time.Minute,
	}
}

// Causes are those that updates can fail with here, in the order in which they meet them.
func Causes() []schemas.Cause {
	return []schemas.Cause{
		schemas.CauseRejected, schemas.CauseSize, schemas.CauseNetwork, schemas.CauseSerial, schemas.CauseFlash,
		schemas.CauseTimeout, schemas.CauseChecksum, schemas.CauseSignature, schemas.CauseBoot,
	}
}

// Mistake is a value that a configuration cannot have.
type Mistake struct {
	// Field is what the value is called where people write it: latency, fall-back-after.
	Field string
	// Text says what is wrong with it, and what it may be.
	Text string
}

// Error implements error.
func (m *Mistake) Error() string { return m.Field + " " + m.Text }

func mistake(field, format string, args ...any) error {
	return &Mistake{field, fmt.Sprintf(format, args...)}
}

// Validate says what is wrong with a configuration, devices not looked at. The error is a *Mistake if it is
// about one value.
func (c *Config) Validate() error {
	switch {
	case len(c.Profiles) < 1 || len(c.Profiles) > MaxProfiles:
		return fmt.Errorf("the fleet has %d profiles, allowed are 1 to %d", len(c.Profiles), MaxProfiles)
	case !(c.Ramp > 0):
		return mistake("ramp", "is %v; it has to be more than 0 connections a second", c.Ramp)
	case c.Pending < 0:
		return mistake("pending", "is %d; there are 1 or more connections in the making, or 0 for no limit", c.Pending)
	case c.KeepAlive < 5*time.Second || c.KeepAlive > 18*time.Hour:
		return mistake("keep-alive", "is %v; it has to be 5s to 18h", c.KeepAlive)
	case c.Repeat < 100*time.Millisecond:
		return mistake("repeat", "is %v; what is not answered can be repeated after 100ms at the earliest", c.Repeat)
	case !(c.TimeScale >= 0.01 && c.TimeScale <= 1e6):
		return mistake("time-scale", "is %v; it has to be 0.01 to 1000000", c.TimeScale)
	case c.Hold < 0:
		return mistake("hold", "is %v; it cannot be negative", c.Hold)
	case !(c.Hellos >= 0 && c.Hellos <= MaxHellos):
		return mistake("hellos", "is %v; it has to be 0 to %d a second", c.Hellos, int(MaxHellos))
	case c.Timeout <= 0:
		return mistake("timeout", "is %v; it has to be more than 0", c.Timeout)
	case c.Every != 0 && c.Every < minEvery:
		return mistake("every", "is %v; progress can be shown every %v at the most", c.Every, minEvery)
	case c.Storm != NoStorm && c.Storm != StormCut && c.Storm != StormWait:
		return fmt.Errorf("there is no storm %q; it is %s or %s", c.Storm, StormCut, StormWait)
	}
	if err := (&schemas.Hello{V: schemas.Version, DeviceType: c.DeviceType, HostVersions: map[string]string{c.Property: c.Version}}).Validate(); err != nil {
		return err
	}
	for i := range c.Profiles {
		if err := c.Profiles[i].Validate(); err != nil {
			return fmt.Errorf("profile %q: %w", c.Profiles[i].Name, err)
		}
	}
	return nil
}

// minEvery is how often progress is shown at the most.
const minEvery = 10 * time.Millisecond

// Validate says what is wrong with a profile. The error is a *Mistake if it is about one value.
func (p *Profile) Validate() error {
	switch {
	case !(p.Share > 0):
		return mistake("share", "is %v; it has to be more than 0", p.Share)
	case p.Loss > 0.9:
		return mistake("loss", "is %.4g %%; of more than 90 %% nothing would ever arrive", p.Loss*100)
	case p.Bandwidth < 0 || p.Bandwidth > 0 && p.Bandwidth < 100:
		return mistake("bandwidth", "is %v; a module reads at least 100 bytes a second", p.Bandwidth)
	case p.Chunk != 0 && (p.Chunk < schemas.MinChunkSize || p.Chunk > schemas.MaxChunkSize):
		return mistake("chunk", "has %d bytes, allowed are %d to %d, or none for what the offer prefers", p.Chunk, schemas.MinChunkSize, schemas.MaxChunkSize)
	case p.Window < 1 || p.Window > schemas.MaxWindow:
		return mistake("window", "has %d chunks, allowed are 1 to %d", p.Window, schemas.MaxWindow)
	case p.RebootEvery != 0 && p.RebootEvery < time.Second:
		return mistake("reboot-every", "is %v; modules reboot every second at the most", p.RebootEvery)
	case p.Line < 300:
		return mistake("line", "is %d; a line has at least 300 bit/s", p.Line)
	}
	for _, t := range []struct {
		field string
		value time.Duration
	}{{"latency", p.Latency}, {"answer", p.Answer}, {"boot", p.Boot}, {"fall-back-after", p.FallBackAfter}} {
		if t.value < 0 {
			return mistake(t.field, "is %v; a time cannot be negative", t.value)
		}
	}
	return p.validateParts()
}

// validateParts says what is wrong with the parts of devices and chunks.
func (p *Profile) validateParts() error {
	part := func(v float64) bool { return v >= 0 && v <= 1 }
	if !part(p.V311) || !part(p.Loss) || !part(p.FallBack) || !part(p.NeverRead) {
		return errors.New("parts of the devices and of the chunks have to be 0 % to 100 %")
	}
	sum := p.NeverRead
	for _, f := range p.Faults {
		if !slices.Contains(Causes(), f.Cause) {
			return fmt.Errorf("devices do not fail with cause %q here; the causes are %v", f.Cause, Causes())
		}
		if !part(f.Part) {
			return errors.New("parts of the devices have to be 0 % to 100 %")
		}
		sum += f.Part
	}
	if sum > 1+1e-9 {
		return errors.New("more than 100 % of the devices fail or never read")
	}
	return nil
}
