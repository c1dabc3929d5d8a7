package orchestrator

import (
	"fmt"

	"davit/schemas"
)

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
	// DefaultAttributeSize is the size in bytes of the attribute that carries
	// an image in the afero dialect, unless a device type names another.
	DefaultAttributeSize = 253
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
	ID          string `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Name        string `json:"name,omitempty" doc:"For people; the id if left out"`
	Description string `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
}

// Precondition is a part of every patch: an edit of a record that somebody else
// has edited since it was read is refused with ErrStale.
type Precondition struct {
	// IfRevision is the revision that was read; nil edits whatever is there.
	IfRevision *uint64 `json:"-"`
}

// check refuses the edit of a record that is at another revision than the one
// that was read; what names the record for people.
func (p Precondition) check(what, id string, revision uint64) error {
	if p.IfRevision != nil && *p.IfRevision != revision {
		return fmt.Errorf("%s %q: %w: it is at revision %d and the edit was made on %d; read it again and repeat the edit",
			what, id, ErrStale, revision, *p.IfRevision)
	}
	return nil
}

// ImageTypePatch changes what is not nil.
type ImageTypePatch struct {
	Precondition
	Name        *string `json:"name,omitempty" doc:"For people; the id if left out"`
	Description *string `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
}

// NewDeviceType is a device type to be created. Name defaults to the id.
type NewDeviceType struct {
	ID             string             `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Name           string             `json:"name,omitempty" doc:"For people; the id if left out"`
	Description    string             `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Dialect        string             `json:"dialect" doc:"The protocol spoken to the host MCU: ayla or afero"`
	AttributeSize  int                `json:"attribute_size,omitempty" doc:"In the afero dialect, the size in bytes of the attribute that carries an image, 5 to 2046; without it 253"`
	ImageTypes     []EnabledImageType `json:"image_types,omitempty" doc:"What the type takes; an image fits a device type only if its image type stands here"`
	HelloTimeout   Duration           `json:"hello_timeout,omitzero" doc:"How long a connected device may stay without a hello before it is shown as silent; without it 30m0s"`
	AnswerTimeout  Duration           `json:"answer_timeout,omitzero" doc:"How long the host MCU may take to answer an offer, for example 30s; without it the bridge's default holds"`
	VerdictTimeout Duration           `json:"verdict_timeout,omitzero" doc:"How long the host MCU may take to check a loaded image"`
	BootTimeout    Duration           `json:"boot_timeout,omitzero" doc:"How long the host MCU may take to boot"`
	VersionTimeout Duration           `json:"version_timeout,omitzero" doc:"How long after booting the host MCU may take to report its version"`
}

// DeviceTypePatch changes what is not nil. An image type can be disabled only
// while no image associates it with this device type.
type DeviceTypePatch struct {
	Precondition
	Name           *string             `json:"name,omitempty" doc:"For people; the id if left out"`
	Description    *string             `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Dialect        *string             `json:"dialect,omitempty" doc:"The protocol spoken to the host MCU: ayla or afero"`
	AttributeSize  *int                `json:"attribute_size,omitempty" doc:"In the afero dialect, the size in bytes of the attribute that carries an image, 5 to 2046; 0 means 253"`
	ImageTypes     *[]EnabledImageType `json:"image_types,omitempty" doc:"Replaces the whole list; an image type can be disabled only while no image associates it with this device type"`
	HelloTimeout   *Duration           `json:"hello_timeout,omitempty" doc:"How long a connected device may stay without a hello before it is shown as silent"`
	AnswerTimeout  *Duration           `json:"answer_timeout,omitempty" doc:"How long the host MCU may take to answer an offer, for example 30s; without it the bridge's default holds"`
	VerdictTimeout *Duration           `json:"verdict_timeout,omitempty" doc:"How long the host MCU may take to check a loaded image"`
	BootTimeout    *Duration           `json:"boot_timeout,omitempty" doc:"How long the host MCU may take to boot"`
	VersionTimeout *Duration           `json:"version_timeout,omitempty" doc:"How long after booting the host MCU may take to report its version"`
}

// NewImage is what goes with an upload's bytes.
type NewImage struct {
	ImageType   string   `json:"image_type" doc:"The category of firmware"`
	DeviceTypes []string `json:"device_types" doc:"The device types that the image fits"`
	Version     string   `json:"version" doc:"The version that the host MCU reports when it runs the image"`
	VersionID   uint64   `json:"version_id,omitempty" doc:"The number that stands for the version with host MCUs that know versions by number (dialect afero), 1 to 2^53-1; without it the next one of the image type. For firmware that has its number compiled in, and for what devices run from the factory"`
	Name        string   `json:"name,omitempty" doc:"What people call the firmware, without its version, at most 128 bytes; none means the image type"`
	MinVersion  string   `json:"min_version,omitempty" doc:"The exact version that has to be running for the image to be deployed; none means any"`
	Description string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Tags        []string `json:"tags,omitempty" doc:"Words to find the image by"`
	FileName    string   `json:"file_name,omitempty" doc:"The name of the file that was uploaded"`
	Format      string   `json:"format,omitempty" doc:"binary, ihex, or auto to tell by the content"`
}

