package orchestrator

import (
	"time"

	"davit/schemas"
)

// ImageType is a category of firmware ("application", "bootloader"), never one
// concrete image. Its id never changes; name and description may.
type ImageType struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
}

// DeviceType is a class of product: which image types it takes, the protocol
// of its host MCU, and its limits.
type DeviceType struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Dialect is the protocol spoken to the host MCU, for example "ayla".
	Dialect string `json:"dialect"`
	// ImageTypes lists what the type takes; an image can be associated with a
	// device type only if its image type is enabled here.
	ImageTypes []EnabledImageType `json:"image_types"`
	// Times are limits for the host MCU; zero leaves the bridge's default.
	AnswerTimeout  Duration  `json:"answer_timeout,omitzero"`
	VerdictTimeout Duration  `json:"verdict_timeout,omitzero"`
	BootTimeout    Duration  `json:"boot_timeout,omitzero"`
	VersionTimeout Duration  `json:"version_timeout,omitzero"`
	CreatedAt      time.Time `json:"created_at"`
}

// EnabledImageType is one image type as a device type takes it.
type EnabledImageType struct {
	ID string `json:"id"`
	// VersionProperty is the host MCU's property that reports the running
	// version of this image type.
	VersionProperty string `json:"version_property,omitempty"`
	// SizeLimit is the largest image in bytes; 0 means no limit but the
	// server's own.
	SizeLimit uint64 `json:"size_limit,omitempty"`
}

// Image is one firmware binary and what people say of it.
type Image struct {
	ID          string   `json:"id"`
	ImageType   string   `json:"image_type"`
	DeviceTypes []string `json:"device_types"`
	Version     string   `json:"version"`
	// MinVersion is the exact version that must be running for the image to
	// be deployed; empty means any.
	MinVersion  string   `json:"min_version,omitempty"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Size in bytes and SHA256 in hex are of the flat binary that the MCU gets.
	Size   uint64 `json:"size"`
	SHA256 string `json:"sha256"`
	// Format is what was uploaded: "binary" or "ihex".
	Format string `json:"format"`
	// StartAddress is the address of the first byte, where the file named one.
	StartAddress *uint64 `json:"start_address,omitempty"`
	// EntryAddress is where execution begins, where the file named it.
	EntryAddress *uint64 `json:"entry_address,omitempty"`
	// LeftOut says what data of the file belongs to another memory and is not
	// part of the flat binary, a sentence for each piece.
	LeftOut   []string  `json:"left_out,omitempty"`
	FileName  string    `json:"file_name,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// Device is one module and its host MCU.
type Device struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	// Versions maps an image type to the version that the host MCU reported.
	Versions map[string]string `json:"versions"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Module is the module's own firmware, as it names it.
	Module string `json:"module,omitempty"`
	// Dialect is what the device says it speaks to its host MCU.
	Dialect string `json:"dialect,omitempty"`
	// MaxChunk is the largest chunk in bytes that the device takes; 0 is unknown.
	MaxChunk  int       `json:"max_chunk,omitempty"`
	Online    bool      `json:"online"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	CreatedAt time.Time `json:"created_at"`
}

// Group is a named set of devices.
type Group struct {
	ID          string    `json:"id"`
	Description string    `json:"description,omitempty"`
	Devices     []string  `json:"devices"`
	CreatedAt   time.Time `json:"created_at"`
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
	Name  string   `json:"name"`
	Image string   `json:"image"`
	State JobState `json:"state"`
	// Devices and Groups are the target as it was named.
	Devices []string `json:"devices,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	// IgnoreValidation deploys the image whatever version is running.
	IgnoreValidation bool `json:"ignore_validation,omitempty"`
	// Counts are the job's executions by state.
	Counts      map[schemas.State]int `json:"counts"`
	CreatedAt   time.Time             `json:"created_at"`
	StartedAt   time.Time             `json:"started_at,omitzero"`
	CompletedAt time.Time             `json:"completed_at,omitzero"`
}

// Execution is one job on one device.
type Execution struct {
	ID        string        `json:"id"`
	Job       string        `json:"job"`
	Device    string        `json:"device"`
	Image     string        `json:"image"`
	ImageType string        `json:"image_type"`
	Version   string        `json:"version"`
	Attempt   int           `json:"attempt"`
	State     schemas.State `json:"state"`
	Cause     schemas.Cause `json:"cause"`
	// Code is the host MCU's error code, 0 for none.
	Code int `json:"code,omitempty"`
	// Detail is one sentence for a person.
	Detail string `json:"detail,omitempty"`
	// BytesDone counts what the module holds, or once it is installing, what
	// the MCU acknowledged; BytesTotal is the image's size.
	BytesDone  uint64 `json:"bytes_done"`
	BytesTotal uint64 `json:"bytes_total"`
	// HostVersion is what the host MCU reported last in this execution.
	HostVersion string `json:"host_version"`
	// Seq is the highest status sequence number recorded in this attempt.
	Seq       uint64    `json:"seq"`
	CreatedAt time.Time `json:"created_at"`
	OfferedAt time.Time `json:"offered_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}
