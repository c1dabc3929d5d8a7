package bridge

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"davit/bridge/dialect/afero"
	"davit/internal/sim"
	"davit/schemas/afpro"
)

// scenario is what goes wrong in one run of the campaign, drawn from a seed.
type scenario struct {
	*rand.Rand
	seed     uint64
	family   string
	kinds    []faultKind
	size     int // of the image
	products []*product
	// repairAfter is how many attempts what is broken is left so; 0: nothing is.
	repairAfter int
	// late has offers delivered again after the success.
	late bool
	// fetchFirst has the image fetched first, and installed later: in every third
	// scenario. It is not drawn, so that the other scenarios are what they were.
	fetchFirst bool
}

// mischief is done when the bridge writes to a product's port for the n-th time
// in the scenario.
type mischief struct {
	write int
	// swallow: the bytes of that write do not reach the line any more.
	swallow bool
	// delay is how much later than the write it is done.
	delay time.Duration
	do    func(c *course)
}

// newScenario draws a scenario. The first kind goes through all of them in turn,
// so that each is in many scenarios; others join it.
func newScenario(family string, dialects []string, seed uint64) *scenario {
	h := fnv.New64a()
	_, _ = h.Write([]byte(family)) // never fails
	s := &scenario{Rand: rand.New(rand.NewPCG(seed, h.Sum64())), seed: seed, family: family, size: sim.MinDemoImage + 100, fetchFirst: seed%3 == 1}
	switch n := s.IntN(20); {
	case n < 15:
		s.size += s.IntN(1500)
	case n < 19:
		s.size += s.IntN(4000)
	default:
		s.size += s.IntN(15_000)
	}
	for i, d := range dialects {
		s.products = append(s.products, newProduct(s, i, d))
	}
	kinds := faultKinds()
	s.take(kinds[seed%uint64(len(kinds))])
	for range []int{0, 1, 1, 2, 2}[s.IntN(5)] {
		s.take(kinds[s.IntN(len(kinds))])
	}
	return s
}

// take adds a kind of fault, once, to one of the products.
func (s *scenario) take(k faultKind) {
	for _, other := range s.kinds {
		if other.name == k.name {
			return
		}
	}
	s.kinds = append(s.kinds, k)
	k.draw(s, s.products[s.IntN(len(s.products))])
	if k.breaks && s.repairAfter == 0 {
		s.repairAfter = 1 + s.IntN(2)
	}
}

// String says what a scenario is about.
func (s *scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d: %d bytes,", s.family, s.seed, s.size)
	for _, k := range s.kinds {
		fmt.Fprintf(&b, " %s", k.name)
	}
	if s.fetchFirst {
		b.WriteString(", fetched first")
	}
	for _, p := range s.products {
		fmt.Fprintf(&b, "; %s: line %+v, MCU %+v", p.id, p.line, p.brief())
		for _, m := range p.mischief {
			fmt.Fprintf(&b, ", mischief at write %d + %v", m.write, m.delay)
		}
	}
	return b.String()
}

// sometimes is true once in n times.
func (s *scenario) sometimes(n int) bool { return s.IntN(n) == 0 }

// between draws a time.
func (s *scenario) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.Int64N(int64(high-low)+1))
}

// rate draws a probability, as often between 1e-5 and 1e-4 as between 1e-4 and
// 1e-3.
func (s *scenario) rate(low, high float64) float64 {
	return low * math.Pow(high/low, s.Float64())
}

// at has something done at a moment of the product's update.
func (s *scenario) at(p *product, do func(c *course)) {
	m := mischief{write: 1 + s.IntN(p.writes(s.size)), do: do}
	if s.sometimes(2) {
		m.delay = s.between(0, 300*byteTime(p)) // in the midst of what was written, or of the answer
	} else {
		m.swallow = s.sometimes(2)
	}
	p.mischief = append(p.mischief, m)
}

// product is a device of a scenario: how it was drawn.
type product struct {
	id      string
	dialect string
	line    sim.LineConfig
	mcu     sim.AferoConfig // on the Ayla wire its MCUConfig
	renamed bool            // its port has a USB name, and the adapter is another tty when it is back
	// broken are the faults of mcu that are repaired after some attempts.
	broken   []func(f *sim.Fault)
	mischief []mischief
}

func newProduct(s *scenario, i int, kind string) *product {
	p := &product{id: fmt.Sprintf("%s-%d", kind, i), dialect: kind}
	p.line = sim.LineConfig{Baud: []int{9600, 115_200, 115_200, 921_600}[s.IntN(4)], Seed: s.Uint64()}
	if s.sometimes(3) {
		p.line.Latency, p.line.Jitter = s.between(0, 5*time.Millisecond), s.between(0, 10*time.Millisecond)
	}
	p.mcu.Seed, p.mcu.SlotSize = s.Uint64(), 32<<10
	// A reset before the new image has confirmed itself would be a fallback, which is no fault of the line.
	p.mcu.ConfirmAfter = sim.None
	if kind == afero.Name {
		p.line.BitsPerByte, p.line.NoFlowControl = 10, true
		p.mcu.VersionID = beforeID
		p.mcu.AttributeSize = []int{afpro.DefaultAttributeSize, 510, 2046}[s.IntN(3)]
	}
	return p
}

// brief is what is special about the MCU.
func (p *product) brief() string {
	m := p.mcu
	m.Image, m.Properties = nil, nil
	return fmt.Sprintf("%+v", m)
}

// either sets what is wrong in one direction of the line, or in both.
func (p *product) either(s *scenario, set func(f *sim.LineFaults)) {
	n := s.IntN(3)
	if n != 0 {
		set(&p.line.ToMCU)
	}
	if n != 1 {
		set(&p.line.FromMCU)
	}
}

// writes is about how many writes of the bridge a clean update takes.
func (p *product) writes(size int) int {
	if p.dialect == afero.Name {
		return 70 + 8*(size/afpro.ChunkSize(p.mcu.AttributeSize)+1)
	}
	return 16 + size/255
}

func byteTime(p *product) time.Duration { return 11 * time.Second / time.Duration(p.line.Baud) }

// port is the product's port in the bridge's configuration.
func (p *product) port() PortConfig {
	c := PortConfig{Device: p.id, Path: p.id, Dialect: p.dialect, Baud: p.line.Baud}
	if p.renamed {
		c.Path = "usb:0403:6001:" + p.id
	}
	return c
}

// host makes the product's MCU.
func (p *product) host(told func(sim.Event)) sim.Host {
	p.mcu.OnEvent = told
	if p.dialect == afero.Name {
		return sim.NewAferoMCU(p.mcu)
	}
	return sim.NewMCU(p.mcu.MCUConfig)
}
