package schemas

import "slices"

// MaxVersionProperties is how many version properties one profile may name: as
// many as a hello may report.
const MaxVersionProperties = MaxHostVersions

// Profile is what the service knows of a device's type and a module may need
// before its first offer: which protocol its host MCU speaks and which
// properties report versions. It answers a hello whose dialect or version
// properties are not the device type's, so that a module may start without any
// configuration.
type Profile struct {
	V          int    `json:"v"`
	DeviceType string `json:"device_type"`
	// Dialect is the protocol that the host MCU speaks.
	Dialect string `json:"dialect"`
	// VersionProperties are the properties (or attributes) of the host MCU
	// that report versions, in the order of the device type. In the afero
	// dialect each is the attribute's number in decimal. An empty list is not
	// nil: on the wire it is a list as well.
	VersionProperties []string `json:"version_properties"`
}

// Kind returns KindProfile.
func (*Profile) Kind() Kind { return KindProfile }

// Validate implements Payload.
func (p *Profile) Validate() error {
	if err := checkVersion(p.V); err != nil {
		return err
	}
	if err := checkID("device_type", p.DeviceType); err != nil {
		return err
	}
	if p.Dialect == "" {
		return badPayload("dialect is empty")
	}
	if err := checkText("dialect", p.Dialect, MaxDialectLength); err != nil {
		return err
	}
	if p.VersionProperties == nil {
		return badPayload("version_properties is not a list")
	}
	if len(p.VersionProperties) > MaxVersionProperties {
		return badPayload("version_properties has %d entries, at most %d are allowed", len(p.VersionProperties), MaxVersionProperties)
	}
	for i, property := range p.VersionProperties {
		if property == "" {
			return badPayload("version_properties has an entry without a name")
		}
		if err := checkText("version_properties entry", property, MaxVersionLength); err != nil {
			return err
		}
		if slices.Contains(p.VersionProperties[:i], property) {
			return badPayload("%q stands twice in version_properties", property)
		}
	}
	return nil
}
