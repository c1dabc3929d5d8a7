package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"davit/schemas"
)

// Reasons for which a fetch is refused, as metrics label them.
const (
	refusedMalformed = "malformed"
	refusedNoOffer   = "no_execution"
	refusedBeyond    = "beyond_image"
	refusedStore     = "store"
)

// Fetch queues the chunks that a device asks for and returns at once. It is
// refused with ErrInvalid if it asks for bytes beyond the image, and with
// ErrConflict unless the device has an execution under way for the image. The
// service keeps f.Ranges.
func (s *Service) Fetch(ctx context.Context, device string, f schemas.Fetch) error {
	if err := f.Validate(); err != nil {
		return s.refuse(device, refusedMalformed, invalid("fetch: %w", err))
	}
	e, err := s.granted(ctx, device, f.Image)
	if err != nil {
		return s.refuse(device, refusedStore, err)
	}
	if e == nil {
		return s.refuse(device, refusedNoOffer, fmt.Errorf("fetch of image %q: %w: the device has no execution under way for it", f.Image, ErrConflict))
	}
	// Ranges are in ascending order.
	if end := f.Ranges[len(f.Ranges)-1].End(); end > e.BytesTotal {
		return s.refuse(device, refusedBeyond, invalid("fetch up to byte %d of image %q, which has %d", end, f.Image, e.BytesTotal))
	}
	tag, _ := schemas.TagOf(e.SHA256)
	s.metrics.fetched()
	s.streamer.add(device, transfer{
		sum: e.SHA256, image: tag, tag: f.Tag, size: e.BytesTotal, chunk: uint64(f.Chunk), ranges: f.Ranges,
	})
	return nil
}

// granted returns the device's execution under way for the image, if any.
func (s *Service) granted(ctx context.Context, device, image string) (*Tracked, error) {
	var granted *Tracked
	err := s.store.View(ctx, func(r Reader) error {
		st, _, err := load(r, device, nil)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(st.Executions, func(t Tracked) bool { return t.open() && t.Image == image })
		if i >= 0 {
			granted = &st.Executions[i]
		}
		return nil
	})
	return granted, err
}

func (s *Service) refuse(device, reason string, err error) error {
	s.metrics.fetchRefused(reason)
	if s.refused.Allow(reason + " " + device) {
		s.log.Warn("fetch refused", slog.String("device", device), slog.String("reason", reason), slog.Any("error", err))
	}
	return err
}
