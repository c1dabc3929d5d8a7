package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"davit/schemas"
)

const (
	// paceSeconds is over how many whole seconds a Throughput is taken.
	paceSeconds = 10
	// keptFailures is how many failures an Activity tells of.
	keptFailures = 10
	// attentionJobs is how many jobs that need somebody an Activity names, and attentionScan among how
	// many of the newest they are looked for.
	attentionJobs = 10
	attentionScan = 200
)

// Activity is what the service is doing now. Reading it costs the same whatever the size of the fleet.
type Activity struct {
	Throughput Throughput  `json:"throughput" doc:"What happens in a second, taken over the last ten"`
	Queues     Queues      `json:"queues" doc:"What waits"`
	Failures   []Failure   `json:"failures" nullable:"false" doc:"The last executions that ended without success and were not canceled, the latest first, at most ten. One that is tried again is not among them until it fails anew"`
	Attention  []Attention `json:"attention" nullable:"false" doc:"Jobs that wait for a person, among the 200 newest: stopped by a rule, or waiting for an approval; at most ten"`
}

// Throughput is what happens in a second.
type Throughput struct {
	Chunks  float64 `json:"chunks" doc:"Chunks sent"`
	Bytes   float64 `json:"bytes" doc:"Bytes of images sent"`
	Reports float64 `json:"reports" doc:"Reports of devices that were recorded"`
}

// Queues are what waits for its turn.
type Queues struct {
	Offers  int `json:"offers" doc:"Devices whose offer is to be published"`
	Repeats int `json:"repeats" doc:"Devices whose offer is to be said again"`
	Reports int `json:"reports" doc:"Reports that wait for the next commit"`
	Chunks  int `json:"chunks" doc:"Devices to which chunks can be sent now"`
	Starved int `json:"starved" doc:"Devices that wait until earlier chunks have arrived"`
}

// Failure is an execution that ended without success.
type Failure struct {
	At        time.Time     `json:"at" doc:"When it ended"`
	Job       string        `json:"job" doc:"The job"`
	Device    string        `json:"device" doc:"The device"`
	Execution string        `json:"execution" doc:"The execution"`
	State     schemas.State `json:"state" doc:"rejected, failed or timed_out"`
	Cause     schemas.Cause `json:"cause" doc:"Why"`
	Detail    string        `json:"detail,omitempty" doc:"One sentence for a person"`
}

// Attention is a job that waits for a person.
type Attention struct {
	Job string `json:"job" doc:"The job"`
	Why string `json:"why" doc:"stopped: a rule has paused it; approval: a wave waits to be approved"`
	// Reason is a sentence.
	Reason string `json:"reason" doc:"More about it"`
}

// Why a job waits for a person.
const (
	AttentionStopped  = "stopped"
	AttentionApproval = "approval"
)

// doings counts what the service does. It may be nil, which counts nothing, and is safe for concurrent use.
type doings struct {
	mu      sync.Mutex
	base    time.Time
	seconds [paceSeconds + 2]second
}

// second is what happened in one second after base.
type second struct {
	number                 int64
	chunks, bytes, reports int64
}

func newDoings() *doings { return &doings{base: time.Now()} }

// at is the second that it is now; mu is held.
func (d *doings) at(now time.Time) *second {
	n := int64(now.Sub(d.base) / time.Second)
	s := &d.seconds[n%int64(len(d.seconds))]
	if s.number != n {
		*s = second{number: n}
	}
	return s
}

func (d *doings) sent(chunks int, bytes int64, now time.Time) {
	if d == nil || chunks == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.at(now)
	s.chunks += int64(chunks)
	s.bytes += bytes
}

func (d *doings) reported() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at(time.Now()).reports++
}

// tell adds what was counted in the last whole seconds.
func (d *doings) tell(a *Activity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.at(time.Now()).number
	var sum second
	for _, s := range d.seconds {
		if s.number < now && s.number >= now-paceSeconds {
			sum.chunks += s.chunks
			sum.bytes += s.bytes
			sum.reports += s.reports
		}
	}
	over := float64(max(1, min(now, paceSeconds)))
	a.Throughput = Throughput{float64(sum.chunks) / over, float64(sum.bytes) / over, float64(sum.reports) / over}
}

// Activity returns what the service is doing now.
func (s *Service) Activity(ctx context.Context) (Activity, error) {
	a := Activity{Attention: []Attention{}, Queues: s.queued()}
	s.doings.tell(&a)
	err := s.store.View(ctx, func(r Reader) (err error) {
		if a.Failures, err = lastFailures(r); err != nil {
			return err
		}
		var failed error
		seen := 0
		err = r.Scan(indexJobByTime, nil, nil, func(_, name []byte) bool {
			var p *progressRecord
			if p, failed = need[progressRecord](r, "progress of job", string(name)); failed != nil {
				return false
			}
			if why, ok := attention(p); ok {
				a.Attention = append(a.Attention, why)
			}
			seen++
			return seen < attentionScan && len(a.Attention) < attentionJobs
		})
		if err == nil {
			err = failed
		}
		return err
	})
	return a, err
}

// lastFailures are the executions that failed last.
func lastFailures(r Reader) ([]Failure, error) {
	last := []Failure{}
	var failed error
	err := r.Scan(indexExecFailed, nil, nil, func(_, id []byte) bool {
		var e *executionRecord
		if e, failed = need[executionRecord](r, "execution", string(id)); failed != nil {
			return false
		}
		last = append(last, Failure{e.EndedAt, e.Job, e.Device, e.ID, e.State, e.Cause, e.Detail})
		return len(last) < keptFailures
	})
	return last, errors.Join(err, failed)
}

// attention says whether a job waits for a person.
func attention(p *progressRecord) (Attention, bool) {
	switch {
	case p.State == JobPaused && p.Reason != "":
		return Attention{p.Name, AttentionStopped, p.Reason}, true
	case p.State == JobRunning && p.Waits == waitsApproval:
		return Attention{p.Name, AttentionApproval, fmt.Sprintf("wave %d waits to be approved", p.Wave+1)}, true
	}
	return Attention{}, false
}

// queued is what waits now.
func (s *Service) queued() Queues {
	var q Queues
	s.outbox.mu.Lock()
	q.Offers, q.Repeats = len(s.outbox.queue), len(s.outbox.again)
	s.outbox.mu.Unlock()
	q.Reports = s.together.waits()
	s.streamer.mu.Lock()
	defer s.streamer.mu.Unlock()
	q.Chunks, q.Starved = s.streamer.proven.length+s.streamer.trial.length, s.streamer.starved.length
	return q
}
