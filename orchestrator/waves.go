package orchestrator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// restWave is the name of the wave that takes the devices which no other takes.
const restWave = "rest"

// rankOf is a device's place in the order that a seed gives the fleet. It stays
// the same for ever, whatever else is in the fleet: the first eight bytes of the
// SHA-256 of the seed, a zero byte and the device's id.
func rankOf(seed, device string) uint64 {
	b := make([]byte, 0, 192)
	b = append(b, seed...)
	b = append(b, 0)
	b = append(b, device...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// member is a device of a job with its place in it.
type member struct {
	target
	rank uint64
	wave int // from 1; 0 in a job without waves
}

func compareMembers(a, b member) int {
	return cmp.Or(cmp.Compare(a.wave, b.wave), cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
}

// explicit says whether the wave says itself which devices it has.
func (w *Wave) explicit() bool { return len(w.Devices) > 0 || w.Group != "" }

// name is what people call wave number n.
func (w *Wave) name(n int) string {
	if w.Name != "" {
		return w.Name
	}
	return fmt.Sprintf("wave %d", n)
}

// complete names the waves that have no name and adds one for the devices that
// they would leave out.
func (r *Rollout) complete() {
	if len(r.Waves) == 0 {
		return
	}
	if last := r.lastHashed(); last < 0 || r.Waves[last].Percent != 100 {
		r.Waves = append(slices.Clip(r.Waves), Wave{Name: restWave, Percent: 100})
	}
	for i := range r.Waves {
		r.Waves[i].Name = r.Waves[i].name(i + 1)
	}
}

// lastHashed is the index of the last wave that takes devices by rank, -1 if
// there is none.
func (r *Rollout) lastHashed() int {
	for i := len(r.Waves) - 1; i >= 0; i-- {
		if !r.Waves[i].explicit() {
			return i
		}
	}
	return -1
}

// place gives each device its wave. named holds the devices that an explicit
// wave takes, with its number; the others are cut in the order of their ranks.
// The members come in the order in which they are released. bounds holds for each
// wave the highest rank that it takes, which decides about devices that come
// later; 0 for an explicit one. The waves have to be complete.
func (r *Rollout) place(seed string, list []target, named map[string]int) (ms []member, bounds []uint64, err error) {
	ms = make([]member, len(list))
	free := 0 // how many devices no wave names
	for i, t := range list {
		ms[i] = member{t, rankOf(seed, t.id), named[t.id]}
		if ms[i].wave == 0 {
			free++
		}
	}
	slices.SortFunc(ms, compareMembers) // the unnamed ones come first
	if len(r.Waves) == 0 {
		return ms, nil, nil
	}
	ends, err := r.cut(free)
	if err != nil {
		return nil, nil, err
	}
	bounds = make([]uint64, len(r.Waves))
	from, highest := 0, uint64(0)
	for i, end := range ends {
		if r.Waves[i].explicit() {
			continue
		}
		for j := from; j < end; j++ {
			ms[j].wave = i + 1
		}
		if end > from {
			from, highest = end, ms[end-1].rank
		}
		bounds[i] = highest
	}
	if last := r.lastHashed(); last >= 0 {
		bounds[last] = math.MaxUint64
	}
	if from < free {
		return nil, nil, fmt.Errorf("orchestrator: %d of %d devices are in no wave: the waves are not complete", free-from, free)
	}
	slices.SortFunc(ms, compareMembers)
	return ms, bounds, nil
}

// cut says for each wave where it ends among so many devices that no wave
// names; an explicit wave ends where the one before does. A job that devices join
// later may ask for more of them than there are.
func (r *Rollout) cut(free int) ([]int, error) {
	ends := make([]int, len(r.Waves))
	at := 0
	for i := range r.Waves {
		switch w := &r.Waves[i]; {
		case w.explicit():
		case w.Count > free-at && !r.Continuous:
			return nil, invalidField(element("rollout/waves", i)+"/count", "wave %d asks for %d devices, and only %d are left", i+1, w.Count, free-at)
		case w.Count > 0:
			at += min(w.Count, free-at)
		default:
			end := shareOf(w.Percent, free)
			if end < at && !r.Continuous {
				return nil, invalidField(element("rollout/waves", i)+"/percent",
					"wave %d goes up to %v %% of the devices that no wave names, which is %d of %d, and the waves before take %d already", i+1, w.Percent, end, free, at)
			}
			at = max(at, end)
		}
		ends[i] = at
	}
	return ends, nil
}

// shareOf is so many per cent of n, rounded up: 5 % of 10 is 1. That 7 % of 100
// is not 8 needs care, because 7 times 100 divided by 100 need not be a whole
// number in floating point.
func shareOf(percent float64, n int) int {
	return int(math.Ceil(percent*float64(n)/100 - 1e-9))
}

// waveFor is the number of the wave of a device that joins later and that no
// wave names, by the bounds that place returned.
func (r *Rollout) waveFor(rank uint64, bounds []uint64) int {
	for i := range r.Waves {
		if !r.Waves[i].explicit() && rank <= bounds[i] {
			return i + 1
		}
	}
	if last := r.lastHashed(); last >= 0 {
		return last + 1
	}
	return len(r.Waves)
}
