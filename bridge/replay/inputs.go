package replay

import (
	"slices"
	"strconv"
	"time"

	"davit/bridge/dialect"
)

// choices are the answers to what a recording does not show.
type choices struct {
	// taken maps each question to the number of its answer; 0 if it is not in it.
	taken map[question]int
	// asked are the questions in their order that a run has met.
	asked []asked
}

// question is something that a recording does not show.
type question struct {
	offer int // the place of the offer that it is about
	image bool
}

// asked is a question with how many answers it has, the first frame that an answer
// may have a part in, and the one that shows the answer to be right.
type asked struct {
	question
	answers      int
	first, proof int
}

// input is something that the bridge was told.
type input struct {
	place int           // the frame before which it is told
	image chan struct{} // not nil: this image is there
	// An update, the place of its offer and whether it is forced.
	offer   *offer
	offered int
	force   bool
}

// tried is how many places are tried for one input, beside that of the frame that
// shows it.
const tried = 24

// pick asks a question and returns the number of the answer.
func (p *play) pick(q question, answers, first, proof int) int {
	p.asked.asked = append(p.asked.asked, asked{q, answers, first, proof})
	return p.asked.taken[q]
}

// give tells the machine what is due, and says whether there was anything.
func (p *play) give() (some bool) {
	p.look()
	for len(p.inputs) > 0 && p.reached(p.inputs[0].place) && p.at(p.inputs[0].place) <= p.now {
		i := p.inputs[0]
		p.inputs = p.inputs[1:]
		some = true
		if i.image != nil {
			close(i.image)
		} else {
			p.order(i)
		}
		p.look()
	}
	return some
}

// inputAt is when the next input is due.
func (p *play) inputAt() (time.Duration, bool) {
	if p.look(); len(p.inputs) == 0 || !p.reached(p.inputs[0].place) {
		return 0, false
	}
	return max(p.now, p.at(p.inputs[0].place)), true
}

// reached says whether all that came before a frame has been said.
func (p *play) reached(frame int) bool {
	f := &p.frames[frame]
	return p.has() >= p.counted(int(f.all), int(f.distinct)) && (p.next == len(p.entries) || p.next > int(f.entry))
}

// look finds the next offer of an update that the machine was not told of, unless
// something else has to be given before.
func (p *play) look() {
	for len(p.inputs) == 0 && p.offers < len(p.offered) {
		i := p.offered[p.offers]
		o := p.script.offers[i]
		if p.update != nil && p.update.active && p.update.same(o) {
			if !p.reached(i) {
				return // it may have ended by then
			}
			p.offers++
			continue
		}
		places := p.places(p.before(i), i, false)
		n := p.pick(question{offer: i}, 2*len(places), slices.Min(places), i)
		p.offers++
		p.inputs = append(p.inputs, input{place: places[n%len(places)], force: n >= len(places), offered: i, offer: o})
	}
}

// image finds the first piece of the image that the offer at a frame is about, -1
// if there is none.
func (p *play) image(frame int) int {
	o := p.script.offers[frame]
	for i := frame + 1; i < len(p.frames); i++ {
		switch p.frames[i].class {
		case classPiece:
			return i
		case classOffer:
			if next := p.script.offers[i]; next != nil && !o.same(next) {
				return -1
			}
		}
	}
	return -1
}

// before is the place behind the last message before a frame, but for questions
// for versions: an update may bring one about.
func (p *play) before(frame int) int {
	i := frame
	for i > 0 && frame-i < tried && (p.frames[i-1].class == classOther || p.frames[i-1].class == classAsk) {
		i--
	}
	return i
}

// places are the frames from first to last before which something may have been
// told: first the last, as something that is told when the line is free shows at
// once, then the first ones, or the last ones if backward says so.
func (p *play) places(first, last int, backward bool) []int {
	places := []int{last}
	add := func(i int) {
		if len(places) <= tried && (i == first || p.frames[i].entry != p.frames[i-1].entry) {
			places = append(places, i)
		}
	}
	if backward {
		if add(first); first < last {
			for i := last - 1; i > first; i-- {
				add(i)
			}
		}
		return places
	}
	for i := first; i < last; i++ {
		add(i)
	}
	return places
}

// order tells the machine of an update, and sees to when it has the image.
func (p *play) order(i input) {
	ready := make(chan struct{})
	u := &told{offer: i.offer, active: true, p: p}
	p.update = u
	if piece := p.image(i.offered); piece >= 0 {
		places := p.places(i.offered+1, piece, true)
		n := p.pick(question{offer: i.offered, image: true}, len(places), slices.Min(places), piece)
		p.inputs = append(p.inputs, input{place: places[n], image: ready})
	}
	w := &dialect.Update{
		Version: u.version, VersionID: u.versionID, NumericType: u.kind, Size: u.size, SHA256: u.digest(),
		Image: &u.image, Ready: ready, Reporter: u, Force: i.force, Loaded: u.from,
	}
	if u.versionID > 0 {
		w.Version = strconv.FormatUint(u.versionID, 10)
	}
	if u.chunk > 0 && u.from+uint64(u.chunk) < u.size {
		w.AttributeSize = u.chunk + attributeOffset
	}
	switch {
	case len(p.o.VersionProperties) > 0:
		w.VersionProperty = p.o.VersionProperties[0]
	case len(p.properties) > 0:
		w.VersionProperty = p.properties[0]
	}
	p.machine.Order(w, p.clock())
}
