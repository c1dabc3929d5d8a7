package orchestrator

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/logonce"
	"davit/internal/pulse"
	"davit/internal/trace"
	"davit/schemas"
	"davit/trust"
)

// Options are what a Service needs. Store, Blobs, Publisher and Logger must be
// set; the zero value of everything else means a default.
type Options struct {
	Store     Store
	Blobs     Blobs
	Publisher Publisher
	// Multicaster carries the shared streams of images; without one there are none.
	Multicaster Multicaster
	Logger      *slog.Logger
	Metrics     *Metrics
	// Tracer traces jobs and executions; nil traces nothing.
	Tracer *trace.Tracer
	// Now is the clock of the records.
	Now func() time.Time
	// Random is what is random in the ids of executions, all 64 bits of it. By default
	// nobody can guess it; a simulation has the same ids each time.
	Random func() uint64
	// MaxImageSize is the largest image in bytes: 256 MiB by default, never
	// more than schemas.MaxImageSize.
	MaxImageSize uint64
	// JobBatch is how many executions one transaction makes or cancels; 256 by
	// default.
	JobBatch int
	// PublishWorkers publish offers, StreamWorkers send chunks; 32 and 4 by default.
	PublishWorkers int
	StreamWorkers  int
	// MaxInProgress is how many devices may be in progress at a time, of all jobs
	// together, shared fairly between them; 0 is no limit. With a limit, images
	// are offered to connected devices only.
	MaxInProgress int
	// Reoffers is how many offers that stand already are repeated a second at
	// most, to devices that come back; 500 by default.
	Reoffers int
	// ModuleCredit and TotalCredit are how many bytes of images may be under way,
	// sent and not yet confirmed by a later fetch, to one device and to all together;
	// 2 MiB and 256 MiB by default. A total below the other is raised to it.
	ModuleCredit, TotalCredit int64
	// ImageKeys are the keys that signatures of images are verified with, or KeyRing is
	// a key list with them. With neither, signatures are kept and not verified, and
	// device types that require them get no image.
	ImageKeys trust.KeySet
	KeyRing   *trust.KeyRing
	// Retention says for how long what nobody needs any more is kept. It deletes nothing while the clock has leapt
	// ahead, unless ClockKept says that somebody, such as an NTP client, keeps the clock (nil: nobody is known to), or
	// the clock is not much later than ClockConfirmed, at which an operator says that it was right.
	Retention      Retention
	ClockKept      func() bool
	ClockConfirmed time.Time
}

const (
	defaultMaxImageSize = 256 << 20
	defaultJobBatch     = 256
	// Each waits for the broker's PUBACK, which on a busy machine takes many milliseconds: four
	// were the limit at some 500 offers a second.
	defaultPublishWorkers = 32
	defaultStreamWorkers  = 4
	defaultReoffers       = 500
	// DefaultModuleCredit and DefaultTotalCredit are those of Options, in bytes.
	DefaultModuleCredit = schemas.MaxAwaited
	DefaultTotalCredit  = 256 << 20
)

func (o Options) withDefaults() (Options, error) {
	if o.Store == nil || o.Blobs == nil || o.Publisher == nil || o.Logger == nil {
		return o, errors.New("orchestrator: Store, Blobs, Publisher and Logger have to be set")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = random
	}
	if o.MaxImageSize == 0 {
		o.MaxImageSize = defaultMaxImageSize
	}
	o.MaxImageSize = min(o.MaxImageSize, schemas.MaxImageSize)
	if o.JobBatch <= 0 {
		o.JobBatch = defaultJobBatch
	}
	if o.PublishWorkers <= 0 {
		o.PublishWorkers = defaultPublishWorkers
	}
	if o.StreamWorkers <= 0 {
		o.StreamWorkers = defaultStreamWorkers
	}
	if o.Reoffers <= 0 {
		o.Reoffers = defaultReoffers
	}
	if o.ModuleCredit <= 0 {
		o.ModuleCredit = DefaultModuleCredit
	}
	if o.TotalCredit <= 0 {
		o.TotalCredit = DefaultTotalCredit
	}
	o.TotalCredit = max(o.TotalCredit, o.ModuleCredit)
	return o, nil
}

