package orchestrator

import (
	"time"

	"davit/schemas"
)

// Rollout says how a job reaches its devices: in which waves, how fast, when, what
// is tried again and what stops it. A job without one offers its image to all of
// its devices at once. It never changes after the job was created.
type Rollout struct {
	Seed       string       `json:"seed,omitempty" maxLength:"64" doc:"What the order of the devices is drawn from; the same seed and devices make the same waves. The job's name if left out"`
	Waves      []Wave       `json:"waves,omitempty" maxItems:"50" doc:"The parts of the job's devices, in the order in which they are released. Devices that none of them takes form a last one, named rest"`
	Stop       []StopRule   `json:"stop,omitempty" maxItems:"32" doc:"What pauses or aborts the job by itself"`
	Pace       *Pace        `json:"pace,omitempty" doc:"How many devices at a time, and how fast"`
	Schedule   *Schedule    `json:"schedule,omitempty" doc:"When devices may be offered the image"`
	Timeouts   *Timeouts    `json:"timeouts,omitempty" doc:"How long each part of an update may take"`
	Retry      *RetryPolicy `json:"retry,omitempty" doc:"What is tried again by itself; nothing if left out"`
	Continuous bool         `json:"continuous,omitempty" doc:"Devices that come to the target later, or report another version again, get the job too. Such a job ends at its end or when it is canceled"`
	Priority   int          `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Which job has its turn first on a device: the higher one, then the one that was started first. 0 if left out"`
	Action     ActionKind   `json:"action,omitempty" enum:"install,soft,confirm,download" doc:"install (the device installs it), soft (the device may put it off until defer_limit), confirm (somebody has to agree first) or download (the device fetches it and installs it on command). install if left out"`
	DeferLimit Duration     `json:"defer_limit,omitzero" doc:"With soft, how long after the first offer a device may put the update off"`
	ConfirmBy  ConfirmBy    `json:"confirm_by,omitempty" enum:"person,product" doc:"With confirm, who has to agree: person (for each device, with confirm) or product (the device itself, by accepting the offer). person if left out"`
	Stream     StreamMode   `json:"stream,omitempty" enum:"auto,always,never" doc:"Whether devices that can are sent the image together, by its shared stream: auto (while enough of them fetch it at a time), always (while several do) or never. auto if left out"`
	Via        []string     `json:"via,omitempty" maxItems:"16" doc:"Images of the same image type that devices may be led through: one whose version is not the job's image's min version gets those first that lead there, by their min versions"`
}

// ActionKind is what a device is asked to do with an image.
type ActionKind string

// The kinds of action.
const (
	ActionInstall  ActionKind = "install"
	ActionSoft     ActionKind = "soft"
	ActionConfirm  ActionKind = "confirm"
	ActionDownload ActionKind = "download"
)

// ConfirmBy is who has to agree to an update.
type ConfirmBy string

// Who has to agree.
const (
	ByPerson  ConfirmBy = "person"
	ByProduct ConfirmBy = "product"
)

// StreamMode is when an image is sent by its shared stream.
type StreamMode string

// The modes.
const (
	StreamAuto   StreamMode = "auto"
	StreamAlways StreamMode = "always"
	StreamNever  StreamMode = "never"
)

// streams is the rollout's mode.
func (r *Rollout) streams() StreamMode {
	if r == nil || r.Stream == "" {
		return StreamAuto
	}
	return r.Stream
}

