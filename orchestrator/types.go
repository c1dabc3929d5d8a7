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
	Revision    uint64    `json:"revision" doc:"Counts the edits; the entity tag of the record"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created"`
}

// DeviceType is a class of product: which image types it takes, the protocol
// of its host MCU, and its limits.
type DeviceType struct {
	ID             string             `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Name           string             `json:"name" doc:"For people; the id if left out"`
	Description    string             `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Dialect        string             `json:"dialect" doc:"The protocol spoken to the host MCU: ayla or afero"`
	AttributeSize  int                `json:"attribute_size,omitempty" doc:"In the afero dialect, the size in bytes of the attribute that carries an image, 4 of them for the offset, as the host MCU's profile has it: 253, 510 or 2046; without it 253"`
	ImageTypes     []EnabledImageType `json:"image_types" doc:"What the type takes; an image fits a device type only if its image type stands here"`
	HelloTimeout   Duration           `json:"hello_timeout,omitzero" doc:"How long a connected device may stay without a hello before it is shown as silent; without it 30m0s"`
	AnswerTimeout  Duration           `json:"answer_timeout,omitzero" doc:"How long the host MCU may take to answer an offer, for example 30s; without it the bridge's default holds"`
	VerdictTimeout Duration           `json:"verdict_timeout,omitzero" doc:"How long the host MCU may take to check a loaded image"`
	BootTimeout    Duration           `json:"boot_timeout,omitzero" doc:"How long the host MCU may take to boot"`
	VersionTimeout Duration           `json:"version_timeout,omitzero" doc:"How long after booting the host MCU may take to report its version"`
	// RequireSignature never gives way to a job's IgnoreValidation.
	RequireSignature bool      `json:"require_signature,omitempty" doc:"Its devices get signed images only: a job with an image whose signatures the service has not verified is refused, and an image is not offered once its manifest has expired, also where the job ignores validation"`
	Revision         uint64    `json:"revision" doc:"Counts the edits; the entity tag of the record"`
	CreatedAt        time.Time `json:"created_at" doc:"When it was created"`
}

// EnabledImageType is one image type as a device type takes it.
type EnabledImageType struct {
	ID              string `json:"id" doc:"The image type"`
	VersionProperty string `json:"version_property,omitempty" doc:"The host MCU's property that reports the running version of this image type; oem_host_version if left out"`
	// NumericType is the number under which the Afero dialect knows the image type.
	NumericType int    `json:"numeric_type,omitempty" doc:"In the afero dialect, the number of the image type, 101 to 200; the version is then reported by attribute 2000 + number"`
	SizeLimit   uint64 `json:"size_limit,omitempty" doc:"The largest image in bytes; 0 means no limit but the server's own"`
}

// Image is one firmware binary and what people say of it.
type Image struct {
	ID           string   `json:"id" doc:"Generated, begins with img-"`
	ImageType    string   `json:"image_type" doc:"The category of firmware"`
	DeviceTypes  []string `json:"device_types" doc:"The device types that the image fits"`
	Version      string   `json:"version" doc:"The version that the host MCU reports when it runs the image"`
	VersionID    uint64   `json:"version_id" doc:"The number that stands for this version of the image type, with host MCUs that know versions by number (dialect afero); it belongs to the version for ever"`
	Name         string   `json:"name,omitempty" doc:"What people call the firmware, without its version; none means the image type"`
	MinVersion   string   `json:"min_version,omitempty" doc:"The exact version that has to be running for the image to be deployed; none means any"`
	Description  string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Tags         []string `json:"tags,omitempty" doc:"Words to find the image by"`
	Size         uint64   `json:"size" doc:"Size in bytes of the flat binary that the host MCU gets"`
	SHA256       string   `json:"sha256" doc:"SHA-256 of the flat binary, in hex"`
	Format       string   `json:"format" doc:"What was uploaded: binary or ihex"`
	StartAddress *uint64  `json:"start_address,omitempty" doc:"The address of the first byte, where the file named one"`
	EntryAddress *uint64  `json:"entry_address,omitempty" doc:"Where execution begins, where the file named it"`
	LeftOut      []string `json:"left_out,omitempty" doc:"What data of the file belongs to another memory and is not part of the flat binary, a sentence for each piece"`
	FileName     string   `json:"file_name,omitempty" doc:"The name of the file that was uploaded"`
	// Detected is what the file says of itself, nil if its format is not known.
	Detected *Detected `json:"detected,omitempty" doc:"What the file says of itself, if its format is known"`
	// Manifest is nil for an image without a signed manifest.
	Manifest   *ImageManifest `json:"manifest,omitempty" doc:"The signed manifest, if the image has one"`
	Warnings   []string       `json:"warnings,omitempty" doc:"Where the file and what was typed disagree, and other images with the same content, a sentence for each"`
	ArchivedAt time.Time      `json:"archived_at,omitzero" doc:"When it was archived: it is hidden from listings and no new job can use it"`
	Revision   uint64         `json:"revision" doc:"Counts the edits; the entity tag of the record"`
	CreatedAt  time.Time      `json:"created_at" doc:"When it was created"`
}

