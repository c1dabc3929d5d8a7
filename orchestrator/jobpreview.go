package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// shownExclusions and shownMembers are how many devices a preview spells out
	// of those that are left out, and of each wave.
	shownExclusions = 100
	shownMembers    = 20
)

// PreviewJob says what a job would do if it were created now. Its name may be
// missing.
func (s *Service) PreviewJob(ctx context.Context, n NewJob) (JobPreview, error) {
	if err := n.validate(); err != nil {
		return JobPreview{}, err
	}
	named := n.Name != "" || n.Rollout != nil && n.Rollout.Seed != ""
	var out JobPreview
	err := s.store.View(ctx, func(r Reader) error {
		p, err := s.preview(ctx, r, n)
		if err != nil {
			return err
		}
		if len(p.out.Waves) > 0 && !named {
			p.assume("The job has no name yet, from which the order of its devices is drawn: the waves will have other devices.")
		}
		out = p.out
		return nil
	})
	return out, err
}

// preview is a preview as it is made.
type preview struct {
	out   JobPreview
	n     NewJob
	image *Image
	links []link
	facts facts
	ways  map[string]*way // by running version
}

// way is what becomes of devices that run a version.
type way struct {
	steps  []link
	kind   ExclusionKind // empty if they get the image
	reason string
	path   string
}

func (s *Service) preview(ctx context.Context, r Reader, n NewJob) (*preview, error) {
	image, err := usableImage(r, n.Image)
	if err != nil {
		return nil, err
	}
	p := &preview{n: n, image: image, ways: map[string]*way{}, facts: newFacts(image.ImageType)}
	p.out = JobPreview{ByType: map[string]int{}, Unfit: []string{}, Excluded: map[ExclusionKind]int{}, Exclusions: []Exclusion{}, Assumes: []string{}}
	list, err := s.gather(ctx, r, n, p.facts.see)
	if err != nil {
		return nil, err
	}
	p.facts.unite()
	first, all := unfit(image, list)
	p.out.Devices, p.out.Unfit, p.out.UnfitAll = len(list), append(p.out.Unfit, first...), all
	if all == 0 {
		if err := s.checkSigned(ctx, r, n, list); err != nil {
			return nil, err
		}
	}
	now := s.now()
	members, _, err := p.n.order(ctx, r, now, list)
	if err != nil {
		return nil, err
	}
	if err := p.chain(r); err != nil {
		return nil, err
	}
	if err := p.look(r, list); err != nil {
		return nil, err
	}
	if err := p.group(ctx, r, now); err != nil {
		return nil, err
	}
	times, err := p.times(r)
	if err != nil {
		return nil, err
	}
	return p, p.estimate(members, times, s.maxInProgress, now)
}

func (p *preview) assume(format string, args ...any) {
	p.out.Assumes = append(p.out.Assumes, fmt.Sprintf(format, args...))
}

// fact is what a preview needs to know of a device.
type fact struct {
	id, version string
	unconfirmed bool
	online      bool
	groups      uint16 // bit i is set for the rollout's pace group i
}

// facts gathers them while the devices are read for another purpose.
type facts struct {
	imageType string
	list      []fact
	versions  map[string]string // each once, so that the list shares its bytes
	// quarantined says of the devices in quarantine, of which there are few, since when and why.
	quarantined map[string]string
}

func newFacts(imageType string) facts {
	return facts{imageType: imageType, versions: map[string]string{}, quarantined: map[string]string{}}
}

func (f *facts) see(d *Device) {
	version, ok := f.versions[d.Versions[f.imageType]]
	if !ok {
		version = strings.Clone(d.Versions[f.imageType])
		f.versions[version] = version
	}
	if d.quarantined() {
		f.quarantined[strings.Clone(d.ID)] = d.quarantineWords()
	}
	f.list = append(f.list, fact{id: strings.Clone(d.ID), version: version, unconfirmed: slices.Contains(d.Unconfirmed, f.imageType), online: d.Online})
}

// unite puts the list in order, each device once: the order of a job's targets.
func (f *facts) unite() {
	slices.SortFunc(f.list, func(a, b fact) int { return cmp.Compare(a.id, b.id) })
	f.list = slices.CompactFunc(f.list, func(a, b fact) bool { return a.id == b.id })
}

// of returns what is known of a device, nil if it is none of the job's.
func (f *facts) of(id string) *fact {
	i, ok := slices.BinarySearchFunc(f.list, id, func(x fact, id string) int { return cmp.Compare(x.id, id) })
	if !ok {
		return nil
	}
	return &f.list[i]
}

// paceGroups are the groups that have a pace of their own.
func (p *preview) paceGroups() []GroupPace {
	if p.n.Rollout == nil || p.n.Rollout.Pace == nil {
		return nil
	}
	return p.n.Rollout.Pace.Groups
}

// group notes which devices are in which of the groups with a pace.
func (p *preview) group(ctx context.Context, r Reader, now time.Time) error {
	for i, pace := range p.paceGroups() {
		g, err := need[Group](r, "group", pace.Group)
		if err != nil {
			return err
		}
		if err := membersAt(ctx, r, g, now, func(d *Device) bool {
			if f := p.facts.of(d.ID); f != nil {
				f.groups |= 1 << i
			}
			return true
		}); err != nil {
			return err
		}
	}
	return nil
}

// chain reads the images that devices are led through.
func (p *preview) chain(r Reader) error {
	if p.n.Rollout == nil {
		return nil
	}
	for _, id := range p.n.Rollout.Via {
		m, err := need[Image](r, "image", id)
		if err != nil {
			return err
		}
		p.links = append(p.links, linkOf(m))
	}
	return nil
}