// Wave is a part of a job's devices that is released together. Exactly one of
// Devices, Group, Percent and Count says which.
type Wave struct {
	Name    string    `json:"name,omitempty" maxLength:"64" doc:"For people; wave and its number if left out"`
	Devices []string  `json:"devices,omitempty" maxItems:"1000" doc:"Named devices, for example canaries; they have to be among the job's"`
	Group   string    `json:"group,omitempty" doc:"Those of the job's devices that belong to the group when the job is created"`
	Percent float64   `json:"percent,omitempty" minimum:"0" maximum:"100" doc:"Up to this part of the devices that no wave names, the waves before included: 5, 25, 100"`
	Count   int       `json:"count,omitempty" minimum:"0" doc:"So many more of the devices that no wave names"`
	Success float64   `json:"success,omitempty" minimum:"0" maximum:"100" doc:"How many per cent of this wave have to have succeeded before the next one begins; 100 if left out"`
	Of      WaveBasis `json:"of,omitempty" enum:"all,online" doc:"Of which devices: all of the wave, or online (those that were there to be offered the image). all if left out"`
	Soak    Duration  `json:"soak,omitzero" doc:"How long that has to hold before the next wave begins"`
	Approve bool      `json:"approve,omitempty" doc:"Somebody has to approve before this wave begins"`
}

// WaveBasis is what a wave's success is a part of.
type WaveBasis string

// The bases.
const (
	OfAll    WaveBasis = "all"
	OfOnline WaveBasis = "online"
)

// StopRule stops a job when devices fail: those whose last attempt ended without
// success, whether or not they are tried again. Count or Percent has to be set;
// with both, either is enough.
type StopRule struct {
	Causes    []schemas.Cause `json:"causes,omitempty" doc:"Only failures with one of these causes count; all if left out"`
	Count     int             `json:"count,omitempty" minimum:"0" doc:"So many devices have failed"`
	Percent   float64         `json:"percent,omitempty" minimum:"0" maximum:"100" doc:"So many per cent of the devices that came to an end have failed"`
	MinSample int             `json:"min_sample,omitempty" minimum:"0" doc:"percent counts from so many devices on that came to an end; 1 if left out"`
	Over      RuleScope       `json:"over,omitempty" enum:"job,wave" doc:"Over the whole job or each wave by itself; job if left out"`
	Action    StopAction      `json:"action,omitempty" enum:"pause,abort,recall" doc:"pause, abort (what is in progress finishes) or recall (what is in progress is canceled as well); pause if left out"`
	RollBack  string          `json:"roll_back,omitempty" doc:"With abort and recall, the image that the devices get by a job of its own that have succeeded by then"`
}

// RuleScope is what a stop rule counts over.
type RuleScope string

// The scopes.
const (
	OverJob  RuleScope = "job"
	OverWave RuleScope = "wave"
)

// StopAction is what a stop rule does.
type StopAction string

// The actions.
const (
	StopPause  StopAction = "pause"
	StopAbort  StopAction = "abort"
	StopRecall StopAction = "recall"
)

// Pace limits how many devices are in progress (offered the image and not at an
// end) and how many are newly offered it. Zero is no limit. A job with a pace
// offers to connected devices only, so that absent ones take nobody's place.
type Pace struct {
	MaxInProgress int         `json:"max_in_progress,omitempty" minimum:"0" doc:"How many devices may be in progress at a time"`
	PerMinute     int         `json:"per_minute,omitempty" minimum:"0" doc:"How many devices may newly be offered the image in any minute"`
	Ramp          *Ramp       `json:"ramp,omitempty" doc:"Begins slower than per_minute and gets faster with success"`
	Groups        []GroupPace `json:"groups,omitempty" maxItems:"16" doc:"Limits for the devices of a group, in addition to the job's"`
}

// Ramp multiplies the rate whenever enough devices have succeeded.
type Ramp struct {
	Start  int     `json:"start" minimum:"1" doc:"The rate in devices per minute with which the job begins"`
	Factor float64 `json:"factor,omitempty" doc:"What it is multiplied by, more than 1; 2 if left out"`
	After  int     `json:"after" minimum:"1" doc:"After how many more successes"`
}

// GroupPace is a pace for the devices that belong to a group when they join the
// job.
type GroupPace struct {
	Group         string `json:"group" doc:"The group"`
	MaxInProgress int    `json:"max_in_progress,omitempty" minimum:"0" doc:"How many of its devices may be in progress at a time"`
	PerMinute     int    `json:"per_minute,omitempty" minimum:"0" doc:"How many of its devices may newly be offered the image in any minute"`
}

