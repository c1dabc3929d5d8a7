package orchestrator

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"davit/schemas"
)

// Limits of free text, in bytes, and of lists.
const (
	maxName        = 128
	maxDescription = 4096
	maxTags        = 32
	maxLabels      = 32
	maxLabelValue  = 256
	maxFileName    = 255
	maxSearch      = 256
	maxHostTime    = 7 * 24 * time.Hour
	maxEnabled     = MaxImageTypes
	// maxImageDeviceTypes is how many device types an image may fit.
	maxImageDeviceTypes = 1000
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// The protocols of host MCUs that a device type may name.
const (
	DialectAyla  = "ayla"
	DialectAfero = "afero"
)

// Dialects are the protocols that a device type may name.
func Dialects() []string { return []string{DialectAyla, DialectAfero} }

// The numbers that the Afero dialect has for image types of the OEM's own.
const (
	MinNumericType = schemas.MinNumericType
	MaxNumericType = schemas.MaxNumericType
)

// FieldError is an ErrInvalid or an ErrConflict about one field of a request,
// or an ErrNotFound about what the field names.
type FieldError struct {
	// Field is the name of the field as it stands in JSON; elements of lists
	// and members of objects follow after a slash: "image_types/2/id".
	Field string
	err   error
}

// Error implements error.
func (e *FieldError) Error() string { return e.err.Error() }

// Unwrap leads to ErrInvalid, ErrConflict or ErrNotFound.
func (e *FieldError) Unwrap() error { return e.err }

// invalidField is invalid for one field, which the text does not have to name.
func invalidField(field, format string, args ...any) error {
	return &FieldError{field, invalid(strings.ReplaceAll(field, "%", "%%")+": "+format, args...)}
}

// element is the path of an element of a list.
func element(list string, i int) string { return list + "/" + strconv.Itoa(i) }

// needField is need for a record that a field of a request names.
func needField[T any, P stored[T]](r Reader, field, what, id string) (P, error) {
	p, err := need[T, P](r, what, id)
	if errors.Is(err, ErrNotFound) {
		err = &FieldError{field, err}
	}
	return p, err
}

// InvalidField is an ErrInvalid about one field, for packages that add records
// of their own to the store.
func InvalidField(field, format string, args ...any) error {
	return invalidField(field, format, args...)
}

func checkID(field, id string) error {
	if err := schemas.ValidateID(id); err != nil {
		return invalidField(field, "%w", err)
	}
	return nil
}

// checkText accepts UTF-8 of at most limit bytes; line breaks only where lines
// are allowed.
func checkText(field, s string, limit int, lines bool) error {
	if len(s) > limit {
		return invalidField(field, "%d bytes, at most %d are allowed", len(s), limit)
	}
	if !utf8.ValidString(s) {
		return invalidField(field, "not UTF-8")
	}
	i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && !(lines && (r == '\n' || r == '\r' || r == '\t')) })
	if i >= 0 {
		return invalidField(field, "a control character at byte %d", i)
	}
	return nil
}

func checkNames(name, description *string) error {
	if name != nil {
		if err := checkText("name", *name, maxName, false); err != nil {
			return err
		}
	}
	if description != nil {
		return checkText("description", *description, maxDescription, true)
	}
	return nil
}

func (n NewImageType) validate() error {
	if err := checkID("id", n.ID); err != nil {
		return err
	}
	return checkNames(&n.Name, &n.Description)
}