// ImagePatch changes what is not nil. What an image is (its bytes, image type,
// version and min version) never changes once a job has used it.
type ImagePatch struct {
	Precondition
	Name        *string   `json:"name,omitempty" doc:"What people call the firmware, without its version"`
	Version     *string   `json:"version,omitempty" doc:"The version that the host MCU reports; refused once a job has used the image"`
	MinVersion  *string   `json:"min_version,omitempty" doc:"The exact version that has to be running; refused once a job has used the image"`
	DeviceTypes *[]string `json:"device_types,omitempty" doc:"Replaces the device types that the image fits"`
	Description *string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Tags        *[]string `json:"tags,omitempty" doc:"Replaces all tags"`
	Archived    *bool     `json:"archived,omitempty" doc:"true hides the image and keeps new jobs from it, false brings it back; refused while a job that has not ended needs it"`
}

// NewUpload is what goes with the bytes of a file that is to become an image later.
type NewUpload struct {
	FileName string
	Format   string // binary, ihex, or auto (also when empty)
}

// ImageFilter restricts a listing of images; empty fields do not.
type ImageFilter struct {
	ImageType  string
	DeviceType string
	Tag        string
	// Text is looked for in name, version, description, file name and tags, whatever the case.
	Text string
	// Archived lists archived images instead of the others.
	Archived bool
}

// DeviceFilter restricts a listing of devices; empty fields do not.
type DeviceFilter struct {
	Type  string
	Group string
	// Text is looked for in id and labels, whatever the case.
	Text string
	// Label is NAME or NAME=VALUE.
	Label string
	// Version is IMAGE_TYPE=VERSION.
	Version string
	Online  *bool
	// Query is an expression (package query).
	Query string
}

// JobFilter restricts a listing of jobs; empty fields do not.
type JobFilter struct {
	State JobState
	Image string
	Text  string // in the name and description
}

// ExecutionFilter restricts a listing of a job's executions.
type ExecutionFilter struct {
	// States are those listed; none means all.
	States []schemas.State
}

// NewDevice is a device to be made known.
type NewDevice struct {
	ID     string            `json:"id" doc:"The id of the device's module: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Type   string            `json:"type" doc:"The device type"`
	Labels map[string]string `json:"labels,omitempty" doc:"Anything that people want to note, by name; at most 32"`
}

// DevicePatch changes what is not nil.
type DevicePatch struct {
	Precondition
	Labels *map[string]string `json:"labels,omitempty" doc:"Replaces all labels"`
}

// QuarantineRequest says why a device is put in quarantine.
type QuarantineRequest struct {
	Reason string `json:"reason,omitempty" doc:"Why, for people; one line of at most 256 bytes"`
}

// NewGroup is a group to be created.
type NewGroup struct {
	ID          string   `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Description string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     []string `json:"devices,omitempty" doc:"The devices that belong to it; they have to exist"`
	Query       string   `json:"query,omitempty" doc:"Makes the group dynamic: the devices that the query finds, whenever it is asked; not together with devices"`
}

// GroupPatch changes what is not nil.
type GroupPatch struct {
	Precondition
	Description *string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     *[]string `json:"devices,omitempty" doc:"Replaces the whole list"`
	Query       *string   `json:"query,omitempty" doc:"Replaces the query of a dynamic group; a static group stays static"`
}

// NewJob is a job to be created. Its target is the named devices and the
// devices that the named groups have at this moment.
type NewJob struct {
	Name             string   `json:"name" doc:"Unique, and the job's id: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Image            string   `json:"image" doc:"The image that is deployed"`
	Devices          []string `json:"devices,omitempty" doc:"Devices to be targeted"`
	Groups           []string `json:"groups,omitempty" doc:"Groups whose present devices are targeted"`
	Query            string   `json:"query,omitempty" doc:"A query whose present devices are targeted"`
	Description      string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	IgnoreValidation bool     `json:"ignore_validation,omitempty" doc:"Deploy the image whatever version is running, the same one included"`
	Rollout          *Rollout `json:"rollout,omitempty" doc:"How it reaches its devices: waves, pace, schedule, retries, stop rules; all at once if left out"`
	Start            bool     `json:"start,omitempty" doc:"Start the job at once"`
}

// JobPatch changes what is not nil.
type JobPatch struct {
	Precondition
	Description *string `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
}

// RetryRequest says which executions of a job are tried again.
type RetryRequest struct {
	Devices []string `json:"devices,omitempty" doc:"Only those of these devices; without it all that ended without success, but were not canceled"`
}

// JobChanges is what changed in a job after a revision.
type JobChanges struct {
	Job        Job         `json:"job" doc:"The job as it stands now"`
	Rev        uint64      `json:"rev" doc:"Where the next call goes on: pass it as since"`
	Executions []Execution `json:"executions" doc:"Everything that changed up to rev, as it stands now; at most 1000"`
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
