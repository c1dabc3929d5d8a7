package orchestrator

// Limits of what people may enter and of what a listing returns.
const (
	// MaxImageTypes is how many image types an account may have.
	MaxImageTypes = 100
	// MaxJobDevices is how many devices one job may target.
	MaxJobDevices = 1_000_000
	// DefaultPageLimit and MaxPageLimit are numbers of items.
	DefaultPageLimit = 100
	MaxPageLimit     = 1000
	// DefaultVersionProperty is the host MCU's property that reports its
	// version, unless a device type names another (docs/wire.md section 4).
	DefaultVersionProperty = "oem_host_version"
)

// Page asks for a part of a listing: what comes after the cursor that the
// part before returned, at most Limit items (0 means DefaultPageLimit).
type Page struct {
	After string
	Limit int
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return DefaultPageLimit
	}
	return min(p.Limit, MaxPageLimit)
}

// NewImageType is an image type to be created. Name defaults to the id.
type NewImageType struct {
	ID          string `json:"id"`
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
}

// ImageTypePatch changes what is not nil.
type ImageTypePatch struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
}

// NewDeviceType is a device type to be created. Name defaults to the id.
type NewDeviceType struct {
	ID             string             `json:"id"`
	Name           string             `json:"name,omitempty"`
	Description    string             `json:"description,omitempty"`
	Dialect        string             `json:"dialect"`
	ImageTypes     []EnabledImageType `json:"image_types,omitempty"`
	AnswerTimeout  Duration           `json:"answer_timeout,omitzero"`
	VerdictTimeout Duration           `json:"verdict_timeout,omitzero"`
	BootTimeout    Duration           `json:"boot_timeout,omitzero"`
	VersionTimeout Duration           `json:"version_timeout,omitzero"`
}

// DeviceTypePatch changes what is not nil. An image type can be disabled only
// while no image associates it with this device type.
type DeviceTypePatch struct {
	Name           *string             `json:"name,omitempty"`
	Description    *string             `json:"description,omitempty"`
	Dialect        *string             `json:"dialect,omitempty"`
	ImageTypes     *[]EnabledImageType `json:"image_types,omitempty"`
	AnswerTimeout  *Duration           `json:"answer_timeout,omitempty"`
	VerdictTimeout *Duration           `json:"verdict_timeout,omitempty"`
	BootTimeout    *Duration           `json:"boot_timeout,omitempty"`
	VersionTimeout *Duration           `json:"version_timeout,omitempty"`
}

// NewImage is what goes with an upload's bytes.
type NewImage struct {
	ImageType   string   `json:"image_type"`
	DeviceTypes []string `json:"device_types"`
	Version     string   `json:"version"`
	MinVersion  string   `json:"min_version,omitempty"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	FileName    string   `json:"file_name,omitempty"`
	// Format is "binary", "ihex", or "auto" or empty to tell by the content.
	Format string `json:"format,omitempty"`
}

// ImageFilter restricts a listing of images; empty fields do not.
type ImageFilter struct {
	ImageType  string
	DeviceType string
	Tag        string
}

// NewDevice is a device to be made known.
type NewDevice struct {
	ID     string            `json:"id"`
	Type   string            `json:"type"`
	Labels map[string]string `json:"labels,omitempty"`
}

// DevicePatch changes what is not nil.
type DevicePatch struct {
	Labels *map[string]string `json:"labels,omitempty"`
}

// NewGroup is a group to be created.
type NewGroup struct {
	ID          string   `json:"id"`
	Description string   `json:"description,omitempty"`
	Devices     []string `json:"devices,omitempty"`
}

// GroupPatch changes what is not nil.
type GroupPatch struct {
	Description *string   `json:"description,omitempty"`
	Devices     *[]string `json:"devices,omitempty"`
}

// NewJob is a job to be created. Its target is the named devices and the
// devices that the named groups have at this moment.
type NewJob struct {
	Name             string   `json:"name"`
	Image            string   `json:"image"`
	Devices          []string `json:"devices,omitempty"`
	Groups           []string `json:"groups,omitempty"`
	IgnoreValidation bool     `json:"ignore_validation,omitempty"`
	// Start starts the job at once.
	Start bool `json:"start,omitempty"`
}

// JobChanges is what changed in a job after a revision.
type JobChanges struct {
	Job Job `json:"job"`
	// Rev is where the next call goes on. Executions holds everything that
	// changed up to it, at most MaxPageLimit of them, as it stands now.
	Rev        uint64      `json:"rev"`
	Executions []Execution `json:"executions"`
}

// CheckReport is the result of Check.
type CheckReport struct {
	Records   int   `json:"records"`
	Indexes   int   `json:"indexes"`
	Blobs     int   `json:"blobs"`
	BlobBytes int64 `json:"blob_bytes"`
	// Violations are sentences, in the order in which they were met; at most
	// MaxViolations are kept and Count counts all.
	Violations []string `json:"violations"`
	Count      int      `json:"count"`
}

// OK says whether nothing was found wrong.
func (r CheckReport) OK() bool { return r.Count == 0 }

// MaxViolations is how many violations a CheckReport spells out.
const MaxViolations = 1000
