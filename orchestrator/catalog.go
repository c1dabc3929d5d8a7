package orchestrator

import (
	"context"
	"fmt"
	"slices"
)

// CreateImageType makes an image type. ErrExists if the id is taken,
// ErrConflict if there are MaxImageTypes already, ErrInvalid otherwise.
func (s *Service) CreateImageType(ctx context.Context, n NewImageType) (ImageType, error) {
	if err := n.validate(); err != nil {
		return ImageType{}, err
	}
	var rec ImageType
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		rec = ImageType{ID: n.ID, Name: nameOr(n.Name, n.ID), Description: n.Description, Revision: 1, CreatedAt: t.now}
		if err := vacant[ImageType](t, "image type", n.ID); err != nil {
			return err
		}
		count := 0
		if err := t.Scan(tableImageTypes, nil, nil, func(_, _ []byte) bool { count++; return true }); err != nil {
			return err
		}
		if count >= MaxImageTypes {
			return fmt.Errorf("image type %q: %w: there are %d image types already, at most %d are allowed; delete one that is not used",
				n.ID, ErrConflict, count, MaxImageTypes)
		}
		if err := put(t, nil, &rec); err != nil {
			return err
		}
		return t.audit("create", KindImageType, rec.ID, nil, &rec)
	})
	return rec, err
}

// UpdateImageType changes name or description; the id never changes.
func (s *Service) UpdateImageType(ctx context.Context, id string, p ImageTypePatch) (ImageType, error) {
	if err := checkNames(p.Name, p.Description); err != nil {
		return ImageType{}, err
	}
	var rec ImageType
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[ImageType](t, "image type", id)
		if err != nil {
			return err
		}
		if err := p.check("image type", id, old.Revision); err != nil {
			return err
		}
		rec = *old
		rec.Revision++
		if p.Name != nil {
			rec.Name = nameOr(*p.Name, id)
		}
		set(&rec.Description, p.Description)
		if err := put(t, old, &rec); err != nil {
			return err
		}
		return t.audit("update", KindImageType, id, old, &rec)
	})
	return rec, err
}

// DeleteImageType deletes an image type that no device type and no image uses.
func (s *Service) DeleteImageType(ctx context.Context, id string) error {
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[ImageType](t, "image type", id)
		if err != nil {
			return err
		}
		if err := unused(t, "image type", id, "device type", indexDeviceTypeByImageType); err != nil {
			return err
		}
		if err := unused(t, "image type", id, "image", indexImageByType); err != nil {
			return err
		}
		if err := remove(t, rec); err != nil {
			return err
		}
		return t.audit("delete", KindImageType, id, rec, nil)
	})
	return err
}

// ImageType returns one image type.
func (s *Service) ImageType(ctx context.Context, id string) (ImageType, error) {
	return one[ImageType](ctx, s.store, "image type", id)
}

// ImageTypes lists image types by id.
func (s *Service) ImageTypes(ctx context.Context, p Page) ([]ImageType, string, error) {
	return list[ImageType](ctx, s.store, p)
}

// CreateDeviceType makes a device type.
func (s *Service) CreateDeviceType(ctx context.Context, n NewDeviceType) (DeviceType, error) {
	rec := DeviceType{
		ID: n.ID, Name: nameOr(n.Name, n.ID), Description: n.Description, Dialect: n.Dialect, AttributeSize: n.AttributeSize,
		ImageTypes: slices.Clone(n.ImageTypes), HelloTimeout: n.HelloTimeout, AnswerTimeout: n.AnswerTimeout, VerdictTimeout: n.VerdictTimeout,
		BootTimeout: n.BootTimeout, VersionTimeout: n.VersionTimeout, RequireSignature: n.RequireSignature, Revision: 1,
	}
	if err := s.checkDeviceType(&rec); err != nil {
		return DeviceType{}, err
	}
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		rec.CreatedAt = t.now
		if err := vacant[DeviceType](t, "device type", n.ID); err != nil {
			return err
		}
		if err := knownImageTypes(t, rec.ImageTypes); err != nil {
			return err
		}
		if err := put(t, nil, &rec); err != nil {
			return err
		}
		return t.audit("create", KindDeviceType, rec.ID, nil, &rec)
	})
	return rec, err
}

