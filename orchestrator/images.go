package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// UploadImage reads an image from r, flattens it and keeps it. ErrTooLarge if
// it passes the limit of the server or of one of its device types: nothing
// beyond the limit is read. ErrInvalid for an empty or corrupt file, ErrNoSpace
// if the disk is full; then nothing is kept. The same content uploaded twice
// makes two images that share their bytes on disk.
func (s *Service) UploadImage(ctx context.Context, n NewImage, r io.Reader) (Image, error) {
	if err := n.validate(); err != nil {
		return Image{}, err
	}
	var limit sizeLimit
	if err := s.store.View(ctx, func(rd Reader) (err error) {
		limit, err = s.fits(rd, n)
		return err
	}); err != nil {
		return Image{}, err
	}
	blob, err := s.blobs.Create(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("keep image: %w", err)
	}
	defer blob.Abort()
	info, err := flatten(ctx, r, blob, n, limit)
	if err != nil {
		return Image{}, err
	}
	rec := Image{
		ID: newID("img-"), ImageType: n.ImageType, DeviceTypes: sorted(n.DeviceTypes), Version: n.Version,
		MinVersion: n.MinVersion, Description: n.Description, Tags: sorted(n.Tags), Format: info.Format,
		StartAddress: info.StartAddress, EntryAddress: info.EntryAddress, FileName: n.FileName,
	}
	for _, region := range info.LeftOut {
		rec.LeftOut = append(rec.LeftOut, region.String())
	}
	return rec, s.keepImage(ctx, &rec, n, blob)
}

// keepImage puts the blob in its place and then writes the record. A blob
// whose record was not written is removed again; what a crash leaves between
// the two is swept by Run.
func (s *Service) keepImage(ctx context.Context, rec *Image, n NewImage, blob BlobWriter) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	sum, size, err := blob.Commit()
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	rec.SHA256, rec.Size = sum, uint64(size)
	_, err = s.commit(ctx, func(t *txn) error {
		rec.CreatedAt = t.now
		if _, err := s.fits(t, n); err != nil {
			return err
		}
		return put(t, nil, rec)
	})
	if err != nil {
		return errors.Join(err, s.dropUnused(context.WithoutCancel(ctx), sum))
	}
	s.log.Info("image uploaded", slog.String("image", rec.ID), slog.String("type", rec.ImageType),
		slog.String("version", rec.Version), slog.Uint64("size", rec.Size), slog.String("sha256", rec.SHA256))
	return nil
}

// sizeLimit is the largest size allowed and a phrase that says whose limit it is.
type sizeLimit struct {
	bytes uint64
	whose string
}

// fits checks that every device type takes the image type and returns the
// smallest limit.
func (s *Service) fits(r Reader, n NewImage) (sizeLimit, error) {
	limit := sizeLimit{s.maxImageSize, "the server"}
	if _, err := need[ImageType](r, "image type", n.ImageType); err != nil {
		return limit, err
	}
	for _, id := range n.DeviceTypes {
		dt, err := need[DeviceType](r, "device type", id)
		if err != nil {
			return limit, err
		}
		e, ok := dt.enabled(n.ImageType)
		if !ok {
			return limit, invalid("device type %q does not take image type %q; enable it there first", id, n.ImageType)
		}
		if e.SizeLimit > 0 && e.SizeLimit < limit.bytes {
			limit = sizeLimit{e.SizeLimit, fmt.Sprintf("device type %q for image type %q", id, n.ImageType)}
		}
	}
	return limit, nil
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}

// Image returns one image.
func (s *Service) Image(ctx context.Context, id string) (Image, error) {
	return one[Image](ctx, s.store, "image", id)
}

// Images lists images by id. A filter by tag, image type or device type reads
// an index; further ones read the images that it holds.
func (s *Service) Images(ctx context.Context, f ImageFilter, p Page) ([]Image, string, error) {
	for field, id := range map[string]string{"tag": f.Tag, "image_type": f.ImageType, "device_type": f.DeviceType} {
		if id != "" {
			if err := checkID(field, id); err != nil {
				return nil, "", err
			}
		}
	}
	index, key := indexImageByTag, f.Tag
	switch {
	case f.Tag != "":
	case f.ImageType != "":
		index, key = indexImageByType, f.ImageType
	case f.DeviceType != "":
		index, key = indexImageByDeviceType, f.DeviceType
	default:
		return list[Image](ctx, s.store, p)
	}
	var items []Image
	var next string
	err := s.store.View(ctx, func(r Reader) (err error) {
		items, next, err = listIndex(r, index, key, p, func(m *Image) bool {
			return (f.ImageType == "" || m.ImageType == f.ImageType) &&
				(f.DeviceType == "" || slices.Contains(m.DeviceTypes, f.DeviceType))
		})
		return err
	})
	return items, next, err
}

// OpenImage returns an image and its bytes, which the caller closes.
func (s *Service) OpenImage(ctx context.Context, id string) (Image, Blob, error) {
	m, err := s.Image(ctx, id)
	if err != nil {
		return m, nil, err
	}
	b, err := s.blobs.Open(ctx, m.SHA256)
	return m, b, err
}

// DeleteImage deletes an image that no job uses, and its bytes if no other
// image has the same.
func (s *Service) DeleteImage(ctx context.Context, id string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	var sum string
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[Image](t, "image", id)
		if err != nil {
			return err
		}
		sum = rec.SHA256
		if err := unused(t, "image", id, "job", indexJobByImage); err != nil {
			return err
		}
		return remove(t, rec)
	})
	if err != nil {
		return err
	}
	return s.dropUnused(context.WithoutCancel(ctx), sum)
}

// dropUnused removes a blob that no image refers to. blobMu is held.
func (s *Service) dropUnused(ctx context.Context, sum string) error {
	var image string
	err := s.store.View(ctx, func(r Reader) (err error) {
		image, err = anyUnder(r, indexImageByBlob, sum)
		return err
	})
	if err != nil || image != "" {
		return err
	}
	return s.blobs.Remove(ctx, sum)
}

// sweepBlobs removes the blobs that no image refers to.
func (s *Service) sweepBlobs(ctx context.Context) error {
	var sums []string
	if err := s.blobs.List(ctx, func(sum string, _ int64) bool {
		sums = append(sums, sum)
		return true
	}); err != nil {
		return err
	}
	for _, sum := range sums {
		if err := s.sweepBlob(ctx, sum); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) sweepBlob(ctx context.Context, sum string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	return s.dropUnused(ctx, sum)
}
