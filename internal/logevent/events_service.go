package logevent

// This file: what happens to devices, jobs and images.

// Devices and what they say.
const (
	// A device is connected to the broker.
	DeviceConnected Event = "device.connected"
	// A device is not connected any more, by its own word or by the broker's for it.
	// To do: If it should be there, look at its power and network.
	DeviceDisconnected Event = "device.disconnected"
	// A device says that it is of another device type than it was created with; the created one counts.
	// To do: Correct the module's configuration, or create the device anew with the right type.
	DeviceTypeDiffers Event = "device.type_differs"
	// A device was not told its type's dialect and version properties; it is when it says hello again.
	// To do: Nothing, unless it repeats: then look at the connection to the broker.
	ProfileNotPublished Event = "device.profile_not_published"
)

// Messages of devices.
const (
	// A message of a device was dropped, because too much waits to be handled; devices repeat what counts.
	// To do: If it lasts, the service is too slow for its fleet: look at commit latency and CPU.
	MessageDropped Event = "message.dropped"
	// A report is recorded, but its acknowledgement was not sent; the device repeats the report.
	// To do: Look at the connection to the broker.
	AckNotSent Event = "message.ack_not_sent"
	// A message could not be handled because of a fault of the service's own; devices repeat what counts.
	// To do: Look at the error; disk and store first.
	MessageFailed Event = "message.failed"
	// A message is malformed, or says what its device may not say.
	// To do: Look at the module's software; the reason says what is wrong.
	MessageRefused Event = "message.refused"
)

// Executions.
const (
	// An execution waits for its turn, for the first time or after an attempt that ended.
	ExecutionQueued Event = "execution.queued"
	// An image is offered to a device.
	ExecutionOffered Event = "execution.offered"
	// The device has accepted the offer.
	ExecutionAccepted Event = "execution.accepted"
	// The module fetches the image.
	ExecutionDownloading Event = "execution.downloading"
	// The module holds the whole image, verified.
	ExecutionDownloaded Event = "execution.downloaded"
	// The image is being loaded into the host MCU.
	ExecutionInstalling Event = "execution.installing"
	// The host MCU boots the new image.
	ExecutionBooting Event = "execution.booting"
	// The booted host MCU has reported the new version.
	ExecutionSucceeded Event = "execution.succeeded"
	// The device or the rules refused the image; cause says why.
	// To do: Look at cause and detail; min_version and same version are no faults.
	ExecutionRejected Event = "execution.rejected"
	// The update ended without success; cause says where.
	// To do: Look at cause, code and detail (docs/rollouts.md); davit job retry tries it again.
	ExecutionFailed Event = "execution.failed"
	// A phase of the update took longer than it may.
	// To do: Look whether the device is reachable and how fast its line is.
	ExecutionTimedOut Event = "execution.timed_out"
	// Its job was canceled, or the execution was.
	ExecutionCanceled Event = "execution.canceled"
	// A module has started again and goes on with the update that was under way.
	ExecutionResumed Event = "execution.resumed"
	// A draining bridge leaves an update for its next start.
	// To do: Start the bridge again; nothing is lost.
	ExecutionLeft Event = "execution.left"
	// A module gives up an update because the service does not want it any more.
	ExecutionDropped Event = "execution.dropped"
	// A result of a bridge's own would break the contract and is not sent.
	// To do: A fault of davit: report it with the error.
	ResultInvalid Event = "execution.result_invalid"
	// A module could not write down where an update stands; a restart may repeat work.
	// To do: Look at the disk of the module: room, permissions, errors.
	RecordNotWritten Event = "execution.record_not_written"
)

// Jobs.
const (
	// A stop rule or a limit has paused, canceled or rolled back a job.
	// To do: Look at the reason and at the failed executions: davit job show NAME.
	JobStopped Event = "job.stopped"
	// Something that was asked of jobs is not done on all of their devices yet; it is tried again.
	// To do: Look at the error; disk and store first.
	JobTaskDelayed Event = "job.task_delayed"
)

// Offers.
const (
	// A module has received an offer.
	OfferReceived Event = "offer.received"
	// An offer came after its expiry and is not taken.
	// To do: If it repeats, compare the clocks of bridge and service.
	OfferExpired Event = "offer.expired"
	// A draining bridge takes no new offer; it is taken at the next start.
	OfferLeft Event = "offer.left"
	// An offer could not be read and is not taken.
	// To do: Compare the versions of service and module.
	OfferMalformed Event = "offer.malformed"
	// An offer did not reach the broker; it is tried again.
	// To do: Look at the connection to the broker.
	OfferNotPublished Event = "offer.not_published"
	// After a start or a new link to the broker, not all offers were published anew.
	// To do: Look at the error; disk and store first. A restart tries it again.
	OffersNotRepublished Event = "offer.not_republished"
	// An image was fetched ahead and is kept until it is to be installed.
	ImageKept Event = "offer.image_kept"
)