// UpdateDeviceType changes what the patch names. It is refused if it would
// disable an image type for which the device type has images.
func (s *Service) UpdateDeviceType(ctx context.Context, id string, p DeviceTypePatch) (DeviceType, error) {
	var rec DeviceType
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[DeviceType](t, "device type", id)
		if err != nil {
			return err
		}
		if err := p.check("device type", id, old.Revision); err != nil {
			return err
		}
		rec = *old
		rec.Revision++
		p.apply(&rec)
		if err := s.checkDeviceType(&rec); err != nil {
			return err
		}
		if err := knownImageTypes(t, rec.ImageTypes); err != nil {
			return err
		}
		if err := keepsImages(t, old, &rec); err != nil {
			return err
		}
		if err := put(t, old, &rec); err != nil {
			return err
		}
		return t.audit("update", KindDeviceType, id, old, &rec)
	})
	return rec, err
}

func (p DeviceTypePatch) apply(rec *DeviceType) {
	if p.Name != nil {
		rec.Name = nameOr(*p.Name, rec.ID)
	}
	set(&rec.Description, p.Description)
	set(&rec.Dialect, p.Dialect)
	set(&rec.AttributeSize, p.AttributeSize)
	if p.ImageTypes != nil {
		rec.ImageTypes = slices.Clone(*p.ImageTypes)
	}
	set(&rec.HelloTimeout, p.HelloTimeout)
	set(&rec.AnswerTimeout, p.AnswerTimeout)
	set(&rec.VerdictTimeout, p.VerdictTimeout)
	set(&rec.BootTimeout, p.BootTimeout)
	set(&rec.VersionTimeout, p.VersionTimeout)
	set(&rec.RequireSignature, p.RequireSignature)
}

// enabled returns how the device type takes an image type.
func (t *DeviceType) enabled(imageType string) (EnabledImageType, bool) {
	i := slices.IndexFunc(t.ImageTypes, func(e EnabledImageType) bool { return e.ID == imageType })
	if i < 0 {
		return EnabledImageType{}, false
	}
	return t.ImageTypes[i], true
}

func knownImageTypes(r Reader, enabled []EnabledImageType) error {
	for i, e := range enabled {
		if _, err := needField[ImageType](r, element("image_types", i)+"/id", "image type", e.ID); err != nil {
			return err
		}
	}
	return nil
}

// keepsImages refuses to disable an image type that an image of the device
// type has. It reads the images of the device type.
func keepsImages(r Reader, old, rec *DeviceType) error {
	gone := map[string]bool{}
	for _, e := range old.ImageTypes {
		if _, ok := rec.enabled(e.ID); !ok {
			gone[e.ID] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	var ids []string
	if err := r.Scan(indexImageByDeviceType, prefixOf(rec.ID), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return true
	}); err != nil {
		return err
	}
	for _, id := range ids {
		m, err := need[Image](r, "image", id)
		if err != nil {
			return err
		}
		if gone[m.ImageType] {
			return fmt.Errorf("device type %q: %w: image type %q cannot be disabled while image %q uses it", rec.ID, ErrConflict, m.ImageType, id)
		}
	}
	return nil
}

// DeleteDeviceType deletes a device type that no device and no image uses.
func (s *Service) DeleteDeviceType(ctx context.Context, id string) error {
	_, err := s.commit(ctx, func(t *txn) error {
		rec, err := need[DeviceType](t, "device type", id)
		if err != nil {
			return err
		}
		if err := unused(t, "device type", id, "device", indexDeviceByType); err != nil {
			return err
		}
		if err := unused(t, "device type", id, "image", indexImageByDeviceType); err != nil {
			return err
		}
		if err := unused(t, "device type", id, "claim", indexClaimByDeviceType); err != nil {
			return err
		}
		if err := remove(t, rec); err != nil {
			return err
		}
		return t.audit("delete", KindDeviceType, id, rec, nil)
	})
	return err
}

// DeviceType returns one device type.
func (s *Service) DeviceType(ctx context.Context, id string) (DeviceType, error) {
	return one[DeviceType](ctx, s.store, "device type", id)
}

// DeviceTypes lists device types by id.
func (s *Service) DeviceTypes(ctx context.Context, p Page) ([]DeviceType, string, error) {
	return list[DeviceType](ctx, s.store, p)
}