// checkDeviceType checks a device type as it is to be stored and fills in the
// version properties that were left out.
func (s *Service) checkDeviceType(t *DeviceType) error {
	if err := checkID("id", t.ID); err != nil {
		return err
	}
	if err := checkNames(&t.Name, &t.Description); err != nil {
		return err
	}
	if !slices.Contains(Dialects(), t.Dialect) {
		return invalidField("dialect", "%q is not the protocol of a host MCU that davit knows; name one of %s", t.Dialect, strings.Join(Dialects(), ", "))
	}
	for _, f := range []struct {
		name string
		d    Duration
	}{
		{"hello_timeout", t.HelloTimeout}, {"answer_timeout", t.AnswerTimeout}, {"verdict_timeout", t.VerdictTimeout},
		{"boot_timeout", t.BootTimeout}, {"version_timeout", t.VersionTimeout},
	} {
		if f.d < 0 || time.Duration(f.d) > maxHostTime {
			return invalidField(f.name, "%v; allowed are 0 to %v", time.Duration(f.d), maxHostTime)
		}
	}
	if err := t.checkAttributeSize(); err != nil {
		return err
	}
	return s.checkEnabled(t)
}

// checkAttributeSize checks the size of the attribute that carries an image,
// which only the Afero dialect has.
func (t *DeviceType) checkAttributeSize() error {
	switch n := t.AttributeSize; {
	case n == 0:
		return nil
	case t.Dialect != DialectAfero:
		return invalidField("attribute_size", "only the %s dialect has an attribute that carries the image; leave it out, or set it to 0, for dialect %s", DialectAfero, t.Dialect)
	case n < schemas.MinAttributeSize || n > schemas.MaxAttributeSize:
		return invalidField("attribute_size", "%d bytes; allowed are %d to %d, and 0 for the 253 bytes that are usual", n, schemas.MinAttributeSize, schemas.MaxAttributeSize)
	}
	return nil
}

func (s *Service) checkEnabled(t *DeviceType) error {
	if len(t.ImageTypes) > maxEnabled {
		return invalidField("image_types", "%d entries, at most %d are allowed", len(t.ImageTypes), maxEnabled)
	}
	ids, properties, numbers := map[string]bool{}, map[string]string{}, map[int]string{}
	for i := range t.ImageTypes {
		e, at := &t.ImageTypes[i], element("image_types", i)
		if err := checkID(at+"/id", e.ID); err != nil {
			return err
		}
		if ids[e.ID] {
			return invalidField(at+"/id", "image type %q is named twice", e.ID)
		}
		ids[e.ID] = true
		var err error
		if t.Dialect == DialectAfero {
			err = e.checkNumber(at, numbers)
		} else {
			err = e.checkProperty(at, t.Dialect, properties)
		}
		if err != nil {
			return err
		}
		if e.SizeLimit > s.maxImageSize {
			return invalidField(at+"/size_limit", "%d for image type %q, the server's own limit is %d bytes", e.SizeLimit, e.ID, s.maxImageSize)
		}
	}
	return nil
}

// checkProperty checks how the version is reported in dialects that know
// properties, and fills in the property that was left out.
func (e *EnabledImageType) checkProperty(at, dialect string, taken map[string]string) error {
	if e.NumericType != 0 {
		return invalidField(at+"/numeric_type", "only the %s dialect has numbers for image types; leave it out for dialect %s", DialectAfero, dialect)
	}
	if e.VersionProperty == "" {
		e.VersionProperty = DefaultVersionProperty
	}
	if err := checkText(at+"/version_property", e.VersionProperty, schemas.MaxVersionLength, false); err != nil {
		return err
	}
	if other := taken[e.VersionProperty]; other != "" {
		return invalidField(at+"/version_property", "image types %q and %q have the same version_property %q: a report could not be told apart", other, e.ID, e.VersionProperty)
	}
	taken[e.VersionProperty] = e.ID
	return nil
}