// Service is the orchestrator. All methods may be called from any goroutine,
// before, during and after Run; what they change is on disk when they return.
// Offers are published and chunks are sent only while Run runs.
type Service struct {
	store        Store
	blobs        Blobs
	publisher    Publisher
	log          *slog.Logger
	metrics      *Metrics
	tracer       *trace.Tracer // nil: nothing is traced
	now          func() time.Time
	random       func() uint64
	maxImageSize uint64
	publishers   int
	jobBatch     int

	together *together
	outbox   *outbox
	cleared  *withdrawals
	watch    *watch
	streamer *streamer
	grants   *grants
	refused  logonce.Limit
	// blobMu is held when a blob is put in its place, and from the moment it
	// loses its last record until the store and the blobs agree again. It guards
	// pinned: by SHA-256, how many uploads under way have put a blob in its place
	// for which they have not written the record yet.
	blobMu sync.Mutex
	pinned map[string]int
	// jobKick asks Run to finish the work of jobs that a caller left.
	jobKick chan struct{}
	// nextWake is when Run's loop looks at timers again, in nanoseconds; 0 or less
	// means not by itself.
	nextWake atomic.Int64
	// clock is the latest time that Advance or an update has seen, in nanoseconds.
	clock atomic.Int64
	// noted is what the store was told of it last (metaClock); 0 is not known.
	noted atomic.Int64
	// movedTo is how far Advance, whose it is, has come with moving times back; nil if
	// there is nothing to move (setback.go).
	movedTo        []byte
	advancing      *pulse.Pulse
	doings         *doings
	plans          *plans
	maxInProgress  int
	retention      Retention
	retentionClock retentionClock
	verifier       atomic.Pointer[verifier]
	// unheard are devices that an earlier process left online, later those of them
	// that Run sets offline when it is ready.
	unheard unheard
	later   []string
	running atomic.Bool
	ready   chan struct{}
}

// New prepares a Service on a store; it reads and writes nothing yet.
func New(o Options) (*Service, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	v, err := newVerifier(o.ImageKeys, o.KeyRing)
	if err != nil {
		return nil, err
	}
	s := &Service{
		store: o.Store, blobs: o.Blobs, publisher: o.Publisher, log: o.Logger, metrics: o.Metrics, tracer: o.Tracer, now: o.Now, random: o.Random,
		maxImageSize: o.MaxImageSize, publishers: o.PublishWorkers, jobBatch: o.JobBatch,
		outbox: newOutbox(o.Reoffers), cleared: newWithdrawals(), watch: newWatch(), grants: newGrants(), pinned: map[string]int{},
		retention: o.Retention, retentionClock: retentionClock{kept: o.ClockKept, confirmed: o.ClockConfirmed}, plans: newPlans(), maxInProgress: max(0, o.MaxInProgress),
		advancing: pulse.New(), doings: newDoings(), jobKick: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	s.verifier.Store(v)
	s.together = &together{commit: s.commit, most: maxTogether}
	s.streamer = newStreamer(streamerConfig{
		blobs: o.Blobs, publisher: o.Publisher, log: o.Logger, metrics: o.Metrics, doings: s.doings,
		workers: o.StreamWorkers, moduleCredit: o.ModuleCredit, totalCredit: o.TotalCredit, multicaster: o.Multicaster,
	})
	s.metrics.source(s.figures, s.depths)
	return s, nil
}

// Ready is closed when Run has recovered what an earlier process left: wait for
// it before passing on what devices say.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// String names the task in logs.
func (s *Service) String() string { return "orchestrator" }

// newID makes an id of 16 random characters after the prefix.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }
