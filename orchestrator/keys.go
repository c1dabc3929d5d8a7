package orchestrator

import (
	"encoding/binary"
	"strings"
)

// Tables. Every key is made of ids joined by NUL, which no id contains, and
// may end in a number of eight bytes, MSB first, so that the order of the keys is
// the order of every listing.
const (
	tableMeta Table = "meta" // metaTotals, metaJobSeq

	// Records, JSON, by id; jobs and their progress by name.
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
	// tableOffers marks devices whose offer topic may hold an offer, and
	// deleted ones of which the broker may retain something.
	tableOffers Table = "offers"

	// Indexes: the value is the key of the record.
	indexDeviceTypeByImageType Table = "device_types_by_image_type" // image type, device type
	indexImageByType           Table = "images_by_type"             // image type, image
	indexImageByDeviceType     Table = "images_by_device_type"      // device type, image
	indexImageByTag            Table = "images_by_tag"              // tag, image
	indexImageByBlob           Table = "images_by_blob"             // SHA-256, image
	indexDeviceByType          Table = "devices_by_type"            // device type, device
	indexDeviceOnline          Table = "devices_online"             // device
	indexGroupByDevice         Table = "groups_by_device"           // device, group
	indexJobByImage            Table = "jobs_by_image"              // image, job
	indexJobByGroup            Table = "jobs_by_group"              // group, job
	indexJobWork               Table = "job_work"                   // job whose start or cancellation is not finished
	indexExecByJob             Table = "executions_by_job"          // job, device
	indexExecByDevice          Table = "executions_by_device"       // device, order inverted: newest first
	indexExecOpen              Table = "executions_open"            // device, order: what has not ended
	indexExecChanges           Table = "execution_changes"          // job, revision of its last change
)

const (
	metaTotals = "totals"  // executions by state, over all jobs
	metaJobSeq = "job_seq" // how many jobs were started
)

func indexTables() []Table {
	return []Table{
		indexDeviceTypeByImageType, indexImageByType, indexImageByDeviceType, indexImageByTag, indexImageByBlob,
		indexDeviceByType, indexDeviceOnline, indexGroupByDevice, indexJobByImage, indexJobByGroup, indexJobWork,
		indexExecByJob, indexExecByDevice, indexExecOpen, indexExecChanges,
	}
}

// keyOf joins ids to a complete key.
func keyOf(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

// prefixOf is the beginning of every key whose first part is id.
func prefixOf(id string) []byte { return append([]byte(id), 0) }

// numbered is a key of an id and a number.
func numbered(id string, n uint64) []byte { return binary.BigEndian.AppendUint64(prefixOf(id), n) }

// numberOf reads the number at the end of a numbered key.
func numberOf(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(key)-8:])
}