// ImageManifest is what is known of the signed manifest of an image. Its bytes are a
// blob: the text that was signed with the signatures behind it.
type ImageManifest struct {
	SHA256      string    `json:"sha256" doc:"SHA-256 of the manifest with its signatures, as devices fetch it, in hex"`
	Size        uint64    `json:"size" doc:"Size in bytes of the manifest with its signatures"`
	Counter     uint64    `json:"counter" doc:"The security counter: a device never takes an image whose counter is lower than that of an image that it has run"`
	DeviceTypes []string  `json:"device_types" doc:"The device types that may run the image"`
	BlockSize   int       `json:"block_size" doc:"Size in bytes of the blocks that devices verify one by one"`
	Created     time.Time `json:"created" doc:"When it was made"`
	Expires     time.Time `json:"expires" doc:"Until when it may be used"`
	SignedBy    []string  `json:"signed_by" doc:"The ids of the keys that its signatures name, 16 hexadecimal digits each"`
	VerifiedBy  []string  `json:"verified_by,omitempty" doc:"The ids of those of the service's keys whose signatures it has verified; absent if the service had no keys"`
}

// Detected is what a firmware file says of itself.
type Detected struct {
	Format  string   `json:"format" doc:"mcuboot, esp-idf or davit-demo"`
	Name    string   `json:"name,omitempty" doc:"The project or product that the file names"`
	Version string   `json:"version,omitempty" doc:"The version that stands in the file"`
	Size    uint64   `json:"size,omitempty" doc:"The size in bytes that the file's own header calls for"`
	Facts   []string `json:"facts,omitempty" doc:"What else the file says, a sentence for each: hashes, signatures, build time"`
	// Problems are repeated in an image's warnings.
	Problems []string `json:"problems,omitempty" doc:"Where the file contradicts itself, a sentence for each: a hash that does not match, a size that is not the file's"`
}

