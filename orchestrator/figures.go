package orchestrator

import (
	"context"

	"davit/schemas"
)

// Bounds of what a scrape reads and tells, whatever there is.
const (
	// figureTypes is how many device types are told of by name; the others are one,
	// otherTypes.
	figureTypes = 100
	// figureJobs is how many jobs are told of by name, and figureScan among how many of
	// the newest they are looked for.
	figureJobs = 20
	figureScan = 200
)

// OtherTypes stands in metrics for the device types that are too many to be named.
const OtherTypes = "other"

var jobStates = []JobState{JobDraft, JobRunning, JobPaused, JobCompleted, JobCanceled}

// figures are the records in numbers, for the metrics.
type figures struct {
	executions  map[schemas.State]uint64
	devices     map[string]int // by type
	online      int
	quarantined int
	jobs        map[JobState]int
	latest      []jobFigures // the newest that run or are paused
}

// jobFigures are a job's.
type jobFigures struct {
	name   string
	wave   int
	counts map[schemas.State]int
}

// figures reads counters, and a bounded number of jobs: never devices or executions.
func (s *Service) figures() (figures, error) {
	f := figures{devices: map[string]int{}, jobs: map[JobState]int{}}
	err := s.store.View(context.Background(), func(r Reader) error {
		all, err := readTotals(r)
		if err != nil {
			return err
		}
		f.executions = all
		err = readCounters(r, countDevices, func(by []string, n int) {
			name := by[0]
			if len(f.devices) >= figureTypes {
				name = OtherTypes
			}
			f.devices[name] += n
		})
		if err != nil {
			return err
		}
		if err := readCounters(r, countJobs, func(by []string, n int) { f.jobs[JobState(by[0])] = n }); err != nil {
			return err
		}
		if f.online, err = readCounter(r, countOnline); err != nil {
			return err
		}
		if f.quarantined, err = readCounter(r, countQuarantined); err != nil {
			return err
		}
		f.latest, err = latestJobs(r, min(figureJobs, f.jobs[JobRunning]+f.jobs[JobPaused]))
		return err
	})
	return f, err
}

// latestJobs are the n newest jobs that run or are paused, as far as they are among the
// figureScan newest.
func latestJobs(r Reader, n int) ([]jobFigures, error) {
	if n == 0 {
		return nil, nil
	}
	var names []string
	err := r.Scan(indexJobByTime, nil, nil, func(_, v []byte) bool {
		names = append(names, string(v))
		return len(names) < figureScan
	})
	if err != nil {
		return nil, err
	}
	var latest []jobFigures
	for _, name := range names {
		p, err := need[progressRecord](r, "progress of job", name)
		if err != nil {
			return nil, err
		}
		if !p.active() {
			continue
		}
		latest = append(latest, jobFigures{name: name, wave: p.Wave, counts: p.Counts})
		if len(latest) == n {
			break
		}
	}
	return latest, nil
}

// depths are how much waits in the queues of the service.
type depths struct {
	offers, repeats int // devices
	reports         int
	ready, starved  int // devices
}

func (s *Service) depths() depths {
	var d depths
	d.offers, d.repeats = s.outbox.waiting()
	d.reports = s.together.waits()
	d.ready, d.starved = s.streamer.waiting()
	return d
}
