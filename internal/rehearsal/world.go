package rehearsal

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// What the things of a play are called.
const (
	imageTypeID = "application"
	typeID      = "simulated"
	jobName     = "update"
	oldVersion  = "1.0.0"
	newVersion  = "2.0.0"
	everyDevice = `type == "` + typeID + `"`
)

// world is a play under way.
type world struct {
	cfg     Config
	service *orchestrator.Service
	start   time.Time
	at      time.Duration // since the start
	queue   queue
	made    uint64 // events
	devices []*device
	byID    map[string]*device
	old     string // the image that the fleet runs at first
	before  string // the version from which a device comes to the job's
	ack     schemas.Ack
	stage   map[schemas.Cause]int // the order in which an update meets causes
	// lineRate is what a host MCU takes in bytes per second.
	lineRate float64
	bytes    uint64 // downloaded
	busy     int    // devices that work on something
	falling  int    // devices that will fall back
	held     int    // devices that were downloaded to since people had that installed
	installs int    // how often people did
	asked    map[asked]bool
	moved    bool // the service was told something since it was looked at
	over     bool // the job has come to its end
	teller   teller
	// observe is shown the job whenever it may have changed; of tests.
	observe func(*world, *orchestrator.Job)
}

// Play plays a job and returns when it has come to its end, when nothing more
// happens without people, or after Config.Until. The error is the service's, if it
// refuses the rollout (orchestrator.FieldError), one about the fleet, or that of ctx.
func Play(ctx context.Context, cfg Config) (*Result, error) { return play(ctx, cfg, nil) }

func play(ctx context.Context, cfg Config, observe func(*world, *orchestrator.Job)) (*Result, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w := &world{cfg: cfg, start: cfg.start(), byID: map[string]*device{}, stage: map[schemas.Cause]int{}, asked: map[asked]bool{}, observe: observe}
	w.teller.causes = map[schemas.Cause]bool{}
	for i, c := range Causes() {
		w.stage[c] = i
	}
	const bitsPerByte, image = 10, 0.75 // of what passes on a line, so much is the image
	w.lineRate = float64(cfg.Fleet.Line) / bitsPerByte * image
	var err error
	if w.service, err = orchestrator.New(orchestrator.Options{
		Store: memstore.New(), Blobs: blobs{}, Publisher: link{w}, Logger: slog.New(slog.DiscardHandler),
		Now: w.now, Random: rand.NewPCG(cfg.Fleet.Seed, 1<<62).Uint64,
	}); err != nil {
		return nil, err
	}
	if err := w.set(ctx); err != nil {
		return nil, err
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	return w.result(ctx)
}

// set makes the fleet and starts the job.
func (w *world) set(ctx context.Context) error {
	rollout, err := w.adapt()
	if err != nil {
		return err
	}
	if err := w.makeCatalog(ctx); err != nil {
		return err
	}
	w.makeDevices(rollout)
	if err := w.register(ctx); err != nil {
		return err
	}
	image, err := w.makePath(ctx, rollout)
	if err != nil {
		return err
	}
	if rollout != nil {
		for i := range rollout.Stop {
			if rollout.Stop[i].RollBack != "" {
				rollout.Stop[i].RollBack = w.old
			}
		}
	}
	if _, err := w.service.CreateJob(ctx, orchestrator.NewJob{Name: jobName, Image: image, Query: everyDevice, Rollout: rollout}); err != nil {
		return err
	}
	_, err = w.service.StartJob(ctx, jobName)
	return err
}

func (w *world) makeCatalog(ctx context.Context) error {
	if _, err := w.service.CreateImageType(ctx, orchestrator.NewImageType{ID: imageTypeID}); err != nil {
		return err
	}
	if _, err := w.service.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: typeID, Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: imageTypeID}},
	}); err != nil {
		return err
	}
	var err error
	w.old, err = w.makeImage(ctx, oldVersion, "")
	return err
}

// makePath makes the job's image and those that the rollout leads devices through: each
// of them, in their order, needs the version of the one before, and the job's that of
// the last one.
func (w *world) makePath(ctx context.Context, rollout *orchestrator.Rollout) (image string, err error) {
	w.before = oldVersion
	if rollout == nil || len(rollout.Via) == 0 {
		return w.makeImage(ctx, newVersion, "")
	}
	made := map[string]string{} // by what the rollout names; the service refuses one that is named twice
	for i, id := range rollout.Via {
		if made[id] == "" {
			version := fmt.Sprintf("1.%d.0", len(made)+1)
			if made[id], err = w.makeImage(ctx, version, w.before); err != nil {
				return "", err
			}
			w.before = version
		}
		rollout.Via[i] = made[id]
	}
	return w.makeImage(ctx, newVersion, w.before)
}

// makeImage uploads an image whose content is its version and zeros. needs is the
// version that has to run before, "" for any.
func (w *world) makeImage(ctx context.Context, version, needs string) (id string, err error) {
	content := make([]byte, w.cfg.Fleet.Size)
	copy(content, version)
	image, err := w.service.UploadImage(ctx, orchestrator.NewImage{
		ImageType: imageTypeID, DeviceTypes: []string{typeID}, Version: version, MinVersion: needs, Format: "binary",
	}, bytes.NewReader(content))
	return image.ID, err
}

// makeDevices draws the fleet. The devices that the rollout names come first.
func (w *world) makeDevices(rollout *orchestrator.Rollout) {
	f := &w.cfg.Fleet
	names := named(rollout)
	for i := range f.Devices {
		// The sources of one device are told apart by the highest bit of the second word.
		d := &device{
			luck: rand.New(rand.NewPCG(f.Seed, uint64(i))), line: rand.New(rand.NewPCG(f.Seed, 1<<63|uint64(i))),
			version: oldVersion, labels: map[string]string{}, unsaid: true,
		}
		if i < len(names) {
			d.id = names[i]
		} else {
			d.id = fmt.Sprintf("sim-%05d", i+1)
		}
		const least = 0.5
		d.speed = least + d.luck.Float64()
		for _, l := range f.Labels {
			if v := l.value(d.luck.Float64()); v != "" {
				d.labels[l.Name] = v
			}
		}
		w.devices = append(w.devices, d)
		w.byID[d.id] = d
	}
}

// register makes the fleet known to the service, with its versions, its groups and
// who is connected at the start.
func (w *world) register(ctx context.Context) error {
	f := &w.cfg.Fleet
	for from := 0; from < len(w.devices); from += orchestrator.MaxBatch {
		var list []orchestrator.NewDevice
		for _, d := range w.devices[from:min(from+orchestrator.MaxBatch, len(w.devices))] {
			list = append(list, orchestrator.NewDevice{ID: d.id, Type: typeID, Labels: d.labels})
		}
		if _, err := w.service.CreateDevices(ctx, list); err != nil {
			return err
		}
	}
	groups := make([][]string, len(f.Groups))
	for _, d := range w.devices {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, g := range f.Groups {
			if d.line.Float64() < g.Part {
				groups[i] = append(groups[i], d.id)
			}
		}
		d.online, d.told = true, true // it has said before what it runs
		if err := w.hello(ctx, d); err != nil {
			return err
		}
		d.online, d.told = d.line.Float64() < f.Online, false
		w.later(d)
		if err := w.present(ctx, d); err != nil {
			return err
		}
	}
	for i, g := range f.Groups {
		if _, err := w.service.CreateGroup(ctx, orchestrator.NewGroup{ID: g.Name, Devices: groups[i]}); err != nil {
			return err
		}
	}
	return nil
}