// checkNumber checks the number by which the Afero dialect knows an image
// type: the version is reported by the attribute 2000 + number.
func (e *EnabledImageType) checkNumber(at string, taken map[int]string) error {
	if e.VersionProperty != "" {
		return invalidField(at+"/version_property", "the %s dialect has no version properties, the version is reported by attribute 2000 + numeric_type; leave it out", DialectAfero)
	}
	if e.NumericType < MinNumericType || e.NumericType > MaxNumericType {
		return invalidField(at+"/numeric_type", "%d for image type %q; the %s dialect needs a number from %d to %d for each image type",
			e.NumericType, e.ID, DialectAfero, MinNumericType, MaxNumericType)
	}
	if other := taken[e.NumericType]; other != "" {
		return invalidField(at+"/numeric_type", "image types %q and %q have the same number %d: a report could not be told apart", other, e.ID, e.NumericType)
	}
	taken[e.NumericType] = e.ID
	return nil
}

func (n NewImage) validate() error {
	if err := checkID("image_type", n.ImageType); err != nil {
		return err
	}
	if err := checkImageDeviceTypes(n.DeviceTypes); err != nil {
		return err
	}
	if err := checkVersions(&n.Version, &n.MinVersion); err != nil {
		return err
	}
	if n.VersionID > schemas.MaxVersionID {
		return invalidField("version_id", "%d; allowed are 1 to %d, and 0 for the next number of the image type", n.VersionID, uint64(schemas.MaxVersionID))
	}
	if err := checkNames(&n.Name, &n.Description); err != nil {
		return err
	}
	if err := distinctIDs("tags", n.Tags, maxTags); err != nil {
		return err
	}
	return NewUpload{FileName: n.FileName, Format: n.Format}.validate()
}

// validate checks a patch that stands alone; what it makes of the image is
// checked when the image is known.
func (p ImagePatch) validate() error {
	if p.DeviceTypes != nil {
		if err := checkImageDeviceTypes(*p.DeviceTypes); err != nil {
			return err
		}
	}
	if err := checkVersions(p.Version, p.MinVersion); err != nil {
		return err
	}
	if p.Tags != nil {
		if err := distinctIDs("tags", *p.Tags, maxTags); err != nil {
			return err
		}
	}
	return checkNames(p.Name, p.Description)
}

func (n NewUpload) validate() error {
	if err := checkText("file_name", n.FileName, maxFileName, false); err != nil {
		return err
	}
	switch n.Format {
	case "", "auto", "binary", "ihex":
		return nil
	}
	return invalidField("format", "%q is not known; allowed are auto, binary and ihex", n.Format)
}

func checkImageDeviceTypes(ids []string) error {
	if len(ids) == 0 {
		return invalidField("device_types", "the list is empty; name at least one device type that the image fits")
	}
	return distinctIDs("device_types", ids, maxImageDeviceTypes)
}

func checkVersions(version, minVersion *string) error {
	if version != nil {
		if err := schemas.ValidateVersion(*version); err != nil {
			return invalidField("version", "%w", err)
		}
		if looksUnknown(*version) {
			return invalidField("version", "%q is how a version is shown of which only the number is known; name another, and the number as version_id", *version)
		}
	}
	if minVersion != nil && *minVersion != "" {
		if err := schemas.ValidateVersion(*minVersion); err != nil {
			return invalidField("min_version", "%w", err)
		}
	}
	return nil
}

// distinctIDs checks a list of ids that may not repeat.
func distinctIDs(field string, ids []string, limit int) error {
	if len(ids) > limit {
		return invalidField(field, "%d entries, at most %d are allowed", len(ids), limit)
	}
	seen := make(map[string]bool, len(ids))
	for i, id := range ids {
		if err := checkID(element(field, i), id); err != nil {
			return err
		}
		if seen[id] {
			return invalidField(element(field, i), "%q is named twice", id)
		}
		seen[id] = true
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalidField("labels", "%d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for k, v := range labels {
		if err := checkID("labels", k); err != nil {
			return err
		}
		if err := checkText("labels/"+k, v, maxLabelValue, false); err != nil {
			return err
		}
	}
	return nil
}

func (n NewDevice) validate() error {
	if err := checkID("id", n.ID); err != nil {
		return err
	}
	if err := checkID("type", n.Type); err != nil {
		return err
	}
	return checkLabels(n.Labels)
}
