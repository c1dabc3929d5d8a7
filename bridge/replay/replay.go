package replay

import (
	"errors"
	"io"
	"maps"
	"strings"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/bridge/recording"
	"davit/bridge/sniff"
	"davit/schemas/afpro"
)

// attributeOffset is how many bytes longer than a piece the attribute is that
// carries it in the afero dialect.
var attributeOffset = afpro.DefaultAttributeSize - afpro.ChunkSize(afpro.DefaultAttributeSize)

var errScattered = errors.New("the pieces of the image are scattered over more bytes than can be kept")

// Dialect is a protocol family whose machine can be had without a line.
type Dialect interface {
	// Name is what recordings call it.
	Name() string
	// NewMachine returns the machine that a session on a line drives.
	NewMachine(cfg dialect.Config, events dialect.Events) session.Machine
}

// Options say what a recording does not.
type Options struct {
	// Strict compares retries, too.
	Strict bool
	// VersionProperties are those of the device; none means those that the
	// recorded bridge asked for.
	VersionProperties []string
	// OfferInterval is that of the bridge, 0 for the dialect's default.
	OfferInterval time.Duration
	// LoadSize is the load-size of the recorded bridge's port, 0 if it had none.
	LoadSize int
	// Trace, if set, is called for everything that passes on the line in the
	// replay. A packet's content is valid until it returns.
	Trace func(sniff.Packet)
}

// Said is a frame of the bridge in words.
type Said struct {
	At   time.Duration
	Text string
}

// Difference is where recording and replay part.
type Difference struct {
	// Frame is its number among the bridge's frames in the recording, retries
	// included, from 1 on.
	Frame int
	// Why is half a sentence.
	Why string
	// Recorded and Replayed are what was sent, nil for nothing.
	Recorded, Replayed *Said

	place   int
	content []byte // of Replayed
}

// End is how an update ended in the replay.
type End struct {
	At time.Duration
	dialect.Result
}

// Report is the result of a replay.
type Report struct {
	Header recording.Header
	// Frames is how many distinct frames of the bridge agree, Total how many the
	// recording has; in a strict replay retries are among them.
	Frames, Total int
	// Retries that the recording has, and those of the replay up to the end or the
	// difference.
	RecordedRetries, Retries int
	// Ends of updates in the replay.
	Ends []End
	// Difference is the first, nil if there is none.
	Difference *Difference
	// Incomplete says where the recording itself breaks off, "" if it is whole. All
	// before that was replayed.
	Incomplete string
}

// Agrees says whether all that was recorded came out the same, and that was all
// that passed.
func (r *Report) Agrees() bool { return r.Difference == nil && r.Incomplete == "" }

// Limits of the search for what a recording does not show.
const (
	maxRuns = 200
	// settled is how many frames behind its proof an answer is taken for right.
	settled = 40
	// maxWork is how many frames and pieces all runs may handle before the search
	// is content with what it has.
	maxWork = 20_000_000
)

// Run replays the recording in src, which should be buffered. The error is about
// the recording: it is none, damaged, or of a dialect that is not among dialects.
func Run(src io.Reader, dialects map[string]Dialect, o Options) (Report, error) {
	s, err := newScript(src, func(name string) reader {
		if dialects[name] == nil {
			return nil
		}
		return newReader(name)
	})
	if err != nil {
		return Report{}, err
	}
	d := dialects[s.header.Dialect]
	best, taken, err := search(s, d, o)
	if err != nil {
		return Report{}, err
	}
	if o.Trace != nil {
		if best, err = attempt(s, d, o, &choices{taken: taken}, o.Trace); err != nil {
			return Report{}, err
		}
	}
	r := Report{
		Header: s.header, Frames: best.has(), Total: best.total(), RecordedRetries: s.retries, Retries: best.retries,
		Ends: best.ends, Difference: best.diff, Incomplete: s.ends,
	}
	if best.diff != nil {
		best.explain(best.diff)
		r.Frames = best.counted(best.diff.place, best.distinctBefore(best.diff.place))
	}
	r.Frames = min(r.Frames, r.Total)
	return r, nil
}

// distinctBefore is how many distinct frames the recording has before a place.
func (p *play) distinctBefore(place int) int {
	if place == len(p.frames) {
		return len(p.single)
	}
	return int(p.frames[place].distinct)
}

func attempt(s *script, d Dialect, o Options, c *choices, trace func(sniff.Packet)) (*play, error) {
	p, err := newPlay(s, d, o, c, trace)
	if err != nil {
		return nil, err
	}
	p.run()
	return p, nil
}

// search tries answers to what the recording does not show until all agrees, or
// none is left that could be better than those that it has found.
func search(s *script, d Dialect, o Options) (best *play, taken map[question]int, err error) {
	now := map[question]int{}
	work := 0
	for range maxRuns {
		c := &choices{taken: now}
		p, err := attempt(s, d, o, c, nil)
		if err != nil {
			return nil, nil, err
		}
		if best == nil || p.diff == nil || p.diff.place > best.diff.place {
			best, taken = p, maps.Clone(now)
		}
		work += p.all + p.next
		if p.diff == nil || work > maxWork || !another(now, c.asked, p.diff.place) {
			break
		}
	}
	return best, taken, nil
}

// another changes the answer to the last question that may be to blame for a
// difference, and says whether there was one.
func another(taken map[question]int, met []asked, place int) bool {
	for i := len(met) - 1; i >= 0; i-- {
		q := met[i]
		if place > q.proof+settled {
			return false
		}
		if place >= q.first && taken[q.question]+1 < q.answers {
			taken[q.question]++
			return true
		}
		delete(taken, q.question)
	}
	return false
}

// inWords is a packet as a difference tells of it.
func inWords(p sniff.Packet) *Said {
	return &Said{At: p.At, Text: strings.TrimSuffix(p.Text, again(p))}
}
