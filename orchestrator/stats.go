package orchestrator

import (
	"context"

	"davit/schemas"
)

// Fleet returns the fleet in figures, from counters.
func (s *Service) Fleet(ctx context.Context) (FleetSummary, error) {
	var f FleetSummary
	err := s.store.View(ctx, func(r Reader) error {
		f = FleetSummary{
			ByType: map[string]int{}, Versions: map[string]map[string]int{}, Images: map[string]int{},
			Jobs: map[JobState]int{}, Executions: map[schemas.State]int{},
		}
		for kind, add := range map[string]func(by []string, n int){
			countDevices:     func(by []string, n int) { f.ByType[by[0]] = n; f.Devices += n },
			countOnline:      func(_ []string, n int) { f.Online = n },
			countQuarantined: func(_ []string, n int) { f.Quarantined = n },
			countImages:      func(by []string, n int) { f.Images[by[0]] = n },
			countJobs:        func(by []string, n int) { f.Jobs[JobState(by[0])] = n },
			countVersions: func(by []string, n int) {
				if f.Versions[by[0]] == nil {
					f.Versions[by[0]] = map[string]int{}
				}
				f.Versions[by[0]][by[1]] = n
			},
		} {
			if err := readCounters(r, kind, add); err != nil {
				return err
			}
		}
		all, err := readTotals(r)
		for state, n := range all {
			f.Executions[state] = int(n)
		}
		return err
	})
	return f, err
}
