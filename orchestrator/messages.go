package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"davit/schemas"
)

// Hello records what a device says of itself and matches it against its
// executions that have not ended: O(those executions). ErrNotFound if the
// device is not known.
func (s *Service) Hello(ctx context.Context, device string, h schemas.Hello) error {
	if err := h.Validate(); err != nil {
		return invalid("hello: %w", err)
	}
	var known string
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Device](t, "device", device)
		if err != nil {
			return err
		}
		dt, err := need[DeviceType](t, "device type", old.Type)
		if err != nil {
			return err
		}
		known = old.Type
		rec := *old
		rec.Module, rec.Dialect, rec.MaxChunk, rec.LastSeen, rec.HelloAt = h.Module, h.Dialect, h.MaxChunk, t.now, t.now
		if err := put(t, old, &rec); err != nil {
			return err
		}
		return t.step(device, &rec, Heard{Versions: dt.versionsOf(h.HostVersions), Execution: h.Execution, Attempt: h.Attempt})
	})
	if err == nil && h.DeviceType != "" && h.DeviceType != known && s.refused.Allow("type "+device) {
		s.log.Warn("device says that it is of another type than it was created with; the created one counts",
			slog.String("device", device), slog.String("says", h.DeviceType), slog.String("type", known))
	}
	return err
}

// versionsOf translates reported version properties to image types.
func (t *DeviceType) versionsOf(properties map[string]string) map[string]string {
	out := make(map[string]string, len(t.ImageTypes))
	for _, e := range t.ImageTypes {
		if v, ok := properties[e.VersionProperty]; ok {
			out[e.ID] = v
		}
	}
	return out
}

// Presence records whether a device is connected. ErrNotFound if the device
// is not known.
func (s *Service) Presence(ctx context.Context, device string, online bool) error {
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Device](t, "device", device)
		if err != nil {
			return err
		}
		if old.Online == online {
			return nil
		}
		rec := *old
		rec.Online, rec.LastSeen = online, t.now
		return put(t, old, &rec)
	})
	if err == nil {
		s.log.Debug("presence", slog.String("device", device), slog.Bool("online", online))
	}
	return err
}

// Status records a report and returns when it is on disk and its
// acknowledgement is published. A report that changes nothing is acknowledged
// as well. Thousands may wait at a time: the store commits them in groups.
func (s *Service) Status(ctx context.Context, device string, st schemas.Status) error {
	if err := st.Validate(); err != nil {
		return invalid("status: %w", err)
	}
	out, err := s.commit(ctx, func(t *txn) error {
		var dev *Device
		if st.State.Final() || st.HostVersion != "" {
			// Only these reports change versions or let another execution have
			// its turn; the many others do without the device's record.
			var err error
			if dev, err = find[Device](t, device); err != nil {
				return err
			}
		}
		return t.step(device, dev, Reported{st})
	})
	if err != nil {
		return fmt.Errorf("record status of device %q: %w", device, err)
	}
	if st.State.Final() {
		s.streamer.forget(device)
	}
	var failed error
	for _, a := range out.acks {
		failed = errors.Join(failed, s.publisher.Ack(ctx, device, a))
	}
	if failed != nil {
		return fmt.Errorf("acknowledge status of device %q (it is recorded): %w", device, failed)
	}
	return nil
}
