package orchestrator

import (
	"encoding/binary"
	"time"
)

// Tables. Every key is made of ids joined by NUL, which no id contains, and
// may end in a number of eight bytes, MSB first, so that the order of the keys is
// the order of every listing.
const (
	tableMeta Table = "meta" // metaTotals, metaJobSeq, metaRev, metaAudit, metaClock, metaLayout

	// Records, JSON but for executions (recordpack.go), by id; jobs and their
	// progress by name.
	tableImageTypes  Table = "image_types"
	tableDeviceTypes Table = "device_types"
	tableImages      Table = "images"
	tableDevices     Table = "devices"
	tableGroups      Table = "groups"
	tableJobs        Table = "jobs"
	tableProgress    Table = "job_progress"
	tableExecutions  Table = "executions"

	// tableTargets holds the devices of jobs that are not executions yet: job,
	// part number -> JSON list of at most Options.JobBatch device ids.
	tableTargets Table = "job_targets"
	// tableRetries holds the devices on which a job is to be tried again: job,
	// part number -> JSON retryPart.
	tableRetries Table = "job_retries"
	// tableOffers marks devices whose offer topic may hold an offer, and
	// deleted ones of which the broker may retain something.
	tableOffers Table = "offers"

	// tableHistory holds how a job's executions ended over time: job -> JSON.
	tableHistory Table = "job_history"
	// tableUploads holds files that are not images yet, JSON, by id.
	tableUploads Table = "uploads"
	// tableAudit is the audit log: ^number -> JSON, so that the newest is first.
	tableAudit Table = "audit"
	// tableCounters holds numbers of records: key of the counter -> eight
	// bytes, MSB first. A counter that has fallen to 0 is not there.
	tableCounters Table = "counters"
	// tableEventAt says where in indexEvents a record stands that does not
	// carry its revision: kind, id -> eight bytes, MSB first. It outlives the record.
	tableEventAt Table = "event_at"
	// tableVersions holds the numbers of versions, which outlive their images:
	// image type, version -> JSON versionRecord.
	tableVersions Table = "versions"
	// tableIdempotency holds what creations with an idempotency key made.
	tableIdempotency Table = "idempotency"

	// tableClaims holds claims, JSON, by id; tableClaimHashes the SHA-256 of their tokens,
	// by id; tableClaimed with which claim devices were made, JSON, by device.
	tableClaims      Table = "claims"
	tableClaimHashes Table = "claim_hashes"
	tableClaimed     Table = "claimed"

	// Indexes: the value is the key of the record.
	indexDeviceTypeByImageType Table = "device_types_by_image_type" // image type, device type
	indexImageByTime           Table = "images_by_time"             // creation inverted, image: newest first, without archived ones
	indexImageArchived         Table = "images_archived"            // the same of archived images
	indexImageByType           Table = "images_by_type"             // image type, creation inverted, image
	indexImageByDeviceType     Table = "images_by_device_type"      // device type, creation inverted, image
	indexImageByTag            Table = "images_by_tag"              // tag, creation inverted, image
	indexImageByBlob           Table = "images_by_blob"             // SHA-256, image
	indexDeviceByType          Table = "devices_by_type"            // device type, device
	indexDeviceOnline          Table = "devices_online"             // device
	indexDeviceByLabel         Table = "devices_by_label"           // name=value, device
	indexDeviceByVersion       Table = "devices_by_version"         // image type, version, device
	indexDeviceQuarantined     Table = "devices_quarantined"        // device
	indexGroupByDevice         Table = "groups_by_device"           // device, group
	indexDeviceByGroup         Table = "devices_by_group"           // group, device
	indexGroupDynamic          Table = "groups_dynamic"             // group that has a query
	indexJobByImage            Table = "jobs_by_image"              // image, creation inverted, job: newest first
	indexJobByGroup            Table = "jobs_by_group"              // group, job
	indexJobWork               Table = "job_work"                   // job of which something is left to do (jobwork.go)
	indexExecByJob             Table = "executions_by_job"          // job, device
	indexJobByTime             Table = "jobs_by_time"               // creation inverted, job: newest first
	indexExecByState           Table = "executions_by_state"        // job, state, device
	indexExecByDevice          Table = "executions_by_device"       // device, order inverted: newest first
	indexExecOpen              Table = "executions_open"            // device, order: what has not ended
	indexExecByWave            Table = "executions_by_wave"         // job, wave (2 bytes), device
	indexExecFailed            Table = "executions_failed"          // end inverted, execution: what ended without success and was not canceled, the latest first
	indexExecReady             Table = "executions_ready"           // job, lane, wave (2 bytes each), rank (8), device: see jobready.go
	indexTimers                Table = "timers"                     // time (8 bytes), kind, id: what has to be looked at then
	indexJobStarved            Table = "jobs_starved"               // job that waits for a place of the service's limit
	indexJobContinuous         Table = "jobs_continuous"            // job that takes devices which come to its target
	indexJobEnded              Table = "jobs_ended"                 // when it ended (8 bytes), job: the oldest first
	indexExecChanges           Table = "execution_changes"          // job, revision of an execution's last change
	indexEvents                Table = "events"                     // revision -> kind, id of what changed then last; executions stand in execution_changes
	indexAuditByObject         Table = "audit_by_object"            // kind, id, ^number
	indexAuditByActor          Table = "audit_by_actor"             // name, ^number
	indexUploadByBlob          Table = "uploads_by_blob"            // SHA-256, upload
	indexIdempotencyByTime     Table = "idempotency_by_time"        // time, key
	indexVersionByID           Table = "versions_by_id"             // image type, ^number: the highest first
	indexClaimByDeviceType     Table = "claims_by_device_type"      // device type, claim that is not revoked
	indexClaimByGroup          Table = "claims_by_group"            // group, claim that is not revoked
)

