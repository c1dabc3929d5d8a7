package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
)

// UploadKept is how long an upload waits to become an image.
const UploadKept = 24 * time.Hour

// uploadSweep is how often uploads that nobody used are looked for.
const uploadSweep = time.Hour

// maxWaiting is how many uploads of one user wait to become images: with one more, the
// oldest is thrown away, so that uploads which nobody uses do not fill the disk.
const maxWaiting = 16

// uploadsPerPart is how many uploads one transaction throws away.
const uploadsPerPart = 256

func (u *Upload) table() Table       { return tableUploads }
func (u *Upload) id() string         { return u.ID }
func (u *Upload) counters() []string { return nil }
func (u *Upload) entries() []entry {
	return []entry{{indexUploadByBlob, keyOf(u.SHA256, u.ID), keyOf(u.ID)}}
}

// StageUpload reads a file from r, flattens it, looks at what it says of itself
// and keeps it for UploadKept, so that CreateImage can make an image of it; of the
// uploads of one user, the oldest makes room for the seventeenth. The
// only limit of its size is the server's; those of device types are looked at when
// it becomes an image. Errors are those of UploadImage.
func (s *Service) StageUpload(ctx context.Context, n NewUpload, r io.Reader) (Upload, error) {
	if err := n.validate(); err != nil {
		return Upload{}, err
	}
	src := source{Reader: r, format: n.Format, name: n.FileName, limit: sizeLimit{s.maxImageSize, "the server"}}
	var rec Upload
	var displaced []string // SHA-256 of uploads that made room
	err := s.receive(ctx, src, func(f *received) error {
		_, err := s.commit(ctx, func(t *txn) error {
			if err := t.once(ctx); err != nil {
				return err
			}
			rec = f.upload(t.now)
			rec.User = t.actor.user()
			var err error
			if displaced, err = t.makeRoom(rec.User); err != nil {
				return err
			}
			same, err := sameContent(t, rec.SHA256, "")
			if err != nil {
				return err
			}
			rec.Duplicates = same.list()
			if err := put(t, nil, &rec); err != nil {
				return err
			}
			return t.audit("create", KindUpload, rec.ID, nil, &rec)
		})
		return err
	})
	if err != nil {
		return Upload{}, err
	}
	s.drop(ctx, displaced)
	s.log.Info("file uploaded", "event", logevent.UploadDone, slog.String("upload", rec.ID), slog.Uint64("size", rec.Size), slog.String("sha256", rec.SHA256))
	return rec, nil
}

// makeRoom throws away the oldest upload of a user who has as many as may wait, and
// returns the SHA-256 of what it was about. It reads all uploads.
func (t *txn) makeRoom(user string) ([]string, error) {
	var waiting []*Upload
	if err := eachUpload(t, func(u *Upload) bool {
		if u.User == user {
			waiting = append(waiting, u)
		}
		return true
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(waiting, func(a, b *Upload) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var sums []string
	for _, u := range waiting[:max(0, len(waiting)-maxWaiting+1)] {
		if err := errors.Join(remove(t, u), t.audit("delete", KindUpload, u.ID, u, nil)); err != nil {
			return nil, err
		}
		sums = append(sums, u.SHA256)
	}
	return sums, nil
}

// drop removes bytes whose uploads are gone, unless something else has the same.
func (s *Service) drop(ctx context.Context, sums []string) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	for _, sum := range sums {
		if err := s.dropUnused(context.WithoutCancel(ctx), sum); err != nil {
			s.log.Warn("bytes that may be unused stay until the next start", "event", logevent.BytesNotFreed, slog.String("sha256", sum), slog.Any("error", err))
		}
	}
}

// upload is the record of what was received.
func (f *received) upload(now time.Time) Upload {
	return Upload{
		ID: newID("up-"), FileName: f.name, Format: f.info.Format, Size: f.size, SHA256: f.sum,
		StartAddress: f.info.StartAddress, EntryAddress: f.info.EntryAddress, LeftOut: f.leftOut(),
		Detected: f.detected, CreatedAt: now, ExpiresAt: now.Add(UploadKept),
	}
}

// expired says whether the time of an upload is over. So is that of one that has longer than any is given, because the
// clock was set back since, or was ahead.
func (u *Upload) expired(now time.Time) bool {
	return !now.Before(u.ExpiresAt) || clock.ToCome(u.CreatedAt, now)
}

// needUpload is need for an upload that must not have expired.
func needUpload(r Reader, id string, now time.Time) (*Upload, error) {
	rec, err := find[Upload](r, id)
	switch {
	case err != nil:
		return nil, err
	case rec == nil:
		return nil, fmt.Errorf("upload %q: %w: it was used, discarded or thrown away after %v; upload the file again", id, ErrNotFound, UploadKept)
	case clock.ToCome(rec.CreatedAt, now):
		return nil, fmt.Errorf("upload %q: %w: the clock was set back since it was received; upload the file again", id, ErrNotFound)
	case rec.expired(now):
		return nil, fmt.Errorf("upload %q: %w: it expired at %s; upload the file again", id, ErrNotFound, rec.ExpiresAt.Format(time.RFC3339))
	}
	return rec, nil
}

// Upload returns an upload that has not expired, with the images that have the
// same content at this moment.
func (s *Service) Upload(ctx context.Context, id string) (Upload, error) {
	var out Upload
	err := s.store.View(ctx, func(r Reader) error {
		rec, err := needUpload(r, id, s.now())
		if err != nil {
			return err
		}
		same, err := sameContent(r, rec.SHA256, "")
		if err != nil {
			return err
		}
		out = *rec
		out.Duplicates = same.list()
		return nil
	})
	return out, err
}

// DiscardUpload throws an upload away, and its bytes if no image has the same.
func (s *Service) DiscardUpload(ctx context.Context, id string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	var sum string
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[Upload](t, "upload", id)
		if err != nil {
			return err
		}
		sum = rec.SHA256
		if err := remove(t, rec); err != nil {
			return err
		}
		return t.audit("delete", KindUpload, id, rec, nil)
	})
	if err != nil {
		return err
	}
	return s.dropUnused(context.WithoutCancel(ctx), sum)
}

