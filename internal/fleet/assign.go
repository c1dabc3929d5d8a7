package fleet

import (
	"math"
	"math/rand/v2"

	"davit/schemas"
)

// kind is what one device is like.
type kind struct {
	profile   *Profile
	v311      bool
	neverRead bool
	fallsBack bool
	fault     schemas.Cause
}

// assign decides what each of n devices is like. Parts are exact as far as whole devices
// allow; which devices they are is drawn.
func assign(n int, profiles []Profile, seed uint64) []kind {
	rng := rand.New(rand.NewPCG(seed, 0xf1ee7))
	kinds := make([]kind, n)
	order := rng.Perm(n)
	total := 0.0
	for i := range profiles {
		total += profiles[i].Share
	}
	from, sum := 0, 0.0
	for i := range profiles {
		sum += profiles[i].Share
		to := portion(n, sum/total)
		members := order[from:to]
		for _, m := range members {
			kinds[m].profile = &profiles[i]
		}
		traits(kinds, members, &profiles[i], rng)
		from = to
	}
	return kinds
}

// portion is a part of n in whole ones.
func portion(n int, part float64) int { return min(n, int(math.Round(float64(n)*part))) }

func traits(kinds []kind, members []int, p *Profile, rng *rand.Rand) {
	shuffled := func() []int {
		s := append([]int(nil), members...)
		rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		return s
	}
	for _, m := range shuffled()[:portion(len(members), p.V311)] {
		kinds[m].v311 = true
	}
	troubled := shuffled()
	from, sum := 0, 0.0
	next := func(part float64) []int {
		sum += part
		s := troubled[from:max(from, portion(len(members), sum))]
		from += len(s)
		return s
	}
	for _, f := range p.Faults {
		for _, m := range next(f.Part) {
			kinds[m].fault = f.Cause
		}
	}
	for _, m := range next(p.NeverRead) {
		kinds[m].neverRead = true
	}
	for _, m := range shuffled()[:portion(len(members), p.FallBack)] {
		kinds[m].fallsBack = kinds[m].fault == schemas.CauseNone && !kinds[m].neverRead
	}
}
