package orchestrator

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"davit/internal/logevent"
)

const (
	// offlinePerPart is how many devices are set offline in one transaction.
	offlinePerPart = 256
	// offlinePrompt is how many are set offline before the service is ready. Of more
	// than that, the rest is as devices are whose connection was lost and not yet missed.
	offlinePrompt = 1024
	// offlineGrace is how long that rest has to connect again before.
	offlineGrace = 10 * time.Second
)

// unheard are the devices that the records show as connected because they were when
// an earlier process ended, and of which this one has not heard yet. It is safe for
// concurrent use.
type unheard struct {
	mu      sync.Mutex
	devices map[string]bool
}

// set makes devices unheard of.
func (u *unheard) set(devices []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.devices = make(map[string]bool, len(devices))
	for _, d := range devices {
		u.devices[d] = true
	}
}

// heard notes that a device was heard of, and says whether it was not before.
func (u *unheard) heard(device string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.devices[device]
	delete(u.devices, device)
	return was
}

// has says whether a device is unheard of.
func (u *unheard) has(device string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.devices[device]
}

// allOffline sets the devices offline that an earlier process left online: so many as
// take no time, and leaves the rest to unheardLoop.
func (s *Service) allOffline(ctx context.Context) error {
	var ids []string
	if err := s.store.View(ctx, func(r Reader) error {
		ids = nil
		return r.Scan(indexDeviceOnline, nil, nil, func(_, id []byte) bool {
			ids = append(ids, string(id))
			return true
		})
	}); err != nil {
		return err
	}
	s.unheard.set(ids)
	for part := range slices.Chunk(ids[:min(len(ids), offlinePrompt)], offlinePerPart) {
		if err := s.setOffline(ctx, part); err != nil {
			return err
		}
	}
	s.later = ids[min(len(ids), offlinePrompt):]
	return nil
}

// unheardLoop sets offline what allOffline has left.
func (s *Service) unheardLoop(ctx context.Context) {
	left := s.later
	s.later = nil
	wait := offlineGrace
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = 0
		part := left[:min(len(left), offlinePerPart)]
		err := s.setOffline(ctx, part)
		if err == nil {
			left = left[len(part):]
			continue
		}
		if wait = lastBackoff; ctx.Err() == nil {
			s.log.Warn("devices that were connected when the service ended are not set offline yet; it is tried again", "event", logevent.PresenceNotRecorded, slog.Any("error", err))
		}
	}
}

// setOffline sets those of the devices offline that are still unheard of when their
// turn has come.
func (s *Service) setOffline(ctx context.Context, ids []string) error {
	_, err := s.commit(ctx, func(t *txn) error {
		for _, id := range ids {
			if !s.unheard.has(id) {
				continue
			}
			old, err := find[Device](t, id)
			if err != nil {
				return err
			}
			if old == nil || !old.Online {
				continue
			}
			if _, err := t.lost(old); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		s.unheard.heard(id)
	}
	return nil
}

// lost records that the connection of a device is gone, at an unknown time, and returns
// its record.
func (t *txn) lost(old *Device) (*Device, error) {
	rec := *old
	rec.Online = false
	if err := put(t, old, &rec); err != nil {
		return nil, err
	}
	return &rec, t.connected(&rec)
}
