package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"davit/internal/logevent"
)

// UploadImage reads an image from r, flattens it, looks at what it says of
// itself and keeps it. ErrTooLarge if it passes the limit of the server or of one
// of its device types: nothing beyond the limit is read. ErrInvalid for an empty
// or corrupt file, ErrConflict if the number that its version is to have does not
// fit, ErrNoSpace if the disk is full; then nothing is kept. The same
// content uploaded twice makes two images that share their bytes on disk; the
// second one's warnings name the first.
func (s *Service) UploadImage(ctx context.Context, n NewImage, r io.Reader) (Image, error) {
	if err := n.validate(); err != nil {
		return Image{}, err
	}
	src := source{Reader: r, format: n.Format, name: n.FileName}
	if err := s.store.View(ctx, func(rd Reader) (err error) {
		src.limit, err = s.fits(rd, n.ImageType, n.DeviceTypes)
		return err
	}); err != nil {
		return Image{}, err
	}
	var rec Image
	err := s.receive(ctx, src, func(f *received) error {
		_, err := s.commit(ctx, func(t *txn) error {
			if err := t.once(ctx); err != nil {
				return err
			}
			// The types may have changed during the upload.
			limit, err := s.fits(t, n.ImageType, n.DeviceTypes)
			if err != nil {
				return err
			}
			if err := limit.admits(f.size); err != nil {
				return err
			}
			u := f.upload(t.now)
			rec = u.image(n)
			return t.addImage(&rec, n.VersionID)
		})
		return err
	})
	if err != nil {
		return Image{}, err
	}
	s.logImage(&rec)
	return rec, nil
}

// record is what people say of an image.
func (n NewImage) record() Image {
	return Image{
		ID: newID("img-"), ImageType: n.ImageType, DeviceTypes: sorted(n.DeviceTypes), Version: n.Version,
		Name: n.Name, MinVersion: n.MinVersion, Description: n.Description, Tags: sorted(n.Tags), FileName: n.FileName,
	}
}

// addImage writes a new image, with the number of its version, which may be
// wanted, and looks for what is to be warned of.
func (t *txn) addImage(rec *Image, want uint64) (err error) {
	rec.Revision, rec.CreatedAt = 1, t.now
	if rec.VersionID, err = t.versionID(rec.ImageType, rec.Version, want); err != nil {
		return err
	}
	if err := rec.warn(t); err != nil {
		return err
	}
	if err := put(t, nil, rec); err != nil {
		return err
	}
	return t.audit("create", KindImage, rec.ID, nil, rec)
}

func (s *Service) logImage(rec *Image) {
	s.log.Info("image created", "event", logevent.ImageCreated, slog.String("image", rec.ID), slog.String("image_type", rec.ImageType),
		slog.String("version", rec.Version), slog.Uint64("version_id", rec.VersionID), slog.Uint64("size", rec.Size), slog.String("sha256", rec.SHA256),
		slog.Int("warnings", len(rec.Warnings)))
}

// sizeLimit is the largest size allowed and a phrase that says whose limit it is.
type sizeLimit struct {
	bytes uint64
	whose string
}

func (l sizeLimit) admits(size uint64) error {
	if size > l.bytes {
		return fmt.Errorf("the image is %w: it has %d bytes, the limit of %s is %d bytes", ErrTooLarge, size, l.whose, l.bytes)
	}
	return nil
}

// fits checks that every device type takes the image type and returns the
// smallest limit.
func (s *Service) fits(r Reader, imageType string, deviceTypes []string) (sizeLimit, error) {
	limit := sizeLimit{s.maxImageSize, "the server"}
	if _, err := needField[ImageType](r, "image_type", "image type", imageType); err != nil {
		return limit, err
	}
	for i, id := range deviceTypes {
		field := element("device_types", i)
		dt, err := needField[DeviceType](r, field, "device type", id)
		if err != nil {
			return limit, err
		}
		e, ok := dt.enabled(imageType)
		if !ok {
			return limit, invalidField(field, "device type %q does not take image type %q; enable it there first", id, imageType)
		}
		if e.SizeLimit > 0 && e.SizeLimit < limit.bytes {
			limit = sizeLimit{e.SizeLimit, fmt.Sprintf("device type %q for image type %q", id, imageType)}
		}
	}
	return limit, nil
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}

