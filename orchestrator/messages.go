package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"davit/internal/logevent"
	"davit/internal/trace"
	"davit/schemas"
)

// Hello records what a device says of itself and matches it against its
// executions that have not ended: O(those executions). If what it says of its
// host MCU is not what its device type says, it is told the profile. ErrNotFound
// if the device is not known.
func (s *Service) Hello(ctx context.Context, device string, h schemas.Hello) error {
	if err := h.Validate(); err != nil {
		return invalid("hello: %w", err)
	}
	s.outbox.hello(device, time.Now())
	defer s.outbox.unheard(device)
	var dt *DeviceType
	told := trace.CarriedBy(ctx)
	_, err := s.together.do(ctx, func(t *txn) error {
		t.tell(device, told)
		old, err := need[Device](t, "device", device)
		if err != nil {
			return err
		}
		if dt, err = t.deviceType(old.Type); err != nil {
			return err
		}
		versions, err := dt.versionsOf(t, h.HostVersions)
		if err != nil {
			return err
		}
		rec := *old
		rec.Module, rec.Dialect, rec.MaxChunk, rec.Streams, rec.LastSeen, rec.HelloAt = h.Module, h.Dialect, h.MaxChunk, h.Streams, t.now, t.now
		if err := put(t, old, &rec); err != nil {
			return err
		}
		if err := t.step(device, &rec, Heard{Versions: versions, Execution: h.Execution, Attempt: h.Attempt}); err != nil {
			return err
		}
		return t.matchNow(device)
	})
	if err != nil {
		return err
	}
	if h.DeviceType != "" && h.DeviceType != dt.ID && s.refused.Allow("type "+device) {
		s.log.Warn("device says that it is of another type than it was created with; the created one counts", "event", logevent.DeviceTypeDiffers,
			slog.String("device", device), slog.String("says", h.DeviceType), slog.String("device_type", dt.ID))
	}
	s.profile(ctx, device, dt, &h)
	return nil
}

// profile tells a device what its type says of its host MCU, if its hello did
// not agree with that. A hello is repeated, and so is what is lost here.
func (s *Service) profile(ctx context.Context, device string, dt *DeviceType, h *schemas.Hello) {
	p := dt.profile()
	reports := func(property string) bool { _, ok := h.HostVersions[property]; return ok }
	if h.Dialect == p.Dialect && !slices.ContainsFunc(p.VersionProperties, func(property string) bool { return !reports(property) }) {
		return
	}
	if err := s.publisher.Profile(ctx, device, p); err != nil && s.refused.Allow("profile") {
		s.log.Warn("profile not published; it is when the device says hello again", "event", logevent.ProfileNotPublished, slog.String("device", device), slog.Any("error", err))
	}
}

// profile is what modules are told of the type. A device type may have more
// image types than a hello can report versions of; the first ones count.
func (t *DeviceType) profile() schemas.Profile {
	p := schemas.Profile{V: schemas.Version, DeviceType: t.ID, Dialect: t.Dialect, VersionProperties: []string{}}
	for _, e := range t.ImageTypes[:min(len(t.ImageTypes), schemas.MaxVersionProperties)] {
		p.VersionProperties = append(p.VersionProperties, e.Property())
	}
	return p
}

// Presence records whether a device is connected. ErrNotFound if the device
// is not known.
func (s *Service) Presence(ctx context.Context, device string, online bool) error {
	_, err := s.together.do(ctx, func(t *txn) error {
		old, err := need[Device](t, "device", device)
		if err != nil {
			return err
		}
		if old.Online == online {
			return nil
		}
		rec := *old
		rec.Online, rec.LastSeen = online, t.now
		if err := put(t, old, &rec); err != nil {
			return err
		}
		return t.connected(&rec)
	})
	if err == nil {
		event := logevent.DeviceDisconnected
		if online {
			event = logevent.DeviceConnected
		}
		s.log.Debug("presence", "event", event, slog.String("device", device), slog.Bool("online", online))
	}
	return err
}

// connected has the rules look at a device whose connection came or went, if
// something waits for it.
func (t *txn) connected(dev *Device) error {
	waiting, err := anyUnderPrefix(t, indexExecOpen, prefixOf(dev.ID))
	if err != nil || !waiting {
		return err
	}
	return t.step(dev.ID, dev, Settle{})
}

// Status records a report and returns when it is on disk and its
// acknowledgement is published. A report that changes nothing is acknowledged
// as well. Thousands may wait at a time: they are committed together.
func (s *Service) Status(ctx context.Context, device string, st schemas.Status) error {
	if err := st.Validate(); err != nil {
		return invalid("status: %w", err)
	}
	told := trace.CarriedBy(ctx)
	acks, err := s.together.do(ctx, func(t *txn) error {
		t.tell(device, told)
		var dev *Device
		var err error
		if st.State.Final() || st.HostVersion != "" {
			// Only these reports change versions; the many others do without the
			// device's record, unless they let another execution have its turn.
			if dev, err = find[Device](t, device); err != nil {
				return err
			}
		}
		st := st // the store may run this again
		if st.HostVersion, err = t.hostVersion(dev, st); err != nil {
			return err
		}
		return t.step(device, dev, Reported{st})
	})
	if err != nil {
		return fmt.Errorf("record status of device %q: %w", device, err)
	}
	if st.State.Final() || st.State == schemas.StateDownloaded {
		s.streamer.forget(device)
	}
	var failed error
	for _, a := range acks {
		failed = errors.Join(failed, s.publisher.Ack(ctx, device, a))
	}
	if failed != nil {
		return fmt.Errorf("acknowledge status of device %q (it is recorded): %w", device, failed)
	}
	return nil
}

// hostVersion is the version that a report says is running, in the words of its
// execution's image. Reports of executions that do not exist are left as they
// are: they change nothing.
func (t *txn) hostVersion(dev *Device, st schemas.Status) (string, error) {
	if dev == nil || st.HostVersion == "" {
		return st.HostVersion, nil
	}
	dt, err := t.deviceType(dev.Type)
	if err != nil || dt.Dialect != DialectAfero {
		return st.HostVersion, err
	}
	e, err := find[executionRecord](t, st.Execution)
	if err != nil || e == nil {
		return st.HostVersion, err
	}
	version, _, err := versionReported(t, e.ImageType, st.HostVersion)
	return version, err
}
