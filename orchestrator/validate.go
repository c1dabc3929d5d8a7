package orchestrator

import (
	"fmt"
	"strings"
	"time"
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
	maxHostTime    = 7 * 24 * time.Hour
	maxEnabled     = MaxImageTypes
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// FieldError is an ErrInvalid about one field of a request.
type FieldError struct {
	// Field is the name of the field as it stands in JSON; elements of lists
	// and members of objects follow after a slash: "image_types/2/id".
	Field string
	err   error
}

// Error implements error.
func (e *FieldError) Error() string { return e.err.Error() }

// Unwrap leads to ErrInvalid.
func (e *FieldError) Unwrap() error { return e.err }

// invalidField is invalid for one field, which the text does not have to name.
func invalidField(field, format string, args ...any) error {
	return &FieldError{field, invalid(strings.ReplaceAll(field, "%", "%%")+": "+format, args...)}
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
	i := strings.IndexFunc(s, func(r rune) bool { return r == 0x7f || r < 0x20 && !(lines && (r == '\n' || r == '\r' || r == '\t')) })
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
	if t.Dialect == "" {
		return invalid("dialect is empty; name the protocol of the host MCU, for example \"ayla\"")
	}
	if err := checkText("dialect", t.Dialect, 32, false); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		d    Duration
	}{
		{"answer_timeout", t.AnswerTimeout}, {"verdict_timeout", t.VerdictTimeout},
		{"boot_timeout", t.BootTimeout}, {"version_timeout", t.VersionTimeout},
	} {
		if f.d < 0 || time.Duration(f.d) > maxHostTime {
			return invalid("%s is %v, allowed are 0 to %v", f.name, time.Duration(f.d), maxHostTime)
		}
	}
	return s.checkEnabled(t)
}

func (s *Service) checkEnabled(t *DeviceType) error {
	if len(t.ImageTypes) > maxEnabled {
		return invalid("image_types has %d entries, at most %d are allowed", len(t.ImageTypes), maxEnabled)
	}
	ids, properties := map[string]bool{}, map[string]string{}
	for i := range t.ImageTypes {
		e := &t.ImageTypes[i]
		if err := checkID("image_types", e.ID); err != nil {
			return err
		}
		if ids[e.ID] {
			return invalid("image type %q is named twice", e.ID)
		}
		ids[e.ID] = true
		if e.VersionProperty == "" {
			e.VersionProperty = DefaultVersionProperty
		}
		if err := checkText("version_property", e.VersionProperty, schemas.MaxVersionLength, false); err != nil {
			return err
		}
		if other := properties[e.VersionProperty]; other != "" {
			return invalid("image types %q and %q have the same version_property %q: a report could not be told apart", other, e.ID, e.VersionProperty)
		}
		properties[e.VersionProperty] = e.ID
		if e.SizeLimit > s.maxImageSize {
			return invalid("size_limit of image type %q is %d, the server's own limit is %d bytes", e.ID, e.SizeLimit, s.maxImageSize)
		}
	}
	return nil
}

func (n NewImage) validate() error {
	if err := checkID("image_type", n.ImageType); err != nil {
		return err
	}
	if len(n.DeviceTypes) == 0 {
		return invalid("device_types is empty; name at least one device type that the image fits")
	}
	if err := distinctIDs("device_types", n.DeviceTypes, 1000); err != nil {
		return err
	}
	if err := schemas.ValidateVersion(n.Version); err != nil {
		return invalid("%w", err)
	}
	if n.MinVersion != "" {
		if err := schemas.ValidateVersion(n.MinVersion); err != nil {
			return invalid("min_version: %w", err)
		}
	}
	if err := checkText("description", n.Description, maxDescription, true); err != nil {
		return err
	}
	if err := checkText("file_name", n.FileName, maxFileName, false); err != nil {
		return err
	}
	if err := distinctIDs("tags", n.Tags, maxTags); err != nil {
		return err
	}
	switch n.Format {
	case "", "auto", "binary", "ihex":
		return nil
	}
	return invalid("format is %q; allowed are auto, binary and ihex", n.Format)
}

// distinctIDs checks a list of ids that may not repeat.
func distinctIDs(field string, ids []string, limit int) error {
	if len(ids) > limit {
		return invalid("%s has %d entries, at most %d are allowed", field, len(ids), limit)
	}
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if err := checkID(field, id); err != nil {
			return err
		}
		if seen[id] {
			return invalid("%s: %q is named twice", field, id)
		}
		seen[id] = true
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("%d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for k, v := range labels {
		if err := checkID("labels", k); err != nil {
			return err
		}
		if err := checkText("label "+k, v, maxLabelValue, false); err != nil {
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

func (n NewJob) validate() error {
	if err := checkID("name", n.Name); err != nil {
		return err
	}
	if err := checkID("image", n.Image); err != nil {
		return err
	}
	if err := distinctIDs("groups", n.Groups, MaxPageLimit); err != nil {
		return err
	}
	return distinctIDs("devices", n.Devices, MaxJobDevices)
}