const (
	metaTotals = "totals"  // executions by state, over all jobs
	metaJobSeq = "job_seq" // how many jobs were started
	metaRev    = "rev"     // the revision of the last change of anything
	metaAudit  = "audit"   // the number of the last entry of the audit log
	// metaAuditFirst is the number of its oldest entry that is kept; without it 1.
	metaAuditFirst = "audit_first"
	// metaRetentionClock is the latest time at which retention believed the clock, in nanoseconds.
	metaRetentionClock = "retention_clock"
	// metaClock is the latest time at which executions were written, or a little earlier, in nanoseconds.
	metaClock = "clock"
)

func indexTables() []Table {
	return []Table{
		indexDeviceTypeByImageType, indexImageByTime, indexImageArchived, indexImageByType, indexImageByDeviceType, indexImageByTag, indexImageByBlob,
		indexDeviceByType, indexDeviceOnline, indexDeviceByLabel, indexDeviceByVersion, indexDeviceQuarantined, indexGroupByDevice, indexDeviceByGroup, indexGroupDynamic, indexJobByImage,
		indexJobByGroup, indexJobWork, indexJobByTime, indexExecByJob, indexExecByState, indexExecByDevice, indexExecOpen, indexExecByWave, indexExecFailed, indexTimers, indexJobStarved, indexJobContinuous, indexJobEnded,
		indexExecChanges, indexEvents, indexAuditByObject, indexAuditByActor, indexUploadByBlob, indexIdempotencyByTime, indexVersionByID,
		indexClaimByDeviceType, indexClaimByGroup,
	}
}

// keyOf joins ids to a complete key.
func keyOf(parts ...string) []byte {
	n := len(parts)
	for _, p := range parts {
		n += len(p)
	}
	k := keyMaker{make([]byte, 0, n)}
	return k.ids(parts...)
}

// prefixOf is the beginning of every key whose first part is id.
func prefixOf(id string) []byte { return append(append(make([]byte, 0, len(id)+1), id...), 0) }

// numbered is a key of an id and a number.
func numbered(id string, n uint64) []byte {
	k := keyMaker{make([]byte, 0, len(id)+9)}
	return k.numbered(id, n)
}

// keyMaker makes many keys in one buffer.
type keyMaker struct{ room []byte }

// cut returns what was added since a length, so that nothing can be added to it.
func (k *keyMaker) cut(from int) []byte { return k.room[from:len(k.room):len(k.room)] }

func (k *keyMaker) ids(parts ...string) []byte {
	from := len(k.room)
	for i, p := range parts {
		if i > 0 {
			k.room = append(k.room, 0)
		}
		k.room = append(k.room, p...)
	}
	return k.cut(from)
}

func (k *keyMaker) numbered(id string, n uint64) []byte {
	from := len(k.room)
	k.room = binary.BigEndian.AppendUint64(append(append(k.room, id...), 0), n)
	return k.cut(from)
}

// newest is a key before those of what is older.
func (k *keyMaker) newest(at time.Time, id string) []byte {
	from := len(k.room)
	k.room = append(append(k.room, newestFirst(at)...), id...)
	return k.cut(from)
}

func (k *keyMaker) number(n uint64) []byte {
	from := len(k.room)
	k.room = binary.BigEndian.AppendUint64(k.room, n)
	return k.cut(from)
}

// numberOf reads the number at the end of a numbered key.
func numberOf(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(key)-8:])
}

func (k *keyMaker) inWave(job string, wave int, device string) []byte {
	from := len(k.room)
	k.room = binary.BigEndian.AppendUint16(append(append(k.room, job...), 0), uint16(wave))
	k.room = append(k.room, device...)
	return k.cut(from)
}
