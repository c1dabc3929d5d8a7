package demo

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"davit/orchestrator"
	"davit/schemas"
)

// refresh is how often the bars are drawn.
const refresh = 100 * time.Millisecond

// bars is the view for a terminal: one progress bar per device, which follows
// the leg that the image is on.
type bars struct {
	progress *mpb.Progress
	now      func() time.Time
	device   map[string]*deviceBar
}

// deviceBar is one device's bar. The renderer reads the texts, so they are
// behind a lock.
type deviceBar struct {
	bar   *mpb.Bar
	meter meter

	mu     sync.Mutex
	what   string
	detail string
}

func newBars(w io.Writer, now func() time.Time, devices []string) *bars {
	b := &bars{
		progress: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(refresh)),
		now:      now,
		device:   map[string]*deviceBar{},
	}
	for _, name := range devices {
		d := &deviceBar{what: "waiting"}
		// A total of 0 keeps the bar from completing by itself when the bytes are there: boot and version follow.
		d.bar = b.progress.AddBar(0,
			mpb.PrependDecorators(
				decor.Name(name, decor.WC{W: 8, C: decor.DindentRight}),
				decor.Any(func(decor.Statistics) string { return d.text(&d.what) }, decor.WC{W: 24, C: decor.DindentRight}),
			),
			mpb.AppendDecorators(
				decor.Any(func(decor.Statistics) string { return d.text(&d.detail) }, decor.WC{W: 34, C: decor.DindentRight}),
			))
		b.device[name] = d
	}
	return b
}

func (d *deviceBar) text(field *string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *field
}

func (b *bars) update(e orchestrator.Execution) {
	d := b.device[e.Device]
	if d == nil || d.meter.state.Final() {
		return
	}
	d.meter.observe(e, b.now())
	d.mu.Lock()
	d.what = phase(e)
	if moving(e.State) {
		d.detail = fmt.Sprintf("%s of %s", size(e.BytesDone), size(e.BytesTotal))
		if d.meter.rate > 0 {
			d.detail += fmt.Sprintf("  %.0f B/s", d.meter.rate)
		}
	} else {
		d.detail = ""
	}
	d.mu.Unlock()
	d.bar.SetTotal(int64(e.BytesTotal), false)
	switch {
	case e.State == schemas.StateSucceeded:
		d.bar.SetTotal(int64(e.BytesTotal), true)
	case e.State.Final():
		d.bar.Abort(false)
	case moving(e.State):
		d.bar.SetCurrent(int64(e.BytesDone))
	case e.State == schemas.StateBooting || e.State == schemas.StateDownloaded:
		d.bar.SetCurrent(int64(e.BytesTotal))
	default:
		d.bar.SetCurrent(0)
	}
}

// close waits for the last drawing; bars that have not ended stay as they are.
func (b *bars) close() {
	for _, d := range b.device {
		if d.bar.IsRunning() {
			d.bar.Abort(false)
		}
	}
	b.progress.Wait()
}