// CreateImage makes an image of an upload, which is used up by it. What it
// checks, and the errors, are those of UploadImage; ErrNotFound if the upload does
// not exist (any more), ErrTooLarge if it is over the limit of a device type.
func (s *Service) CreateImage(ctx context.Context, upload string, n NewImage) (Image, error) {
	if err := n.validate(); err != nil {
		return Image{}, err
	}
	var rec Image
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		u, err := needUpload(t, upload, t.now)
		if err != nil {
			return err
		}
		if n.Format != "" && n.Format != "auto" && n.Format != u.Format {
			return invalidField("format", "%q was asked for, but the file was uploaded as %q; upload it again as the other", n.Format, u.Format)
		}
		limit, err := s.fits(t, n.ImageType, n.DeviceTypes)
		if err != nil {
			return err
		}
		if err := limit.admits(u.Size); err != nil {
			return err
		}
		rec = u.image(n)
		if err := t.addImage(&rec, n.VersionID); err != nil {
			return err
		}
		return remove(t, u)
	})
	if err != nil {
		return Image{}, err
	}
	s.logImage(&rec)
	return rec, nil
}

// image is the record of an image that is made of the upload.
func (u *Upload) image(n NewImage) Image {
	rec := n.record()
	if rec.FileName == "" {
		rec.FileName = u.FileName
	}
	rec.Size, rec.SHA256, rec.Format = u.Size, u.SHA256, u.Format
	rec.StartAddress, rec.EntryAddress, rec.LeftOut, rec.Detected = u.StartAddress, u.EntryAddress, u.LeftOut, u.Detected
	return rec
}

// uploadLoop throws away the uploads that nobody used, at once and every hour.
func (s *Service) uploadLoop(ctx context.Context) {
	every := time.NewTicker(uploadSweep)
	defer every.Stop()
	for {
		if err := s.sweepUploads(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("expired uploads are not thrown away; it is tried again in an hour", "event", logevent.UploadsNotExpired, slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// sweepUploads throws away the uploads that have expired. It reads all uploads.
func (s *Service) sweepUploads(ctx context.Context) error {
	for {
		n, err := s.sweepPart(ctx)
		if err != nil || n < uploadsPerPart {
			return err
		}
	}
}

func (s *Service) sweepPart(ctx context.Context) (int, error) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	var expired []*Upload
	if err := s.store.View(ctx, func(r Reader) (err error) {
		expired, err = expiredUploads(r, s.now())
		return err
	}); err != nil || len(expired) == 0 {
		return 0, err
	}
	n := 0
	_, err := s.commit(ctx, func(t *txn) error {
		n = 0
		for _, u := range expired {
			// It may have become an image meanwhile.
			rec, err := find[Upload](t, u.ID)
			if err != nil {
				return err
			}
			if rec == nil {
				continue
			}
			if err := remove(t, rec); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.log.Info("uploads thrown away that were not used in time", "event", logevent.UploadsExpired, slog.Int("uploads", n))
	for _, u := range expired {
		err = errors.Join(err, s.dropUnused(context.WithoutCancel(ctx), u.SHA256))
	}
	return len(expired), err
}

func expiredUploads(r Reader, now time.Time) ([]*Upload, error) {
	var expired []*Upload
	err := eachUpload(r, func(rec *Upload) bool {
		if rec.expired(now) {
			expired = append(expired, rec)
		}
		return len(expired) < uploadsPerPart
	})
	return expired, err
}

// eachUpload calls fn for every upload until it returns false.
func eachUpload(r Reader, fn func(*Upload) bool) error {
	var failed error
	err := r.Scan(tableUploads, nil, nil, func(k, v []byte) bool {
		rec := &Upload{}
		if failed = decode(v, rec); failed != nil {
			failed = fmt.Errorf("record %s %q does not decode: %w", tableUploads, k, failed)
			return false
		}
		return fn(rec)
	})
	return errors.Join(err, failed)
}
