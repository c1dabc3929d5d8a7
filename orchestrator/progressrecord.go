package orchestrator

import (
	"time"

	"davit/schemas"
)

// progressFields are the fields of progressRecord in the order of its JSON.
var progressFields = []field[progressRecord]{
	textField("name", func(p *progressRecord) *string { return &p.Name }, always),
	textField("state", func(p *progressRecord) *JobState { return &p.State }, always),
	listField("work", func(p *progressRecord) *[]jobTask { return &p.Work }, taskFields),
	countsField("counts", func(p *progressRecord) *map[schemas.State]int { return &p.Counts }, always),
	countsField("causes", func(p *progressRecord) *map[schemas.Cause]int { return &p.Causes }, ifThere),
	uintField("rev", func(p *progressRecord) *uint64 { return &p.Rev }, always),
	uintField("seq", func(p *progressRecord) *uint64 { return &p.Seq }, ifThere),
	uintField("added", func(p *progressRecord) *uint64 { return &p.Added }, ifThere),
	timeField("started_at", func(p *progressRecord) *time.Time { return &p.StartedAt }, ifThere),
	timeField("completed_at", func(p *progressRecord) *time.Time { return &p.CompletedAt }, ifThere),
	textField("reason", func(p *progressRecord) *string { return &p.Reason }, ifThere),
	boolField("ended", func(p *progressRecord) *bool { return &p.Ended }, ifThere),
	intField("wave", func(p *progressRecord) *int { return &p.Wave }, ifThere),
	listField("waves", func(p *progressRecord) *[]waveRecord { return &p.Waves }, waveFields),
	listField("lanes", func(p *progressRecord) *[]lane { return &p.Lanes }, laneFields),
	listField("groups", func(p *progressRecord) *[]groupCount { return &p.Groups }, groupCountFields),
	timeField("next_offer", func(p *progressRecord) *time.Time { return &p.NextOffer }, ifThere),
	structField("outcomes", func(p *progressRecord) *outcomes { return &p.Outcomes }, outcomesFields, (*outcomes).none),
	structField("forgiven", func(p *progressRecord) *outcomes { return &p.Forgiven }, outcomesFields, (*outcomes).none),
	intField("retries", func(p *progressRecord) *int { return &p.Retries }, ifThere),
	intField("joined", func(p *progressRecord) *int { return &p.Joined }, ifThere),
	boolField("continuous", func(p *progressRecord) *bool { return &p.Continuous }, ifThere),
	textField("waits", func(p *progressRecord) *waits { return &p.Waits }, ifThere),
	timeField("waits_until", func(p *progressRecord) *time.Time { return &p.WaitsUntil }, ifThere),
	timeField("wake_at", func(p *progressRecord) *time.Time { return &p.WakeAt }, ifThere),
	boolField("starved", func(p *progressRecord) *bool { return &p.Starved }, ifThere),
	textField("roll_back", func(p *progressRecord) *string { return &p.RollBack }, ifThere),
	textField("roll_back_job", func(p *progressRecord) *string { return &p.RollBackJob }, ifThere),
	boolField("expiring", func(p *progressRecord) *bool { return &p.Expiring }, ifThere),
}

var taskFields = []field[jobTask]{
	textField("kind", func(t *jobTask) *taskKind { return &t.Kind }, always),
	textField("after", func(t *jobTask) *string { return &t.After }, ifThere),
	uintField("rev", func(t *jobTask) *uint64 { return &t.Rev }, ifThere),
	boolField("finish", func(t *jobTask) *bool { return &t.Finish }, ifThere),
	textField("why", func(t *jobTask) *string { return &t.Why }, ifThere),
}

var waveFields = []field[waveRecord]{
	intField("devices", func(w *waveRecord) *int { return &w.Devices }, always),
	intField("queued", func(w *waveRecord) *int { return &w.Queued }, ifThere),
	intField("in_progress", func(w *waveRecord) *int { return &w.InProgress }, ifThere),
	intField("succeeded", func(w *waveRecord) *int { return &w.Succeeded }, ifThere),
	intField("failed", func(w *waveRecord) *int { return &w.Failed }, ifThere),
	intField("canceled", func(w *waveRecord) *int { return &w.Canceled }, ifThere),
	intField("met", func(w *waveRecord) *int { return &w.Met }, ifThere),
	uintField("bound", func(w *waveRecord) *uint64 { return &w.Bound }, ifThere),
	structField("outcomes", func(w *waveRecord) *outcomes { return &w.Outcomes }, outcomesFields, (*outcomes).none),
	structField("forgiven", func(w *waveRecord) *outcomes { return &w.Forgiven }, outcomesFields, (*outcomes).none),
	timeField("started_at", func(w *waveRecord) *time.Time { return &w.StartedAt }, ifThere),
	timeField("reached_at", func(w *waveRecord) *time.Time { return &w.ReachedAt }, ifThere),
	boolField("approved", func(w *waveRecord) *bool { return &w.Approved }, ifThere),
	boolField("stuck", func(w *waveRecord) *bool { return &w.Stuck }, ifThere),
}

var laneFields = []field[lane]{
	textField("zone", func(l *lane) *string { return &l.Zone }, ifThere),
	uintField("groups", func(l *lane) *uint64 { return &l.Groups }, ifThere),
	boolField("open", func(l *lane) *bool { return &l.Open }, ifThere),
}

var groupCountFields = []field[groupCount]{
	intField("in_progress", func(g *groupCount) *int { return &g.InProgress }, ifThere),
	timeField("next_offer", func(g *groupCount) *time.Time { return &g.NextOffer }, ifThere),
}

var outcomesFields = []field[outcomes]{
	intField("sample", func(o *outcomes) *int { return &o.Sample }, ifThere),
	countsField("failing", func(o *outcomes) *map[schemas.Cause]int { return &o.Failing }, ifThere),
}

// none says that nothing was counted, as omitzero has it.
func (o *outcomes) none() bool { return o.Sample == 0 && o.Failing == nil }

func (p *progressRecord) parse(rec []byte) bool {
	parser := recordParser{rest: string(rec)}
	return parseFields(&parser, progressFields, p) && parser.rest == ""
}

func (p *progressRecord) appendTo(b []byte) ([]byte, error) {
	return appendFields(b, progressFields, p)
}
