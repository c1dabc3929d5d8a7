package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"davit/schemas"
)

// Host MCUs of the afero dialect know versions by number. What each version of
// an image type has as its number is recorded once and never changes: the next
// one is higher than all before it, and none is given away again, not even when
// its images are deleted, because a device may run it for years.

// versionRecord says which number a version of an image type has.
type versionRecord struct {
	ImageType string `json:"image_type"`
	Version   string `json:"version"`
	ID        uint64 `json:"id"`
}

func (v *versionRecord) table() Table       { return tableVersions }
func (v *versionRecord) id() string         { return versionKey(v.ImageType, v.Version) }
func (v *versionRecord) counters() []string { return nil }
func (v *versionRecord) entries() []entry {
	return []entry{{indexVersionByID, numbered(v.ImageType, ^v.ID), keyOf(v.id())}}
}

func versionKey(imageType, version string) string { return string(keyOf(imageType, version)) }

// unknownMark begins the text that stands for a version of which only the
// number is known.
const unknownMark = "#"

// unknownVersion is what is shown for a version of which a host MCU reported
// the number and that no image has had: "#7". No image can have such a version.
func unknownVersion(id uint64) string { return unknownMark + strconv.FormatUint(id, 10) }

// looksUnknown says whether a version could be taken for an unknownVersion.
func looksUnknown(version string) bool {
	digits, ok := strings.CutPrefix(version, unknownMark)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// versionID returns the number of a version and allots one if it has none: the
// one wanted, or the next if want is 0. ErrConflict if the number wanted is
// another version's, and if the version has another number already.
func (t *txn) versionID(imageType, version string, want uint64) (uint64, error) {
	rec, err := find[versionRecord](t, versionKey(imageType, version))
	switch {
	case err != nil:
		return 0, err
	case rec != nil && want != 0 && want != rec.ID:
		return 0, takenID("version %q of image type %q has the number %d and keeps it; leave the number out", version, imageType, rec.ID)
	case rec != nil:
		return rec.ID, nil
	case want == 0:
		want, err = nextVersionID(t, imageType)
	default:
		err = vacantVersionID(t, imageType, want)
	}
	if err != nil {
		return 0, err
	}
	return want, put(t, nil, &versionRecord{ImageType: imageType, Version: version, ID: want})
}

// nextVersionID is one more than the highest number of the image type, but for
// those that devices report and no image explains: they run them already.
func nextVersionID(r Reader, imageType string) (uint64, error) {
	var highest uint64
	if err := r.Scan(indexVersionByID, prefixOf(imageType), nil, func(k, _ []byte) bool {
		highest = ^numberOf(k) // the index is inverted, so the first is the highest
		return false
	}); err != nil {
		return 0, err
	}
	for id := highest + 1; id <= schemas.MaxVersionID; id++ {
		device, err := anyUnder(r, indexDeviceByVersion, versionKey(imageType, unknownVersion(id)))
		if err != nil || device == "" {
			return id, err
		}
	}
	return 0, takenID("image type %q has no number left above %d; name a lower one that is free", imageType, highest)
}

func vacantVersionID(r Reader, imageType string, id uint64) error {
	version, err := versionByID(r, imageType, id)
	if err == nil && version != "" {
		err = takenID("%d is the number of version %q of image type %q; name another, or leave it out", id, version, imageType)
	}
	return err
}

// versionByID returns the version of an image type that has the number, or "".
func versionByID(r Reader, imageType string, id uint64) (string, error) {
	key, err := r.Get(indexVersionByID, numbered(imageType, ^id))
	_, version, _ := strings.Cut(string(key), "\x00")
	return version, err
}

func takenID(format string, args ...any) error {
	return &FieldError{"version_id", fmt.Errorf("version_id: %w: "+format, append([]any{ErrConflict}, args...)...)}
}

// numbersPerPart is how many images get the numbers of their versions in one
// transaction.
const numbersPerPart = 256

// numberImages allots the numbers of versions that no image has yet, because the
// store is older than they are, in the order in which the images were created.
// That is no edit of theirs. It reads all images.
func (s *Service) numberImages(ctx context.Context) error {
	var images []*Image
	if err := s.store.View(ctx, func(r Reader) (err error) {
		images, err = unnumbered(r)
		return err
	}); err != nil {
		return err
	}
	slices.SortFunc(images, func(a, b *Image) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for part := range slices.Chunk(images, numbersPerPart) {
		if _, err := s.commit(ctx, func(t *txn) error {
			for _, m := range part {
				if err := t.numberImage(m.ID); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// unnumbered finds the images. One that does not decode is for davit check to
// tell of.
func unnumbered(r Reader) ([]*Image, error) {
	var images []*Image
	err := r.Scan(tableImages, nil, nil, func(_, v []byte) bool {
		m := &Image{}
		if decode(v, m) == nil && m.VersionID == 0 {
			images = append(images, m)
		}
		return true
	})
	return images, err
}

// numberImage allots the number of an image's version, unless the image was
// deleted meanwhile.
func (t *txn) numberImage(id string) error {
	old, err := find[Image](t, id)
	if err != nil || old == nil {
		return err
	}
	rec := *old
	if rec.VersionID, err = t.versionID(rec.ImageType, rec.Version, 0); err != nil {
		return err
	}
	return put(t, old, &rec)
}

// VersionIDs returns the numbers of versions by image type, as devices have
// them. A version that has none is left out.
func (s *Service) VersionIDs(ctx context.Context, versions map[string]string) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := s.store.View(ctx, func(r Reader) error {
		for imageType, version := range versions {
			rec, err := find[versionRecord](r, versionKey(imageType, version))
			if err != nil {
				return err
			}
			if rec != nil {
				out[imageType] = rec.ID
			}
		}
		return nil
	})
	return out, err
}

// versionReported translates what a host MCU of the afero dialect reports, a
// decimal number, to a version of the image type. An empty text stays one: the
// version is not known any more. What is no number was not reported.
func versionReported(r Reader, imageType, number string) (version string, ok bool, err error) {
	if number == "" {
		return "", true, nil
	}
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return "", false, nil
	}
	if version, err = versionByID(r, imageType, id); err == nil && version == "" {
		version = unknownVersion(id)
	}
	return version, true, err
}

// nameVersions puts the version in the place of each number that had none when
// the device reported it, and has one by now: what a device was flashed with may be
// registered after its first hello. Other dialects report texts, whatever they look like.
func nameVersions(r Reader, deviceType string, versions map[string]string) error {
	for imageType, v := range versions {
		if !looksUnknown(v) {
			continue
		}
		dt, err := need[DeviceType](r, "device type", deviceType)
		if err != nil || dt.Dialect != DialectAfero {
			return err
		}
		named, ok, err := versionReported(r, imageType, strings.TrimPrefix(v, unknownMark))
		if err != nil {
			return err
		}
		if ok {
			versions[imageType] = named
		}
	}
	return nil
}

// versionsOf translates what a hello reports, by version property, to versions
// by image type. It costs O(image types of the device type).
func (t *DeviceType) versionsOf(r Reader, properties map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(t.ImageTypes))
	for _, e := range t.ImageTypes {
		v, ok := properties[e.Property()]
		if ok && t.Dialect == DialectAfero {
			var err error
			if v, ok, err = versionReported(r, e.ID, v); err != nil {
				return nil, err
			}
		}
		if ok {
			out[e.ID] = v
		}
	}
	return out, nil
}

// Property is what the host MCU reports the version of the image type by: its
// version property, or in the afero dialect the number of the attribute, in
// decimal.
func (e EnabledImageType) Property() string {
	if e.NumericType != 0 {
		return strconv.Itoa(e.Attribute())
	}
	return e.VersionProperty
}

// Attribute is the number of the attribute that reports the version in the
// afero dialect; 0 in others.
func (e EnabledImageType) Attribute() int {
	if e.NumericType == 0 {
		return 0
	}
	return firstVersionAttribute + e.NumericType
}

// firstVersionAttribute and the number of an image type make the attribute
// that reports its version.
const firstVersionAttribute = 2000