// Schedule says when devices may be offered an image. What a device has accepted
// is finished outside as well, unless Recall says otherwise.
type Schedule struct {
	Start      time.Time `json:"start,omitzero" doc:"Nothing is offered before"`
	End        time.Time `json:"end,omitzero" doc:"Nothing is offered from then on: devices that have not accepted by then are canceled, the others finish"`
	Windows    []Window  `json:"windows,omitempty" maxItems:"16" doc:"Offered only while one of them is open; always if left out"`
	DeviceZone string    `json:"device_zone,omitempty" maxLength:"64" doc:"The label that holds a device's own zone, in which the windows are then read"`
	Recall     bool      `json:"recall,omitempty" doc:"When the windows close, devices that have not begun to load their MCU are taken back as well and go on in the next window"`
}

// Window is a recurring maintenance window.
type Window struct {
	Cron     string   `json:"cron" maxLength:"128" doc:"When it opens: minute, hour, day of month, month, day of week, for example 0 1 * * mon-fri"`
	Duration Duration `json:"duration" doc:"How long it stays open, 1m to 168h; real time, also when clocks change"`
	Zone     string   `json:"zone,omitempty" maxLength:"64" doc:"The IANA zone of the clock that is read, for example Europe/Berlin; UTC if left out"`
}

// Timeouts limit the parts of an update. Zero is no limit. An execution that is
// over one ends as timed out, and is tried again if the retry policy says so.
type Timeouts struct {
	Answer   Duration `json:"answer,omitzero" doc:"From the offer to its acceptance. An offer that a device does not answer because it is gone is taken back and made again later"`
	Download Duration `json:"download,omitzero" doc:"From the acceptance until the device holds the image"`
	Load     Duration `json:"load,omitzero" doc:"From then until the host MCU has taken it all, without what load_rate adds"`
	LoadRate int      `json:"load_rate,omitempty" minimum:"0" doc:"In bytes per second, the slowest line that is waited for: adds size / load_rate to load"`
	Boot     Duration `json:"boot,omitzero" doc:"How long the host MCU may take to boot. The device watches it; the service waits for boot and version together, and takes from the device type what is left out of the two"`
	Version  Duration `json:"version,omitzero" doc:"How long after that it may take to report its version, watched as boot is"`
	Total    Duration `json:"total,omitzero" doc:"From the offer to the end of the attempt"`
}

// RetryPolicy says what is tried again by itself. Causes that another try cannot
// help (already, size, signature, min_version) never are.
type RetryPolicy struct {
	Attempts int                          `json:"attempts,omitempty" minimum:"0" maximum:"100" doc:"How often an update is tried in all; 3 if left out"`
	Backoff  *Backoff                     `json:"backoff,omitempty" doc:"How long is waited before; 1m, doubling up to 1h, if left out"`
	Causes   map[schemas.Cause]CauseRetry `json:"causes,omitempty" doc:"What holds for failures with a cause instead"`
	Budget   int                          `json:"budget,omitempty" minimum:"0" doc:"How many retries all devices of the job may have together; 0 is no limit"`
}

// CauseRetry is what holds for one cause.
type CauseRetry struct {
	Attempts int      `json:"attempts,omitempty" minimum:"0" maximum:"100" doc:"How often in all; 1 is never again"`
	Backoff  *Backoff `json:"backoff,omitempty" doc:"The policy's if left out"`
}

// Backoff is how the waits before retries grow.
type Backoff struct {
	First  Duration `json:"first,omitzero" doc:"The first wait; 1m if left out"`
	Factor float64  `json:"factor,omitempty" doc:"What each is multiplied by for the next, 1 or more; 2 if left out"`
	Max    Duration `json:"max,omitzero" doc:"The longest; 1h if left out"`
	Jitter float64  `json:"jitter,omitempty" minimum:"0" maximum:"1" doc:"By which part waits differ from device to device, up or down; 0.2 if left out"`
}

