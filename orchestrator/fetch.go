package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"davit/internal/logevent"
	"davit/internal/trace"
	"davit/schemas"
)

// Reasons for which a fetch is refused, as metrics label them.
const (
	refusedMalformed = "malformed"
	refusedNoOffer   = "no_execution"
	refusedBeyond    = "beyond_image"
	refusedStore     = "store"
)

// Ask is a fetch that a device makes: what MayFetch gives, so that Fetch need not look for
// the device again, or no more than the device's name. It is used once, and soon.
type Ask struct {
	Device string
	at     time.Time // when it came
	flow   *flow     // the device's then, which may be gone; nil if it was not looked for
	grant  *grant    // the flow's then
}

// MayFetch says whether a fetch of the device is worth reading: it is not while
// the device asks faster than it is answered (mayAsk). It counts as one that was
// made, and costs next to nothing. from is as for Fetch.
func (s *Service) MayFetch(device string, from Session) (Ask, bool) {
	return s.streamer.mayAsk(device, from)
}

// Fetch queues the chunks that a device asks for and returns at once: of an image, or
// of its signed manifest, which is fetched by its SHA-256 and never streamed to
// several. It is refused with ErrInvalid if it asks for bytes beyond the end, and with
// ErrConflict unless the device has an execution under way for the image. The
// service keeps f.Ranges. from is the connection that the fetch came by, if this
// process has it; the chunks go there. With nil they go through the Publisher.
func (s *Service) Fetch(ctx context.Context, ask Ask, f schemas.Fetch, from Session) error {
	device := ask.Device
	if ask.at.IsZero() {
		ask.at = time.Now()
	}
	if err := f.Validate(); err != nil {
		return s.refuse(device, refusedMalformed, invalid("fetch: %w", err))
	}
	carried := trace.CarriedBy(ctx)
	var began time.Time
	if carried.Sampled {
		began = s.now()
	}
	granted, err := s.granted(ctx, &ask, f.Image)
	switch {
	case errors.Is(err, ErrConflict):
		return s.refuse(device, refusedNoOffer, err)
	case err != nil:
		return s.refuse(device, refusedStore, err)
	}
	ask.grant = granted
	g, stream := granted.of(f.Image)
	// Ranges are in ascending order.
	if end := f.Ranges[len(f.Ranges)-1].End(); end > g.size {
		return s.refuse(device, refusedBeyond, invalid("fetch up to byte %d of image %q, which has %d", end, f.Image, g.size))
	}
	s.metrics.fetched()
	t := &transfer{
		sum: g.sum, image: g.tag, tag: f.Tag, size: g.size, chunk: uint64(f.Chunk), ranges: f.Ranges,
		awaited: uint64(f.Awaited), session: from, follow: f.Follow && stream != StreamNever, always: stream == StreamAlways,
		aside: g.manifest,
	}
	for _, r := range f.Ranges {
		t.bytes += r.Length
	}
	s.streamer.add(ctx, ask, t)
	s.fetchedIn(carried, device, f.Image, began)
	return nil
}

func (s *Service) refuse(device, reason string, err error) error {
	s.metrics.fetchRefused(reason)
	if s.refused.Allow(reason + " " + device) {
		s.log.Warn("fetch refused", "event", logevent.FetchRefused, slog.String("device", device), slog.String("reason", reason), slog.Any("error", err))
	}
	return err
}