// Fetching images.
const (
	// A device asks for bytes that it may not have.
	// To do: If it repeats, look at the module's software.
	FetchRefused Event = "fetch.refused"
	// Chunks were not sent; the device asks again.
	ChunkNotSent Event = "fetch.chunk_not_sent"
	// A transfer to a device broke off; the device asks again.
	ChunksNotSent Event = "fetch.transfer_broken"
	// An image is sent to each device alone, because its shared stream could not go on.
	ImageNotShared Event = "fetch.not_shared"
	// A bridge begins to fetch an image, or goes on with it.
	FetchStarted Event = "fetch.started"
	// A module's request for bytes was not sent; it asks again.
	FetchNotSent Event = "fetch.not_sent"
	// What was fetched is not the image that was announced; it is fetched again.
	// To do: If it repeats, somebody changes data on the way, or a disk does.
	FetchAgain Event = "fetch.again"
	// A chunk could not be read and is dropped.
	ChunkMalformed Event = "fetch.chunk_malformed"
	// A chunk was dropped because the module is slower than the network; it is asked for again.
	ChunkDropped Event = "fetch.chunk_dropped"
	// Blocks in the spool are not what was signed; they are fetched again.
	// To do: Look at the bridge's disk.
	BlocksOnDiskBad Event = "fetch.blocks_on_disk_bad"
	// Blocks of other images in the spool are the same; they are not fetched.
	BlocksReused Event = "fetch.blocks_reused"
	// A block that came is not what was signed; it is fetched again.
	// To do: Somebody changes data on the way: look at the path to the service.
	BlockBad Event = "fetch.block_bad"
	// A download is suspiciously slow: somebody may hold an update back.
	// To do: Look at the path to the service.
	FetchSlow Event = "fetch.slow"
	// Data keeps coming that nobody asked for; it is dropped.
	// To do: Look for who sends it.
	FetchUnasked Event = "fetch.unasked"
)

// Images, uploads and signatures.
const (
	// An image was created.
	ImageCreated Event = "image.created"
	// The file of an image could not be closed after it was sent.
	// To do: Look at the disk.
	ImageNotClosed Event = "image.not_closed"
	// A signed manifest was attached to an image.
	ManifestAttached Event = "image.manifest_attached"
	// A bridge has verified the signatures of an image's manifest.
	ManifestVerified Event = "image.manifest_verified"
	// A bridge refuses an image: its signatures or its counter do not allow it.
	// To do: Look at the reason; docs/security.md says what each means.
	ImageRefused Event = "image.refused"
	// A security counter could not be written; after a restart an older image might be taken until it is.
	// To do: Look at the bridge's disk.
	CounterNotWritten Event = "image.counter_not_written"
	// Keys for signatures of images have been read and are in force.
	KeysInForce Event = "image.keys_in_force"
	// A file was uploaded.
	UploadDone Event = "upload.done"
	// Bytes that may be unused stay on the disk until they are looked at again.
	// To do: Nothing, unless it repeats: then look at the disk.
	BytesNotFreed Event = "upload.bytes_not_freed"
	// Expired uploads are not thrown away; it is tried again in an hour.
	// To do: Look at the disk.
	UploadsNotExpired Event = "upload.not_expired"
	// Uploads that were not used in time are thrown away.
	UploadsExpired Event = "upload.expired"
)

// The program's own start.
const (
	// An environment variable that begins with DAVIT_ names no setting of the program.
	// To do: Correct its name, as reason says, or remove it.
	VariableUnknown Event = "config.variable_unknown"
	// A SIGHUP has come and changes nothing: a service reads its settings when it starts.
	// To do: Restart the service for other settings; certificates, keys and lists are read again by themselves.
	HangupIgnored Event = "config.hangup_ignored"
	// The service manager could not be told how the program is; it may take it for not started.
	// To do: Look at NOTIFY_SOCKET and at the unit's NotifyAccess.
	ManagerNotTold Event = "process.manager_not_told"
)

// The data folder.
const (
	// The disk is full: nothing can be recorded until there is room. The service stays up and tries again by itself.
	// To do: Make room on the disk of path; docs/datafolder.md says what can go.
	StoreFull Event = "store.full"
	// The disk cannot be written, for another reason than want of room: nothing can be recorded. The service stays up and tries again by itself.
	// To do: Look at why (dmesg): a file system with errors is mounted for reading only.
	StoreUnwritable Event = "store.unwritable"
	// Records are written again, after the disk was full or could not be written.
	StoreWrites Event = "store.writes"
	// The records' file was compacted by itself, because much of it was free (--compact-free).
	StoreCompacted Event = "store.compacted"
	// The records' file could not be compacted by itself; it is tried again in an hour.
	// To do: Look at the error; the disk needs room for a second file.
	StoreNotCompacted Event = "store.not_compacted"
	// The records were brought to the layout of this program.
	StoreMigrated Event = "store.migrated"
	// A backup broke off before its end; what was written of it is refused by davit restore.
	// To do: Take it again; if the error is not the client's, look at the disk.
	BackupBrokeOff Event = "backup.broke_off"
	// What a backup held on disk is not freed before the next start.
	// To do: Look at the error.
	BackupNotFreed Event = "backup.not_freed"
	// What is kept no longer (--keep-audit, --keep-jobs, --keep-archived-images) was deleted.
	RetentionDeleted Event = "retention.deleted"
	// Not everything is deleted that is kept no longer; it is tried again in an hour.
	// To do: Look at the error.
	RetentionFailed Event = "retention.failed"
	// Nothing is deleted for its age: the clock has leapt ahead of all that is known to be past.
	// To do: Set the clock, or have it kept by an NTP client. If it is right, say so with --clock-confirmed (docs/datafolder.md).
	RetentionHeld Event = "retention.held"
	// The clock is believed again: what is kept no longer is deleted.
	RetentionGoesOn Event = "retention.goes_on"
	// The clock was set back: limits and waits of executions are moved back with it, so that none lasts longer than it was made for.
	// To do: Have the clock kept by an NTP client; docs/operator.md says what else follows.
	ClockSetBack Event = "clock.set_back"
	// Devices that were connected when the service ended are not set offline yet; it is tried again.
	// To do: Look at the error; disk and store first.
	PresenceNotRecorded Event = "device.presence_not_recorded"
)