// Upload is a file that was uploaded and is not an image yet: the first step
// of the wizard. It is thrown away when it is not used for a day.
type Upload struct {
	ID           string    `json:"id" doc:"Generated, begins with up-"`
	FileName     string    `json:"file_name,omitempty" doc:"The name of the file"`
	Format       string    `json:"format" doc:"What was uploaded: binary or ihex"`
	Size         uint64    `json:"size" doc:"Size in bytes of the flat binary that the host MCU gets"`
	SHA256       string    `json:"sha256" doc:"SHA-256 of the flat binary, in hex"`
	StartAddress *uint64   `json:"start_address,omitempty" doc:"The address of the first byte, where the file named one"`
	EntryAddress *uint64   `json:"entry_address,omitempty" doc:"Where execution begins, where the file named it"`
	LeftOut      []string  `json:"left_out,omitempty" doc:"What data of the file belongs to another memory, a sentence for each piece"`
	Detected     *Detected `json:"detected,omitempty" doc:"What the file says of itself, if its format is known"`
	Duplicates   []string  `json:"duplicates,omitempty" doc:"Images that have the same content already"`
	User         string    `json:"user,omitempty" doc:"Who uploaded it"`
	CreatedAt    time.Time `json:"created_at" doc:"When it was uploaded"`
	ExpiresAt    time.Time `json:"expires_at" doc:"When it is thrown away unless it has become an image"`
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
	Streams     bool              `json:"streams,omitempty" doc:"Whether the device can follow the shared stream of an image"`
	Online      bool              `json:"online" doc:"Whether the device is connected"`
	LastSeen    time.Time         `json:"last_seen,omitzero" doc:"When the device connected, ended its connection or said what it runs"`
	HelloAt     time.Time         `json:"hello_at,omitzero" doc:"When the device said last what it runs"`
	// A device in quarantine is offered nothing, may fetch nothing and cannot log in.
	QuarantinedAt    time.Time `json:"quarantined_at,omitzero" doc:"Since when the device is in quarantine: it cannot log in, is offered nothing and may fetch nothing; absent while it is not"`
	QuarantineReason string    `json:"quarantine_reason,omitempty" doc:"Why it is in quarantine, as somebody said"`
	Revision         uint64    `json:"revision" doc:"Counts the edits by people; the entity tag of the record"`
	CreatedAt        time.Time `json:"created_at" doc:"When it was created"`
}

// Group is a named set of devices: those that it lists (static), or those that
// its query finds whenever it is asked (dynamic).
type Group struct {
	ID          string    `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	Description string    `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     []string  `json:"devices" doc:"The devices that belong to it, in order; empty for a dynamic group"`
	Query       string    `json:"query,omitempty" doc:"The query of a dynamic group"`
	Revision    uint64    `json:"revision" doc:"Counts the edits; the entity tag of the record"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created"`
}

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	JobDraft     JobState = "draft"     // created, not started
	JobRunning   JobState = "running"   // its executions are offered
	JobPaused    JobState = "paused"    // nothing new is offered; what a device has accepted goes on
	JobCompleted JobState = "completed" // every execution has ended
	JobCanceled  JobState = "canceled"  // ended by an operator
)

