package replay

import (
	"slices"
	"strconv"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/sniff"
	"davit/schemas"
	"davit/schemas/afpro"
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
	offered int // -1 for an update of which the recording has no offer
	force   bool
	resumed bool // an earlier session had taken it as far as the boot
}

// tried is how many places are tried for one input, beside that of the frame that
// shows it.
const tried = 24

// shown is how long after the beginning of a session it shows at the latest that it
// has begun with an update: by a second question for the version, or by the offer.
const shown = 30 * time.Second

// pick asks a question and returns the number of the answer.
func (p *play) pick(q question, answers, first, proof int) int {
	p.asked.asked = append(p.asked.asked, asked{q, answers, first, proof})
	return p.asked.taken[q]
}

// resume asks whether the session began with an update that an earlier one had
// taken as far as the boot, and of which version.
func (p *play) resume() {
	var known []*offer
	if len(p.offered) > 0 {
		known = append(known, p.script.offers[p.offered[0]])
	}
	for _, v := range p.versions {
		if o := p.unseen(v); o != nil && (len(known) == 0 || o.name() != known[0].name()) {
			known = append(known, o)
		}
	}
	proof := 0
	for proof < len(p.frames)-1 && p.at(proof) < p.now+shown {
		proof++
	}
	n := p.pick(question{offer: -1}, 1+len(known), 0, proof)
	if n == 0 {
		return
	}
	i := input{offer: known[n-1], offered: -1, resumed: true}
	if len(p.offered) > 0 && i.offer == p.script.offers[p.offered[0]] {
		i.offered = p.offered[0]
	}
	p.inputs = append(p.inputs, i)
}

// unseen is an update to a version of which the recording has no offer.
func (p *play) unseen(version string) *offer {
	o := &offer{version: version, size: 1, transfer: &transfer{}}
	if p.header.Dialect != sniff.Afero {
		return o
	}
	if len(p.properties) == 0 {
		return nil
	}
	attribute, err := strconv.ParseUint(p.properties[0], 10, 16)
	if err != nil {
		return nil
	}
	kind, _ := afpro.Attribute(attribute).FirmwareType()
	o.kind = int(kind)
	o.versionID, err = strconv.ParseUint(version, 10, 64)
	if err != nil {
		return nil
	}
	return o
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
		places := p.places(p.before(i), i)
		n := p.pick(question{offer: i}, 2*len(places), slices.Min(places), i)
		p.offers++
		p.inputs = append(p.inputs, input{place: places[n%len(places)], force: n >= len(places), offered: i, offer: o})
	}
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

// places are the frames up to last before which something may have been told, in
// the order in which they are tried: last itself, as what is told when the line is
// free shows at once; the beginning of the session; the frames from first on; and
// those before first, since a frame may be prepared behind another one.
func (p *play) places(first, last int) []int {
	places := []int{last}
	add := func(i int) {
		f := &p.frames[i]
		if len(places) <= tried && !slices.Contains(places, i) && (i == first || i == 0 || f.entry != p.frames[i-1].entry) && !(f.again && f.class != classOther) {
			places = append(places, i)
		}
	}
	add(0)
	for i := first; i < last; i++ {
		add(i)
	}
	for i := first - 1; i > 0; i-- {
		add(i)
	}
	return places
}

// placesOfImage are the frames up to the first piece before which the image may
// have been there: the piece itself, the beginning, and backward from the piece.
func (p *play) placesOfImage(offered, piece int) []int {
	places := []int{piece}
	if offered+1 < piece {
		places = append(places, offered+1)
	}
	for i := piece - 1; i > offered+1 && len(places) <= tried; i-- {
		if f := &p.frames[i]; f.entry != p.frames[i-1].entry && !(f.again && f.class != classOther) {
			places = append(places, i)
		}
	}
	return places
}

// order tells the machine of an update, and sees to when it has the image.
func (p *play) order(i input) {
	ready := make(chan struct{})
	u := &told{offer: i.offer, active: true, p: p}
	p.update = u
	if piece, ok := p.pieces[i.offered]; ok {
		places := p.placesOfImage(i.offered, piece)
		n := p.pick(question{offer: i.offered, image: true}, len(places), slices.Min(places), piece)
		p.inputs = append(p.inputs, input{place: places[n], image: ready})
	}
	w := &dialect.Update{
		Version: u.name(), VersionID: u.versionID, NumericType: u.kind, Size: u.size, SHA256: u.digest(),
		Image: &u.image, Ready: ready, Reporter: u, Force: i.force, Loaded: u.from,
	}
	if i.resumed {
		w.ResumeAt = schemas.StateBooting
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
