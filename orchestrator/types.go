package orchestrator

import (
	"time"

	"davit/schemas"
)

// ImageType is a category of firmware ("application", "bootloader"), never one
// concrete image. Its id never changes; name and description may.
type ImageType struct {
	ID          string    `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Name        string    `json:"name" doc:"For people; the id if left out"`
	Description string    `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created"`
}

// DeviceType is a class of product: which image types it takes, the protocol
// of its host MCU, and its limits.
type DeviceType struct {
	ID             string             `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Name           string             `json:"name" doc:"For people; the id if left out"`
	Description    string             `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Dialect        string             `json:"dialect" doc:"The protocol spoken to the host MCU, for example ayla"`
	ImageTypes     []EnabledImageType `json:"image_types" doc:"What the type takes; an image fits a device type only if its image type stands here"`
	AnswerTimeout  Duration           `json:"answer_timeout,omitzero" doc:"How long the host MCU may take to answer an offer, for example 30s; without it the bridge's default holds"`
	VerdictTimeout Duration           `json:"verdict_timeout,omitzero" doc:"How long the host MCU may take to check a loaded image"`
	BootTimeout    Duration           `json:"boot_timeout,omitzero" doc:"How long the host MCU may take to boot"`
	VersionTimeout Duration           `json:"version_timeout,omitzero" doc:"How long after booting the host MCU may take to report its version"`
	CreatedAt      time.Time          `json:"created_at" doc:"When it was created"`
}

// EnabledImageType is one image type as a device type takes it.
type EnabledImageType struct {
	ID              string `json:"id" doc:"The image type"`
	VersionProperty string `json:"version_property,omitempty" doc:"The host MCU's property that reports the running version of this image type; oem_host_version if left out"`
	SizeLimit       uint64 `json:"size_limit,omitempty" doc:"The largest image in bytes; 0 means no limit but the server's own"`
}

// Image is one firmware binary and what people say of it.
type Image struct {
	ID           string    `json:"id" doc:"Generated, begins with img-"`
	ImageType    string    `json:"image_type" doc:"The category of firmware"`
	DeviceTypes  []string  `json:"device_types" doc:"The device types that the image fits"`
	Version      string    `json:"version" doc:"The version that the host MCU reports when it runs the image"`
	MinVersion   string    `json:"min_version,omitempty" doc:"The exact version that has to be running for the image to be deployed; none means any"`
	Description  string    `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Tags         []string  `json:"tags,omitempty" doc:"Words to find the image by"`
	Size         uint64    `json:"size" doc:"Size in bytes of the flat binary that the host MCU gets"`
	SHA256       string    `json:"sha256" doc:"SHA-256 of the flat binary, in hex"`
	Format       string    `json:"format" doc:"What was uploaded: binary or ihex"`
	StartAddress *uint64   `json:"start_address,omitempty" doc:"The address of the first byte, where the file named one"`
	EntryAddress *uint64   `json:"entry_address,omitempty" doc:"Where execution begins, where the file named it"`
	LeftOut      []string  `json:"left_out,omitempty" doc:"What data of the file belongs to another memory and is not part of the flat binary, a sentence for each piece"`
	FileName     string    `json:"file_name,omitempty" doc:"The name of the file that was uploaded"`
	CreatedAt    time.Time `json:"created_at" doc:"When it was created"`
}

// Device is one module and its host MCU.
type Device struct {
	ID       string            `json:"id" doc:"The id of the device's module, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Type     string            `json:"type" doc:"The device type"`
	Versions map[string]string `json:"versions" doc:"By image type, the version that the host MCU reported last"`
	// Unconfirmed versions are shown to people and decide nothing.
	Unconfirmed []string          `json:"unconfirmed,omitempty" doc:"The image types of those versions that the module cannot vouch for any more, because the host MCU was reset, fell silent or lost its line and has not reported since"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Anything that people want to note, by name; at most 32"`
	Module      string            `json:"module,omitempty" doc:"The module's own firmware, as it names it"`
	Dialect     string            `json:"dialect,omitempty" doc:"What the device says that it speaks to its host MCU"`
	MaxChunk    int               `json:"max_chunk,omitempty" doc:"The largest chunk in bytes that the device takes; absent while unknown"`
	Online      bool              `json:"online" doc:"Whether the device is connected"`
	LastSeen    time.Time         `json:"last_seen,omitzero" doc:"When the device connected, ended its connection or said what it runs"`
	CreatedAt   time.Time         `json:"created_at" doc:"When it was created"`
}

