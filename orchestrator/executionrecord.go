package orchestrator

import (
	"time"

	"davit/schemas"
)

// executionFields are the fields of executionRecord in the order of its JSON.
var executionFields = []field[executionRecord]{
	textField("id", func(e *executionRecord) *string { return &e.ID }, always),
	textField("job", func(e *executionRecord) *string { return &e.Job }, always),
	textField("device", func(e *executionRecord) *string { return &e.Device }, always),
	textField("image", func(e *executionRecord) *string { return &e.Image }, always),
	textField("image_type", func(e *executionRecord) *string { return &e.ImageType }, always),
	textField("version", func(e *executionRecord) *string { return &e.Version }, always),
	uintField("version_id", func(e *executionRecord) *uint64 { return &e.VersionID }, ifThere),
	intField("attempt", func(e *executionRecord) *int { return &e.Attempt }, always),
	packedList(listField("history", func(e *executionRecord) *[]Attempt { return &e.History }, attemptFields),
		func(e *executionRecord) *[]Attempt { return &e.History }, attemptPacking),
	textField("state", func(e *executionRecord) *schemas.State { return &e.State }, always),
	textField("cause", func(e *executionRecord) *schemas.Cause { return &e.Cause }, always),
	intField("code", func(e *executionRecord) *int { return &e.Code }, ifThere),
	textField("detail", func(e *executionRecord) *string { return &e.Detail }, ifThere),
	uintField("bytes_done", func(e *executionRecord) *uint64 { return &e.BytesDone }, always),
	uintField("bytes_total", func(e *executionRecord) *uint64 { return &e.BytesTotal }, always),
	textField("host_version", func(e *executionRecord) *string { return &e.HostVersion }, always),
	uintField("seq", func(e *executionRecord) *uint64 { return &e.Seq }, always),
	intField("wave", func(e *executionRecord) *int { return &e.Wave }, ifThere),
	textField("goal", func(e *executionRecord) *string { return &e.Goal }, ifThere),
	boolField("downloaded", func(e *executionRecord) *bool { return &e.Downloaded }, ifThere),
	boolField("confirmed", func(e *executionRecord) *bool { return &e.Confirmed }, ifThere),
	timeField("not_before", func(e *executionRecord) *time.Time { return &e.NotBefore }, ifThere),
	timeField("due_at", func(e *executionRecord) *time.Time { return &e.DueAt }, ifThere),
	timeField("created_at", func(e *executionRecord) *time.Time { return &e.CreatedAt }, always),
	timeField("offered_at", func(e *executionRecord) *time.Time { return &e.OfferedAt }, ifThere),
	timeField("updated_at", func(e *executionRecord) *time.Time { return &e.UpdatedAt }, ifThere),
	timeField("ended_at", func(e *executionRecord) *time.Time { return &e.EndedAt }, ifThere),
	uintField("order", func(e *executionRecord) *uint64 { return &e.Order }, always),
	textField("min_version", func(e *executionRecord) *string { return &e.MinVersion }, ifThere),
	boolField("ignore_validation", func(e *executionRecord) *bool { return &e.IgnoreValidation }, ifThere),
	textField("sha256", func(e *executionRecord) *string { return &e.SHA256 }, always),
	intField("priority", func(e *executionRecord) *int { return &e.Priority }, ifThere),
	intField("lane", func(e *executionRecord) *int { return &e.Lane }, ifThere),
	uintField("rank", func(e *executionRecord) *uint64 { return &e.Rank }, ifThere),
	textField("action", func(e *executionRecord) *ActionKind { return &e.Action }, ifThere),
	boolField("install", func(e *executionRecord) *bool { return &e.Install }, ifThere),
	timeField("defer_until", func(e *executionRecord) *time.Time { return &e.DeferUntil }, ifThere),
	timeField("phase_at", func(e *executionRecord) *time.Time { return &e.PhaseAt }, ifThere),
	intField("tries", func(e *executionRecord) *int { return &e.Tries }, ifThere),
	intField("retries", func(e *executionRecord) *int { return &e.Retries }, ifThere),
	boolField("met", func(e *executionRecord) *bool { return &e.Met }, ifThere),
	boolField("ended", func(e *executionRecord) *bool { return &e.Ended }, ifThere),
	textField("failing", func(e *executionRecord) *schemas.Cause { return &e.Failing }, ifThere),
	uintField("rev", func(e *executionRecord) *uint64 { return &e.Rev }, always),
}

// attemptFields are the fields of an earlier attempt.
var attemptFields = []field[Attempt]{
	intField("attempt", func(a *Attempt) *int { return &a.Attempt }, always),
	textField("version", func(a *Attempt) *string { return &a.Version }, ifThere),
	textField("state", func(a *Attempt) *schemas.State { return &a.State }, always),
	textField("cause", func(a *Attempt) *schemas.Cause { return &a.Cause }, ifThere),
	intField("code", func(a *Attempt) *int { return &a.Code }, ifThere),
	textField("detail", func(a *Attempt) *string { return &a.Detail }, ifThere),
	uintField("bytes_done", func(a *Attempt) *uint64 { return &a.BytesDone }, always),
	textField("host_version", func(a *Attempt) *string { return &a.HostVersion }, ifThere),
	timeField("offered_at", func(a *Attempt) *time.Time { return &a.OfferedAt }, ifThere),
	timeField("ended_at", func(a *Attempt) *time.Time { return &a.EndedAt }, ifThere),
}

// Both packings: names are added at the end only (see packed). What turnOf looks at
// comes first.
var (
	executionPacking = packed(executionFields,
		"state", "priority", "history",
		"id", "job", "device", "image", "image_type", "version", "version_id", "attempt", "cause", "code", "detail",
		"bytes_done", "bytes_total", "host_version", "seq", "wave", "goal", "downloaded", "confirmed", "not_before", "due_at",
		"created_at", "offered_at", "updated_at", "ended_at", "order", "min_version", "ignore_validation", "sha256",
		"lane", "rank", "action", "install", "defer_until", "phase_at", "tries", "retries", "met", "ended", "failing", "rev")
	attemptPacking = packed(attemptFields,
		"attempt", "version", "state", "cause", "code", "detail", "bytes_done", "host_version", "offered_at", "ended_at")
)

func (e *executionRecord) parse(rec []byte) bool {
	p := recordParser{rest: string(rec)}
	if e.packed = isPacked(rec); e.packed {
		p.rest = p.rest[1:]
		return executionPacking.parse(&p, e, false)
	}
	return parseFields(&p, executionFields, e) && p.rest == ""
}

func (e *executionRecord) appendTo(b []byte) ([]byte, error) {
	var p []byte
	if p, e.packed = executionPacking.append(append(b, packedMark), e); e.packed {
		return p, nil
	}
	return appendFields(b, executionFields, e)
}
