package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/spool"
	"davit/internal/logevent"
	"davit/schemas"
	"davit/trust"
)

// DefaultWindow is how many bytes of images a bridge awaits at a time.
const DefaultWindow = 2 << 20

// Limits of Config.Window: less than the smallest would be a chunk or two, and one device
// may await schemas.MaxAwaited.
const (
	MinWindow = 4 << 10
	MaxWindow = MaxPorts * schemas.MaxAwaited
)

// CheckWindow says what is wrong with such a number of bytes.
func CheckWindow(n int) error {
	if n < MinWindow || n > MaxWindow {
		return fmt.Errorf("%d bytes are not %d to %d", n, MinWindow, MaxWindow)
	}
	return nil
}

// downloads are the images that are being fetched: each once, for all devices
// that want it.
type downloads struct {
	publish   func(ctx context.Context, device string, f *schemas.Fetch, h *schemas.TraceHeader) error
	transport Transport
	spool     *spool.Spool
	metrics   *Metrics
	log       *slog.Logger
	window    int // bytes that all of them may await
	patience  time.Duration
	ctx       context.Context // ends with the bridge
	mu        sync.Mutex
	running   map[string]*download
	connected bool
	all       sync.WaitGroup
	streams   sync.Mutex // held while a shared stream is subscribed to or left: one at a time
}

// member is a device that wants an image.
type member struct {
	device string
	image  string // the id by which the device was offered it
	chunk  int    // the largest that it may ask for
	stream bool   // its offer points to the image's shared stream
	// trace is what the first fetch in its name carries; the download's goroutine owns it.
	trace *schemas.TraceHeader
	done  func(error) // called once, from the download's goroutine
	// signed are the hashes of the image's blocks, nil if it is not signed; start is called once,
	// from the download's goroutine, when enough of a signed image is there to begin with.
	signed *trust.Verified
	start  func()
}

// errNetwork and errChecksum are what members are told beside errors of the
// spool.
var (
	errNetwork  = errors.New("no data from the service")
	errChecksum = errors.New("the image is not what was announced")
)

// join makes m wait for the image and starts to fetch it if nobody has.
func (ds *downloads) join(sum string, size uint64, m *member) (*download, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if dl := ds.running[sum]; dl != nil {
		dl.mu.Lock()
		dl.members = append(dl.members, m)
		dl.mu.Unlock()
		dl.nudge() // m may begin already
		ds.listen(dl, m)
		return dl, nil
	}
	img, err := ds.spool.Acquire(sum, size)
	if err != nil {
		return nil, err
	}
	tag, _ := schemas.TagOf(sum) // Acquire has checked it
	ctx, cancel := context.WithCancel(ds.ctx)
	dl := &download{
		ds: ds, img: img, tag: tag, members: []*member{m}, up: ds.connected, cancel: cancel,
		chunks: make(chan arrival, 2*schemas.MaxWindow), wake: make(chan struct{}, 1), rejoin: make(chan struct{}, 1), fetcher: fetcher.New(img, uint16(time.Now().UnixNano())),
	}
	dl.ctx = ctx
	dl.held.Store(img.Held())
	ds.running[sum] = dl
	ds.listen(dl, m) // before it asks for anything
	ds.all.Go(func() { ds.run(ctx, sum, dl) })
	return dl, nil
}

// run runs dl to its end and tells its members.
func (ds *downloads) run(ctx context.Context, sum string, dl *download) {
	defer dl.cancel()
	err := dl.run(ctx)
	ds.mu.Lock()
	if ds.running[sum] == dl {
		delete(ds.running, sum)
	}
	dl.mu.Lock()
	members := dl.members
	dl.members = nil
	dl.mu.Unlock()
	ds.mu.Unlock()
	if ctx.Err() == nil || err == nil {
		for _, m := range members {
			m.done(err)
		}
	}
	if err := dl.img.Release(); err != nil {
		ds.log.Warn("image spool", "event", logevent.SpoolFailed, "error", err)
	}
}

// leave says that m does not want the image any more. m may still be told once.
func (dl *download) leave(m *member) {
	dl.ds.mu.Lock()
	defer dl.ds.mu.Unlock()
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.members = slices.DeleteFunc(dl.members, func(x *member) bool { return x == m })
	if len(dl.members) == 0 {
		dl.cancel()
		if dl.ds.running[dl.img.SHA256()] == dl {
			delete(dl.ds.running, dl.img.SHA256()) // who joins now begins anew
		}
	}
}

// share is how many bytes each download may await: all have the same part of the window.
func (ds *downloads) share() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return max(min(ds.window/max(1, len(ds.running)), schemas.MaxAwaited), schemas.MinChunkSize)
}

// setConnected says whether asking makes sense.
func (ds *downloads) setConnected(up bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.connected = up
	for _, dl := range ds.running {
		dl.mu.Lock()
		dl.up = up
		dl.following = false // subscriptions end with their connection
		if up && dl.listening {
			dl.joining = true
			select {
			case dl.rejoin <- struct{}{}:
			default:
			}
		}
		dl.mu.Unlock()
		dl.nudge()
	}
}