// Job brings devices to an image. Its name is unique and is its id.
type Job struct {
	Name             string                `json:"name" doc:"Unique, and the job's id"`
	Image            string                `json:"image" doc:"The image that is deployed"`
	State            JobState              `json:"state" doc:"draft (not started), running, paused (nothing new is offered), completed (every execution has ended) or canceled"`
	Devices          []string              `json:"devices,omitempty" doc:"The devices that were named as the target, the first 1000 of them"`
	Groups           []string              `json:"groups,omitempty" doc:"The groups that were named as the target; the devices count that they had when the job was created"`
	IgnoreValidation bool                  `json:"ignore_validation,omitempty" doc:"Deploy the image whatever version is running, the same one included"`
	Query            string                `json:"query,omitempty" doc:"The query whose devices were the target when the job was created"`
	Description      string                `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Targets          int                   `json:"targets" doc:"How many devices the job was created for"`
	Counts           map[schemas.State]int `json:"counts" doc:"The number of executions by state"`
	Causes           map[schemas.Cause]int `json:"causes,omitempty" doc:"The number of executions that ended without success, by cause"`
	Rollout          *Rollout              `json:"rollout,omitempty" doc:"How it reaches its devices; all at once if left out"`
	Wave             int                   `json:"wave,omitempty" doc:"The last wave that was released, from 1; 0 for a job without waves"`
	Waves            []WaveStatus          `json:"waves,omitempty" doc:"Where each wave stands"`
	InProgress       int                   `json:"in_progress" doc:"Devices that were offered the image and have not ended"`
	Retries          int                   `json:"retries,omitempty" doc:"How often devices were tried again by the retry policy"`
	Reason           string                `json:"reason,omitempty" doc:"Why it was paused or canceled, if it was not a person who did it"`
	Waiting          string                `json:"waiting,omitempty" doc:"What a running job waits for, in a sentence: its start, a window, the end of a soak time, an approval"`
	NextAt           time.Time             `json:"next_at,omitzero" doc:"When it goes on by itself"`
	RollBackJob      string                `json:"roll_back_job,omitempty" doc:"The job that brings its devices back, if a stop rule asked for one"`
	Revision         uint64                `json:"revision" doc:"Counts the edits of the description; the entity tag of the record"`
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
	VersionID   uint64        `json:"version_id,omitempty" doc:"The number that stands for the version with host MCUs that know versions by number"`
	Attempt     int           `json:"attempt" doc:"Counts the tries of this execution from 1"`
	History     []Attempt     `json:"history,omitempty" doc:"Earlier attempts, the oldest first; at most the last 10"`
	State       schemas.State `json:"state" doc:"queued, offered, accepted, downloading, downloaded, installing or booting; at the end succeeded, rejected, failed, timed_out or canceled"`
	Cause       schemas.Cause `json:"cause" doc:"Why the execution ended without success; empty otherwise"`
	Code        int           `json:"code,omitempty" doc:"The host MCU's own error code; absent if it gave none"`
	Detail      string        `json:"detail,omitempty" doc:"One sentence for a person"`
	BytesDone   uint64        `json:"bytes_done" doc:"The bytes that the module holds, or once it is installing, that the host MCU has acknowledged"`
	BytesTotal  uint64        `json:"bytes_total" doc:"The image's size in bytes"`
	HostVersion string        `json:"host_version" doc:"What the host MCU reported last in this execution"`
	Seq         uint64        `json:"seq" doc:"The highest sequence number of a report that is recorded"`
	Wave        int           `json:"wave,omitempty" doc:"The wave of the job that it belongs to, from 1"`
	Goal        string        `json:"goal,omitempty" doc:"In a job that leads devices over several versions, the version at the end"`
	Downloaded  bool          `json:"downloaded,omitempty" doc:"The device holds the image and waits for the command to install it"`
	Confirmed   bool          `json:"confirmed,omitempty" doc:"A person has agreed to it"`
	NotBefore   time.Time     `json:"not_before,omitzero" doc:"It is not tried again before"`
	DueAt       time.Time     `json:"due_at,omitzero" doc:"When its present phase times out, or its waiting ends"`
	CreatedAt   time.Time     `json:"created_at" doc:"When it was created"`
	OfferedAt   time.Time     `json:"offered_at,omitzero" doc:"When the image was offered to the device"`
	UpdatedAt   time.Time     `json:"updated_at,omitzero" doc:"When the execution changed last"`
	EndedAt     time.Time     `json:"ended_at,omitzero" doc:"When the execution ended"`
}

// Attempt is how an earlier attempt of an execution ended.
type Attempt struct {
	Attempt     int           `json:"attempt" doc:"Its number"`
	Version     string        `json:"version,omitempty" doc:"The version of the step, in a job that leads over several versions"`
	State       schemas.State `json:"state" doc:"How it ended; queued if its offer was withdrawn before it ended, as detail says"`
	Cause       schemas.Cause `json:"cause,omitempty" doc:"Why it ended without success"`
	Code        int           `json:"code,omitempty" doc:"The host MCU's own error code"`
	Detail      string        `json:"detail,omitempty" doc:"One sentence for a person"`
	BytesDone   uint64        `json:"bytes_done" doc:"How far it got"`
	HostVersion string        `json:"host_version,omitempty" doc:"What the host MCU reported last"`
	OfferedAt   time.Time     `json:"offered_at,omitzero" doc:"When the image was offered"`
	EndedAt     time.Time     `json:"ended_at,omitzero" doc:"When it ended"`
}

// DeviceDetail is a device with what other records say of it.
type DeviceDetail struct {
	Device
	Groups    []string   `json:"groups" doc:"The groups that it belongs to now, dynamic ones included"`
	Execution *Execution `json:"execution,omitempty" doc:"What is under way on it"`
	Waiting   int        `json:"waiting" doc:"How many executions wait for their turn"`
	Silent    bool       `json:"silent,omitempty" doc:"It is connected, but has not said hello for longer than its type allows"`
	Claim     string     `json:"claim,omitempty" doc:"The claim with which its module made it; absent if people did"`
}

// QueryPreview is what a query finds at this moment.
type QueryPreview struct {
	Count  int      `json:"count" doc:"How many devices it finds"`
	Online int      `json:"online" doc:"How many of them are online"`
	Sample []Device `json:"sample" doc:"The first of them"`
	// Plan says in a sentence which index was used.
	Plan string `json:"plan" doc:"How it was evaluated: which index was used, or that every device was looked at"`
}

// JobPreview is what a job would do if it were created now.
type JobPreview struct {
	Devices    int                   `json:"devices" doc:"How many devices it would target"`
	ByType     map[string]int        `json:"by_type" doc:"Those devices by device type"`
	Running    int                   `json:"running" doc:"How many of them report the image's version already"`
	Unfit      []string              `json:"unfit" doc:"Devices whose type is not among the image's, the first 10; a job with such devices is refused"`
	UnfitAll   int                   `json:"unfit_all" doc:"How many such devices there are"`
	Busy       int                   `json:"busy" doc:"How many have another execution under way, after which this one would have its turn; those in quarantine are not counted"`
	Offline    int                   `json:"offline" doc:"How many are not connected now; those in quarantine are not counted"`
	Waves      []PreviewWave         `json:"waves,omitempty" doc:"The waves, if the job has some"`
	Excluded   map[ExclusionKind]int `json:"excluded" doc:"How many devices would not be brought to the image, by why"`
	Exclusions []Exclusion           `json:"exclusions" doc:"The first 100 of them"`
	Paths      map[string]int        `json:"paths,omitempty" doc:"In a job that leads devices over several versions, the ways with the number of devices that take them: 1.0 > 1.5 > 2.0"`
	Bytes      uint64                `json:"bytes" doc:"What all downloads come to"`
	DeviceTime Duration              `json:"device_time" doc:"What one device is reckoned to take"`
	Duration   Duration              `json:"duration" doc:"How long the job would take, if every device were connected and succeeded"`
	Assumes    []string              `json:"assumes" doc:"What that rests on, a sentence for each"`
}

// JobHistory is how a job's executions ended over time, in steps of one length.
type JobHistory struct {
	Start  time.Time      `json:"start" doc:"When the first step begins"`
	Step   Duration       `json:"step" doc:"The length of a step; it doubles when there would be too many"`
	Points []HistoryPoint `json:"points" doc:"One for each step"`
}

// HistoryPoint counts the executions that ended in one step.
type HistoryPoint struct {
	Succeeded int `json:"succeeded" doc:"Ended with success"`
	Failed    int `json:"failed" doc:"Ended otherwise"`
}

// FleetSummary is the fleet in figures, kept by counters: reading it costs
// O(types + versions), whatever the size of the fleet.
type FleetSummary struct {
	Devices     int                       `json:"devices" doc:"All devices"`
	Online      int                       `json:"online" doc:"Those that are connected"`
	Quarantined int                       `json:"quarantined,omitempty" doc:"Those that are in quarantine"`
	ByType      map[string]int            `json:"by_type" doc:"Devices by device type"`
	Versions    map[string]map[string]int `json:"versions" doc:"By image type and reported version, the number of devices"`
	Images      map[string]int            `json:"images" doc:"Images that are not archived, by image type"`
	Jobs        map[JobState]int          `json:"jobs" doc:"Jobs by state"`
	Executions  map[schemas.State]int     `json:"executions" doc:"Executions of all jobs by state"`
}