// UpdateImage changes what the patch names. ErrConflict if it would change the
// version or min version of an image that a job has used, and if it would
// archive, or take a device type from, an image that a job needs which has not ended:
// the targets of that job were chosen by the device types. The warnings are made anew.
func (s *Service) UpdateImage(ctx context.Context, id string, p ImagePatch) (Image, error) {
	if err := p.validate(); err != nil {
		return Image{}, err
	}
	var rec Image
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Image](t, "image", id)
		if err != nil {
			return err
		}
		if err := p.check("image", id, old.Revision); err != nil {
			return err
		}
		rec = *old
		p.apply(t, &rec)
		if err := s.checkImageEdit(t, old, &rec); err != nil {
			return err
		}
		rec.Revision = old.Revision + 1
		if rec.Version != old.Version {
			if rec.VersionID, err = t.versionID(rec.ImageType, rec.Version, 0); err != nil {
				return err
			}
		}
		if err := rec.warn(t); err != nil {
			return err
		}
		if err := put(t, old, &rec); err != nil {
			return err
		}
		if !slices.Equal(old.DeviceTypes, rec.DeviceTypes) {
			if err := t.rematch(indexJobByImage, id); err != nil {
				return err
			}
		}
		return t.audit(imageAction(old, &rec), KindImage, id, old, &rec)
	})
	return rec, err
}

func imageAction(old, rec *Image) string {
	switch {
	case old.ArchivedAt.IsZero() && !rec.ArchivedAt.IsZero():
		return "archive"
	case !old.ArchivedAt.IsZero() && rec.ArchivedAt.IsZero():
		return "restore"
	}
	return "update"
}

func (p ImagePatch) apply(t *txn, rec *Image) {
	set(&rec.Name, p.Name)
	set(&rec.Version, p.Version)
	set(&rec.MinVersion, p.MinVersion)
	set(&rec.Description, p.Description)
	if p.DeviceTypes != nil {
		rec.DeviceTypes = sorted(*p.DeviceTypes)
	}
	if p.Tags != nil {
		rec.Tags = sorted(*p.Tags)
	}
	switch {
	case p.Archived == nil:
	case !*p.Archived:
		rec.ArchivedAt = time.Time{}
	case rec.ArchivedAt.IsZero():
		rec.ArchivedAt = t.now
	}
}

// checkImageEdit says whether old may become rec.
func (s *Service) checkImageEdit(r Reader, old, rec *Image) error {
	limit, err := s.fits(r, rec.ImageType, rec.DeviceTypes)
	if err != nil {
		return err
	}
	if !slices.Equal(old.DeviceTypes, rec.DeviceTypes) {
		if err := limit.admits(rec.Size); err != nil {
			return err
		}
	}
	if old.Version != rec.Version || old.MinVersion != rec.MinVersion {
		job, err := anyUnder(r, indexJobByImage, rec.ID)
		if err != nil {
			return err
		}
		if job != "" {
			return fmt.Errorf("image %q: %w: job %q has used it, so its version and min version stay; upload the file as another image", rec.ID, ErrConflict, job)
		}
	}
	if err := rec.keepsManifest(old); err != nil {
		return err
	}
	doing := ""
	for _, dt := range old.DeviceTypes {
		if !slices.Contains(rec.DeviceTypes, dt) {
			doing = fmt.Sprintf("device type %q cannot be taken from it", dt)
		}
	}
	if imageAction(old, rec) == "archive" {
		doing = "it cannot be archived"
	}
	if doing == "" {
		return nil
	}
	job, err := openJob(r, rec.ID)
	if err == nil && job != "" {
		err = fmt.Errorf("image %q: %w: %s while job %q has not ended; wait for the job or cancel it", rec.ID, ErrConflict, doing, job)
	}
	return err
}

// openJob returns a job with the image that has not ended, or "". It reads the
// jobs of the image.
func openJob(r Reader, image string) (string, error) {
	var names []string
	if err := r.Scan(indexJobByImage, prefixOf(image), nil, func(_, name []byte) bool {
		names = append(names, string(name))
		return true
	}); err != nil {
		return "", err
	}
	for _, name := range names {
		p, err := need[progressRecord](r, "job", name)
		if err != nil {
			return "", err
		}
		if p.State != JobCompleted && p.State != JobCanceled || p.unfinished() > 0 {
			return name, nil
		}
	}
	return "", nil
}

// Image returns one image.
func (s *Service) Image(ctx context.Context, id string) (Image, error) {
	return one[Image](ctx, s.store, "image", id)
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

// DeleteImage deletes an image that no job uses, and its bytes and those of its
// manifest if no other image and no upload has the same.
func (s *Service) DeleteImage(ctx context.Context, id string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	var sums []string
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[Image](t, "image", id)
		if err != nil {
			return err
		}
		sums = rec.blobs()
		if err := unused(t, "image", id, "job", indexJobByImage); err != nil {
			return err
		}
		if err := remove(t, rec); err != nil {
			return err
		}
		if err := t.forgetDuplicate(rec); err != nil {
			return err
		}
		return t.audit("delete", KindImage, id, rec, nil)
	})
	if err != nil {
		return err
	}
	for _, sum := range sums {
		err = errors.Join(err, s.dropUnused(context.WithoutCancel(ctx), sum))
	}
	return err
}