// look says of each device what would become of it: one look at an index.
func (p *preview) look(r Reader, list []target) error {
	for i, x := range list {
		p.out.ByType[x.deviceType]++
		f := &p.facts.list[i]
		_, quarantined := p.facts.quarantined[x.id]
		if !f.online && !quarantined {
			p.out.Offline++
		}
		if f.version == p.image.Version {
			p.out.Running++
		}
		execution, err := anyUnder(r, indexExecOpen, x.id)
		if err != nil {
			return err
		}
		if execution != "" && !quarantined {
			p.out.Busy++
		}
		w := p.wayOf(x, f)
		if w.kind == "" {
			p.leads(w)
			continue
		}
		p.out.Excluded[w.kind]++
		if len(p.out.Exclusions) < shownExclusions {
			p.out.Exclusions = append(p.out.Exclusions, Exclusion{x.id, w.kind, w.reason})
		}
	}
	return nil
}

// leads counts what a device on its way downloads.
func (p *preview) leads(w *way) {
	p.out.Bytes += w.bytes()
	if len(p.links) == 0 {
		return
	}
	if p.out.Paths == nil {
		p.out.Paths = map[string]int{}
	}
	p.out.Paths[w.path]++
}

func (w *way) bytes() uint64 {
	sum := uint64(0)
	for _, l := range w.steps {
		sum += l.Size
	}
	return sum
}

// wayOf says what becomes of a device.
func (p *preview) wayOf(x target, f *fact) *way {
	if !slices.Contains(p.image.DeviceTypes, x.deviceType) {
		return &way{kind: ExcludedUnfit, reason: fmt.Sprintf("its type, %s, is not one of the image's: %s", x.deviceType, strings.Join(p.image.DeviceTypes, ", "))}
	}
	if reason, ok := p.facts.quarantined[f.id]; ok { // the rules let it wait, whatever it runs
		return &way{kind: ExcludedQuarantined, reason: reason}
	}
	version := f.version
	if f.unconfirmed && version != p.image.Version {
		version = "" // the rules wait for a report as well
	}
	w := p.ways[version]
	if w == nil {
		w = p.wayFrom(version)
		p.ways[version] = w
	}
	return w
}

// wayFrom says what becomes of devices of a fitting type that run a version;
// empty while that is unknown.
func (p *preview) wayFrom(running string) *way {
	goal := linkOf(p.image)
	switch {
	case p.n.IgnoreValidation:
		return &way{steps: []link{goal}}
	case running == goal.Version:
		return &way{kind: ExcludedRunning, reason: fmt.Sprintf("it runs %s already", running)}
	case running == "" && goal.MinVersion != "":
		return &way{kind: ExcludedUnknown, reason: fmt.Sprintf("it waits until it reports which version of %s it runs, because the image is not for all of them", p.image.ImageType)}
	}
	steps := wayTo(chained(p.links, goal), running, goal.Version)
	if len(steps) > 0 {
		return &way{steps: steps, path: strings.Join(chainPath(p.links, goal, running), " > ")}
	}
	if len(p.links) == 0 {
		return &way{kind: ExcludedUnreachable, reason: fmt.Sprintf("it runs %s, and the image is for devices that run %s", running, goal.MinVersion)}
	}
	return &way{kind: ExcludedUnreachable, reason: fmt.Sprintf("it runs %s, from which none of the images leads to %s", running, goal.Version)}
}

// estimate says how long the job takes, wave by wave.
func (p *preview) estimate(members []member, times map[string]time.Duration, limit int, now time.Time) error {
	e, err := newEstimate(p.n.Rollout, limit, now)
	if err != nil {
		return err
	}
	p.out.DeviceTime = Duration(times[p.image.ID])
	waves := []Wave{{}}
	if p.n.Rollout != nil && len(p.n.Rollout.Waves) > 0 {
		waves = p.n.Rollout.Waves
	}
	for i := range waves {
		end, first := 0, len(p.n.wavesOf()) > 0
		for end < len(members) && (!first || members[end].wave == i+1) {
			end++
		}
		w, l := p.wave(members[:end], times)
		members = members[end:]
		soak := time.Duration(waves[i].Soak)
		if i == len(waves)-1 {
			soak = 0
		}
		w.Name, w.Duration = waves[i].Name, Duration(e.wave(l, soak))
		if first {
			p.out.Waves = append(p.out.Waves, w)
		}
	}
	p.out.Duration = Duration(e.at.Sub(e.from))
	p.assumptions(e)
	return nil
}

// wavesOf are the waves of the job, if it has some.
func (n *NewJob) wavesOf() []Wave {
	if n.Rollout == nil {
		return nil
	}
	return n.Rollout.Waves
}

// wave adds up what the members of a wave come to.
func (p *preview) wave(members []member, times map[string]time.Duration) (PreviewWave, waveLoad) {
	w, l := PreviewWave{Devices: len(members), First: []string{}}, waveLoad{groups: make([]waveLoad, len(p.paceGroups()))}
	for i, m := range members {
		if i < shownMembers {
			w.First = append(w.First, m.id)
		}
		f := p.facts.of(m.id)
		way := p.wayOf(m.target, f)
		if way.kind != "" {
			continue
		}
		w.Bytes += way.bytes()
		took := time.Duration(0)
		for _, step := range way.steps {
			took = sumOf(took, times[step.Image])
		}
		l.add(took, len(way.steps), f.groups)
	}
	return w, l
}
