package orchestrator

import (
	"time"

	"davit/schemas"
)

// largeChunk is what is suggested to a device that says it has the memory:
// 2.4 times the throughput of the default.
const largeChunk = 16 << 10

// offerOf is the offer of an execution. dev and dt are nil only if the device
// was deleted, which open executions forbid; the offer is then without hints. signed
// is the image's manifest, nil for none.
func offerOf(t *Tracked, dev *Device, dt *DeviceType, v *JobView, signed *ImageManifest) schemas.Offer {
	o := schemas.Offer{
		V: schemas.Version, Execution: t.ID, Attempt: t.Attempt, Image: t.Image, ImageType: t.ImageType,
		Version: t.Version, VersionID: t.VersionID, Size: t.BytesTotal, SHA256: t.SHA256, Force: t.IgnoreValidation, Chunk: chunkHint(0),
		Action: schemas.Action(t.Action),
	}
	if t.Action == ActionSoft {
		o.DeferUntil = t.DeferUntil
	}
	if signed != nil {
		o.Manifest, o.ManifestSize = signed.SHA256, signed.Size
	}
	if dev != nil {
		o.Stream = dev.Streams && (v == nil || v.Plan.streams() != StreamNever)
		o.Chunk = chunkHint(dev.MaxChunk)
	}
	if dt != nil {
		e, _ := dt.enabled(t.ImageType)
		o.Host = schemas.HostHint{
			Dialect:          dt.Dialect,
			VersionProperty:  e.Property(),
			NumericType:      e.NumericType,
			AttributeSize:    dt.AttributeSize,
			AnswerTimeoutMS:  milliseconds(dt.AnswerTimeout),
			VerdictTimeoutMS: milliseconds(dt.VerdictTimeout),
		}
	}
	times := dt.hostTimes()
	if v != nil && v.Plan != nil {
		times = v.Plan.Timeouts.hostTimes(times)
	}
	o.Host.BootTimeoutMS, o.Host.VersionTimeoutMS = milliseconds(times.Boot), milliseconds(times.Version)
	return o
}

// chunkHint suggests chunk sizes to a device that takes at most max bytes; 0
// is unknown.
func chunkHint(max int) schemas.ChunkHint {
	if max == 0 {
		return schemas.ChunkHint{Preferred: schemas.DefaultChunkSize, Max: schemas.MaxChunkSize}
	}
	return schemas.ChunkHint{Preferred: min(max, largeChunk), Max: max}
}

// milliseconds rounds up, so that a short limit does not become none.
func milliseconds(d Duration) int64 {
	return int64((time.Duration(d) + time.Millisecond - 1) / time.Millisecond)
}
