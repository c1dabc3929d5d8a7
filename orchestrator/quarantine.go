package orchestrator

import (
	"context"
	"errors"
)

// maxReason is how long the reason of a quarantine may be, in bytes.
const maxReason = 256

// QuarantineDevice puts a device in quarantine, for a reason that may be empty: what it
// is offered or works on is taken back to the queue, nothing is offered to it, and it may
// fetch nothing, until ReleaseDevice. Repeating it changes nothing but the reason. That
// nobody can log in as the device is the broker's to see to.
func (s *Service) QuarantineDevice(ctx context.Context, id, reason string) (Device, error) {
	if err := checkText("reason", reason, maxReason, false); err != nil {
		return Device{}, err
	}
	return s.quarantine(ctx, id, "quarantine", func(t *txn, d *Device) bool {
		changed := d.QuarantinedAt.IsZero() || d.QuarantineReason != reason
		if d.QuarantinedAt.IsZero() {
			d.QuarantinedAt = t.now
		}
		d.QuarantineReason = reason
		return changed
	})
}

// ReleaseDevice ends the quarantine of a device. What waits for it is offered again.
func (s *Service) ReleaseDevice(ctx context.Context, id string) (Device, error) {
	return s.quarantine(ctx, id, "release", func(_ *txn, d *Device) bool {
		changed := d.quarantined()
		d.QuarantinedAt, d.QuarantineReason = Device{}.QuarantinedAt, ""
		return changed
	})
}

// quarantine makes a change of a device's quarantine; change says whether it is one.
func (s *Service) quarantine(ctx context.Context, id, action string, change func(*txn, *Device) bool) (Device, error) {
	var rec Device
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Device](t, "device", id)
		if err != nil {
			return err
		}
		rec = *old
		if !change(t, &rec) {
			return nil
		}
		rec.Revision++
		return errors.Join(put(t, old, &rec), t.step(id, &rec, Settle{}), t.audit(action, KindDevice, id, old, &rec))
	})
	if err == nil && rec.quarantined() {
		s.streamer.forget(id)
	}
	return rec, err
}

// Quarantined returns the devices that are in quarantine, in order.
func (s *Service) Quarantined(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.store.View(ctx, func(r Reader) error {
		ids = nil
		return r.Scan(indexDeviceQuarantined, nil, nil, func(_, id []byte) bool {
			ids = append(ids, string(id))
			return true
		})
	})
	return ids, err
}

func (d *Device) quarantined() bool { return !d.QuarantinedAt.IsZero() }

// quarantineWords says since when and why the device is in quarantine.
func (d *Device) quarantineWords() string {
	words := "quarantined since " + d.QuarantinedAt.UTC().Format("2006-01-02 15:04 MST")
	if d.QuarantineReason != "" {
		words += ": " + d.QuarantineReason
	}
	return words + "; a job waits for its release"
}