// WaveStatus is where one wave of a job stands.
type WaveStatus struct {
	Number     int       `json:"number" doc:"Counts from 1"`
	Name       string    `json:"name" doc:"Its name"`
	State      WaveState `json:"state" doc:"waiting, approval (waits for somebody to approve), running, soaking (enough have succeeded) or done (the next one began)"`
	Devices    int       `json:"devices" doc:"How many devices it has"`
	Queued     int       `json:"queued" doc:"Those that have not been offered the image, or are to be tried again"`
	InProgress int       `json:"in_progress" doc:"Those that were offered it and have not ended"`
	Succeeded  int       `json:"succeeded" doc:"Those that run the image's version"`
	Failed     int       `json:"failed" doc:"Those that ended without success"`
	Canceled   int       `json:"canceled" doc:"Those that were canceled"`
	Needed     int       `json:"needed" doc:"How many have to succeed before the next wave begins, as it stands now"`
	StartedAt  time.Time `json:"started_at,omitzero" doc:"When it was released"`
	ReachedAt  time.Time `json:"reached_at,omitzero" doc:"Since when enough have succeeded"`
	NextAt     time.Time `json:"next_at,omitzero" doc:"When the soak time ends"`
}

// WaveState is where a wave stands.
type WaveState string

// The states of a wave.
const (
	WaveWaiting  WaveState = "waiting"
	WaveApproval WaveState = "approval"
	WaveRunning  WaveState = "running"
	WaveSoaking  WaveState = "soaking"
	WaveDone     WaveState = "done"
)

// WaveMember is a device of a wave, with what became of it.
type WaveMember struct {
	Device    string     `json:"device" doc:"The device"`
	Execution *Execution `json:"execution,omitempty" doc:"Its execution, once the job was started"`
}

// ApproveRequest approves the next wave of a job.
type ApproveRequest struct {
	Wave  int  `json:"wave" minimum:"2" doc:"The number of the wave that may begin, so that nobody approves another one than the one that he saw"`
	Force bool `json:"force,omitempty" doc:"It begins now, whatever became of the wave before"`
}

// CancelRequest says how a job is canceled.
type CancelRequest struct {
	Finish bool `json:"finish,omitempty" doc:"What devices have accepted finishes; without it that is recalled too"`
}

// DevicesRequest names some of a job's devices.
type DevicesRequest struct {
	Devices []string `json:"devices,omitempty" doc:"Only these devices; without it all that wait for it"`
}

// PreviewWave is a wave that a job would have.
type PreviewWave struct {
	Name     string   `json:"name" doc:"Its name"`
	Devices  int      `json:"devices" doc:"How many devices it would have"`
	First    []string `json:"first" doc:"The first 20 of them, in the order in which they are released"`
	Bytes    uint64   `json:"bytes" doc:"What their downloads come to"`
	Duration Duration `json:"duration" doc:"How long it would take, its soak time included, if every device were connected and succeeded"`
}

// Exclusion is a device that would not be brought to the image, and why.
type Exclusion struct {
	Device string        `json:"device" doc:"The device"`
	Kind   ExclusionKind `json:"kind" doc:"running (runs the version already), unfit (the image is not for its type), quarantined (it is in quarantine, since when and why says the reason), unreachable (no path leads from its version) or unknown (it has not reported a version yet)"`
	Reason string        `json:"reason" doc:"In a sentence"`
}

// ExclusionKind is why a device would not be brought to an image.
type ExclusionKind string

// The kinds.
const (
	ExcludedRunning     ExclusionKind = "running"
	ExcludedUnfit       ExclusionKind = "unfit"
	ExcludedQuarantined ExclusionKind = "quarantined"
	ExcludedUnreachable ExclusionKind = "unreachable"
	ExcludedUnknown     ExclusionKind = "unknown"
)
