package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/sim"
	"davit/orchestrator"
)

// station is one bench: a device with its host MCU, line and bridge.
type station struct {
	device  string
	product *product
	fault   fault
	pty     *sim.PTY
	mcu     sim.Host
	bridge  *app.Bridge
	// unplugged is how long the hand at the cable keeps it off.
	unplugged time.Duration
	before    running // what the service knew before the job

	handling sync.WaitGroup // the hand at the cable

	mu      sync.Mutex // the MCU's goroutine reports what follows
	struck  bool       // the line's trouble has begun
	pulls   int64
	first   time.Time // when the first piece of the transfer was taken
	firstN  uint32    // and how many bytes it had
	loading time.Duration
	plugErr error
}

// port is how the bridge is configured for the station's line.
func (s *station) port(path string, baud int) bridge.PortConfig {
	c := bridge.PortConfig{Device: s.device, Path: path, Baud: baud}
	if s.product.named {
		c.Dialect = s.product.dialect
	}
	return c
}

// event receives what happens in the MCU; it runs on the MCU's goroutine. A load
// that begins anew is measured anew; an afero MCU that was cut off goes on where
// it was, and then the time of the cut is part of the load.
func (s *station) event(e sim.Event) {
	if e.Kind != sim.EventLoad {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.first.IsZero() || e.Done <= s.firstN {
		s.first, s.firstN = now, e.Done
	} else if e.Done == e.Size {
		// The first piece's own time is not seen; it is taken to be like the others'.
		s.loading = time.Duration(float64(now.Sub(s.first)) * float64(e.Size) / float64(e.Size-s.firstN))
	}
	if s.fault.at > 0 && !s.struck && e.Done >= min(s.fault.at, e.Size/2) {
		s.struck = true
		s.strike()
	}
}

// strike begins the line's trouble; mu is held.
func (s *station) strike() {
	switch s.fault.trouble {
	case cablePulled:
		s.pulls++
		s.handling.Go(s.pty.Unplug)
	case cableReplaced:
		s.pulls++
		s.handling.Go(s.replaceCable)
	case lineDrowned:
		s.pty.Line().SetFaults(drowning())
	}
}

// replaceCable unplugs the line and plugs it again after a while.
func (s *station) replaceCable() {
	s.pty.Unplug()
	time.Sleep(s.unplugged)
	if err := s.pty.Replug(); err != nil && !errors.Is(err, os.ErrClosed) {
		s.mu.Lock()
		s.plugErr = err
		s.mu.Unlock()
	}
}

// close frees the line when nothing uses it any more.
func (s *station) close() error {
	s.handling.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.plugErr, s.pty.Close())
}

// upload sends the image to the service.
func (r *rig) upload(ctx context.Context) error {
	version, name, content, err := r.openImage()
	if err != nil {
		return err
	}
	defer content.Close()
	var types []string
	for _, p := range r.products() {
		types = append(types, p.deviceType)
	}
	r.image, err = r.client.UploadImage(ctx, orchestrator.NewImage{
		ImageType: imageType, DeviceTypes: types, Version: version, FileName: name,
	}, content)
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	flat, err := r.content(ctx)
	if err != nil {
		return err
	}
	for _, p := range r.products() {
		if p.ceiling, err = p.limit(flat, r.options.Baud); err != nil {
			return err
		}
	}
	return nil
}

// register tells the service which number the firmware has that the devices of a
// product run from the factory. Without that it would show the number alone.
func (r *rig) register(ctx context.Context, p *product) error {
	_, err := r.client.UploadImage(ctx, orchestrator.NewImage{
		ImageType: imageType, DeviceTypes: []string{p.deviceType}, Version: oldVersion, VersionID: factoryID, FileName: "factory image",
	}, bytes.NewReader(factoryImage()))
	if err != nil {
		return fmt.Errorf("upload the factory image: %w", err)
	}
	return nil
}

// factoryImage is what devices run before the job.
func factoryImage() []byte { return sim.BuildDemoImage(oldVersion, sim.MinDemoImage, 1) }

// running is what a device of the product reports, with its number if it has one.
func (r *rig) running(p *product, version string) running {
	v := running{version: version}
	switch {
	case !p.numbered():
	case version == r.image.Version:
		v.id = r.image.VersionID
	case version == oldVersion:
		v.id = factoryID
	}
	return v
}

// openImage returns the image's version, its name and its bytes as a file has
// them. A demo image names its own version.
func (r *rig) openImage() (version, name string, content io.ReadCloser, err error) {
	if r.options.Image == "" {
		image := sim.BuildDemoImage(newVersion, r.options.Size, 1)
		return newVersion, "demo image", io.NopCloser(bytes.NewReader(image)), nil
	}
	f, err := os.Open(r.options.Image)
	if err != nil {
		return "", "", nil, err
	}
	head := make([]byte, sim.MinDemoImage)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", "", nil, errors.Join(err, f.Close())
	}
	version = newVersion
	if h, ok := sim.ReadDemoHeader(head[:n]); ok && h.Version != "" {
		version = h.Version
	}
	return version, filepath.Base(r.options.Image), f, nil
}

// content is the flat binary that the service hands out.
func (r *rig) content(ctx context.Context) ([]byte, error) {
	body, err := r.client.ImageContent(ctx, r.image.ID)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// outcomes collects how it went, from the service and from the benches.
func (r *rig) outcomes(ctx context.Context) ([]outcome, error) {
	flat, err := r.content(ctx)
	if err != nil {
		return nil, err
	}
	_, executions, err := r.client.Job(ctx, jobName)
	if err != nil {
		return nil, err
	}
	byDevice := map[string]orchestrator.Execution{}
	for _, e := range executions {
		byDevice[e.Device] = e
	}
	var all []outcome
	for _, s := range r.stations {
		d, err := r.client.Device(ctx, s.device)
		if err != nil {
			return nil, err
		}
		o := outcome{
			device: s.device, dialect: s.product.dialect, fault: s.fault, execution: byDevice[s.device],
			before: s.before, after: r.running(s.product, d.Versions[imageType]), ceiling: s.product.ceiling,
		}
		o.identical = bytes.Equal(s.mcu.RunningImage(), flat)
		s.mu.Lock()
		o.loading, o.line.dropouts = s.loading, s.pulls
		s.mu.Unlock()
		o.line.flipped = flipped(s.pty.Line())
		frames, err := s.bridge.Frames()
		if err != nil {
			return nil, err
		}
		o.line.bad, o.line.retried = frames.Bad, frames.Retried
		all = append(all, o)
	}
	return all, nil
}

func flipped(l *sim.Line) int64 {
	to, from := l.Stats()
	return to.Flipped + from.Flipped
}
