package rehearsal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// MaxDevices is how many devices a play may have.
const MaxDevices = 100_000

// Config says what is played.
type Config struct {
	// Rollout is how the job reaches its devices, nil for all at once. Names of
	// devices in it are given to devices of the fleet. The images that it leads devices
	// through stand for one path, in their order, from what the fleet runs at first; any
	// other image in it stands for that.
	Rollout *orchestrator.Rollout
	Fleet   Fleet
	// Start is when the job starts. The zero time is the start of the rollout's
	// schedule or, without one, DefaultStart.
	Start time.Time
	// Until is after how long the play ends if the job has not come to an end.
	Until time.Duration
	// People is how long people take to approve a wave, to agree to updates and to
	// command that what was downloaded is installed.
	People time.Duration
}

// DefaultStart is when jobs start, a Monday.
func DefaultStart() time.Time { return time.Date(2027, time.March, 1, 8, 0, 0, 0, time.UTC) }

// Fleet is a model of devices, all of one type.
type Fleet struct {
	// Devices is how many there are, 1 to MaxDevices.
	Devices int
	// Seed is what all chance is drawn from.
	Seed uint64
	// Online is for which part of the time a device is connected, more than 0 and at
	// most 1. OnlineFor is how long at a time on average; such times, and those in
	// between, are distributed exponentially.
	Online    float64
	OnlineFor time.Duration
	// Size is the size of the images in bytes.
	Size uint64
	// Answer is how long a host MCU takes on average to accept an offer.
	Answer time.Duration
	// Bandwidth is what a device downloads in bytes per second. It differs from
	// device to device, from half as much to half as much again.
	Bandwidth float64
	// Line is the speed of the line to the host MCU in bit/s.
	Line int
	// Boot is how long a host MCU takes to boot, give or take a fifth.
	Boot time.Duration
	// Faults are what goes wrong.
	Faults []Fault
	// FallBacks are devices that run the job's version and return to the one before
	// after FallAfter on average. Their cause is not looked at.
	FallBacks []Fault
	FallAfter time.Duration
	Labels    []Label
	Groups    []Group
}

// Fault is the chance that an attempt fails that has come so far.
type Fault struct {
	Cause schemas.Cause
	// Chance is from 0 to 1.
	Chance float64
	// Label and Value say on which devices; on all of them if Label is empty.
	Label, Value string
}

// Label is what devices have as the values of a label. Those that no value takes do
// not have it.
type Label struct {
	Name   string
	Values []Share
}

// Share is a part of the devices, 0 to 1, and what it has.
type Share struct {
	Value string
	Part  float64
}

// Group is a group that the rollout names, with the part of the devices, 0 to 1,
// that belong to it.
type Group struct {
	Name string
	Part float64
}

// DefaultFleet is a fleet in which nothing goes wrong.
func DefaultFleet() Fleet {
	return Fleet{
		Devices: 1000, Seed: 1, Online: 0.9, OnlineFor: 12 * time.Hour, Size: 512 << 10, Answer: 5 * time.Second,
		Bandwidth: 50 << 10, Line: 115200, Boot: 20 * time.Second, FallAfter: 10 * time.Minute,
	}
}

// Causes are those of the faults that devices can have, in the order in which an
// update meets them.
func Causes() []schemas.Cause {
	return []schemas.Cause{
		schemas.CauseRejected, schemas.CauseSize, schemas.CauseNetwork, schemas.CauseSerial, schemas.CauseFlash,
		schemas.CauseTimeout, schemas.CauseChecksum, schemas.CauseSignature, schemas.CauseBoot,
	}
}

func (c *Config) check() error {
	f := &c.Fleet
	switch {
	case f.Devices < 1 || f.Devices > MaxDevices:
		return fmt.Errorf("the fleet has %d devices, allowed are 1 to %d", f.Devices, MaxDevices)
	case !(f.Online > 0 && f.Online <= 1):
		return errors.New("the part of the time for which devices are connected has to be more than 0 and at most 100 %")
	case f.OnlineFor < time.Second, f.Answer < time.Second, f.Boot < time.Second, f.FallAfter < time.Second, c.Until < time.Second:
		return errors.New("times of the fleet have to be 1s or more")
	case c.People < 0:
		return errors.New("people cannot decide before they are asked")
	case f.Size == 0 || f.Size > maxImage:
		return fmt.Errorf("the image has %d bytes, allowed are 1 to %d", f.Size, maxImage)
	case !(f.Bandwidth >= 1), f.Line < 300:
		return errors.New("a device downloads at least 1 byte per second, and a line has at least 300 bit/s")
	}
	for _, x := range slices.Concat(f.Faults, f.FallBacks) {
		if !(x.Chance >= 0 && x.Chance <= 1) {
			return fmt.Errorf("the chance of a fault is %g, allowed is 0 to 1", x.Chance)
		}
	}
	for _, x := range f.Faults {
		if !slices.Contains(Causes(), x.Cause) {
			return fmt.Errorf("devices do not fail with cause %q here; the causes are %v", x.Cause, Causes())
		}
	}
	for _, l := range f.Labels {
		if l.parts() > wholeFleet {
			return fmt.Errorf("the values of label %s are those of more than all devices", l.Name)
		}
	}
	return nil
}

// wholeFleet is all of it, and what adding up percentages may be off.
const wholeFleet = 1 + 1e-9

func (l *Label) parts() (sum float64) {
	for _, v := range l.Values {
		sum += v.Part
	}
	return sum
}

// maxImage is the largest image that is played with: the service's own limit.
const maxImage = 256 << 20

// value is what a device has that drew u from 0 to 1, "" for none.
func (l *Label) value(u float64) string {
	for _, v := range l.Values {
		if u < v.Part {
			return v.Value
		}
		u -= v.Part
	}
	return ""
}

// on says whether a fault concerns a device with these labels.
func (x *Fault) on(labels map[string]string) bool {
	return x.Label == "" || labels[x.Label] == x.Value
}

func (c *Config) start() time.Time {
	switch {
	case !c.Start.IsZero():
		return c.Start
	case c.Rollout != nil && c.Rollout.Schedule != nil && !c.Rollout.Schedule.Start.IsZero():
		return c.Rollout.Schedule.Start
	}
	return DefaultStart()
}