// Group is a named set of devices.
type Group struct {
	ID          string    `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Description string    `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     []string  `json:"devices" doc:"The devices that belong to it, in order"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created"`
}

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	JobDraft     JobState = "draft"     // created, not started
	JobRunning   JobState = "running"   // its executions are offered
	JobCompleted JobState = "completed" // every execution has ended
	JobCanceled  JobState = "canceled"  // ended by an operator
)

// Job brings devices to an image. Its name is unique and is its id.
type Job struct {
	Name             string                `json:"name" doc:"Unique, and the job's id"`
	Image            string                `json:"image" doc:"The image that is deployed"`
	State            JobState              `json:"state" doc:"draft (not started), running, completed (every execution has ended) or canceled"`
	Devices          []string              `json:"devices,omitempty" doc:"The devices that were named as the target"`
	Groups           []string              `json:"groups,omitempty" doc:"The groups that were named as the target; the devices count that they had when the job was created"`
	IgnoreValidation bool                  `json:"ignore_validation,omitempty" doc:"Deploy the image whatever version is running, the same one included"`
	Counts           map[schemas.State]int `json:"counts" doc:"The number of executions by state"`
	CreatedAt        time.Time             `json:"created_at" doc:"When it was created"`
	StartedAt        time.Time             `json:"started_at,omitzero" doc:"When the job was started"`
	CompletedAt      time.Time             `json:"completed_at,omitzero" doc:"When the last execution ended, or the job's cancellation was done"`
}

// Execution is one job on one device.
type Execution struct {
	ID          string        `json:"id" doc:"Generated, begins with ex-"`
	Job         string        `json:"job" doc:"The job"`
	Device      string        `json:"device" doc:"The device"`
	Image       string        `json:"image" doc:"The image that is deployed"`
	ImageType   string        `json:"image_type" doc:"The image's type"`
	Version     string        `json:"version" doc:"The image's version"`
	Attempt     int           `json:"attempt" doc:"Counts the tries of this execution from 1"`
	State       schemas.State `json:"state" doc:"queued, offered, accepted, downloading, downloaded, installing or booting; at the end succeeded, rejected, failed, timed_out or canceled"`
	Cause       schemas.Cause `json:"cause" doc:"Why the execution ended without success; empty otherwise"`
	Code        int           `json:"code,omitempty" doc:"The host MCU's own error code; absent if it gave none"`
	Detail      string        `json:"detail,omitempty" doc:"One sentence for a person"`
	BytesDone   uint64        `json:"bytes_done" doc:"The bytes that the module holds, or once it is installing, that the host MCU has acknowledged"`
	BytesTotal  uint64        `json:"bytes_total" doc:"The image's size in bytes"`
	HostVersion string        `json:"host_version" doc:"What the host MCU reported last in this execution"`
	Seq         uint64        `json:"seq" doc:"The highest sequence number of a report that is recorded"`
	CreatedAt   time.Time     `json:"created_at" doc:"When it was created"`
	OfferedAt   time.Time     `json:"offered_at,omitzero" doc:"When the image was offered to the device"`
	UpdatedAt   time.Time     `json:"updated_at,omitzero" doc:"When the execution changed last"`
	EndedAt     time.Time     `json:"ended_at,omitzero" doc:"When the execution ended"`
}
