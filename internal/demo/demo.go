package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"davit/internal/app"
	"davit/internal/sim"
	"davit/orchestrator"
)

// DefaultSize is the size in bytes of the image that is made when none is
// given: some 14 seconds at 115,200 bit/s.
const DefaultSize = 128 << 10

// Options configure a demo.
type Options struct {
	// Dialect is what the host MCUs speak: one of Dialects, empty for ayla.
	Dialect string
	// Baud is the speed of the serial lines in bit/s.
	Baud int
	// Image is a file to send; empty means a made image of Size bytes.
	Image string
	Size  int
	// Fail is the failure case; empty for none.
	Fail string
	// Keep leaves everything running after the job until the context ends.
	Keep bool
	// Out gets everything that is shown; with JSON it gets the results alone,
	// one object per device, and Progress the rest.
	Out, Progress io.Writer
	JSON          bool
	// Terminal says whether the progress is shown on a terminal.
	Terminal bool
	Log      *slog.Logger

	pace pace
}

// pace is how long things take that the line's speed does not decide. The zero
// value is what a spectator wants; tests are in a hurry.
type pace struct {
	answer        time.Duration // how long the MCU may leave offers unanswered
	unplugged     time.Duration // how long the cable is off
	boot, confirm time.Duration // the MCU's; 0 leaves the simulator's own
}

func (p pace) orUsual() pace {
	if p.answer == 0 {
		p.answer = 10 * time.Second
	}
	if p.unplugged == 0 {
		p.unplugged = 2 * time.Second
	}
	return p
}

// maxBaud is the fastest line that is simulated.
const maxBaud = 12_000_000

// Validate checks what can be checked without touching anything.
func (o *Options) Validate() error {
	if err := checkDialect(o.Dialect); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if o.Baud < 1200 || o.Baud > maxBaud {
		return fmt.Errorf("demo: --baud is %d; allowed are 1200 to %d", o.Baud, maxBaud)
	}
	if o.Image == "" && (o.Size < sim.MinDemoImage || o.Size > 64<<20) {
		return fmt.Errorf("demo: --size is %d; allowed are %d to %d bytes", o.Size, sim.MinDemoImage, 64<<20)
	}
	_, err := faultByName(o.Fail)
	if err != nil {
		return fmt.Errorf("demo: --fail: %w", err)
	}
	return nil
}

// Result is how a demo ended.
type Result struct {
	// Succeeded says that every device reports the new version and runs the
	// uploaded bytes.
	Succeeded bool
}

// Run runs the demo. An error means that it could not be carried out; a device
// that was not updated is a Result.
func Run(ctx context.Context, o Options) (result Result, err error) {
	o.pace = o.pace.orUsual()
	injected, err := faultByName(o.Fail)
	if err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp("", "davit-demo-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &rig{options: o, scene: products(o.Dialect), dir: dir, fault: injected}
	defer func() { err = errors.Join(err, r.stop()) }()
	if !o.JSON {
		o.Progress = o.Out
		r.options.Progress = o.Out
	}
	if err := r.start(ctx); err != nil {
		return Result{}, err
	}
	r.introduce()
	if err := r.rollOut(ctx); err != nil {
		return Result{}, err
	}
	outcomes, err := r.outcomes(ctx)
	if err != nil {
		return Result{}, err
	}
	result.Succeeded = r.report(outcomes)
	if o.Keep {
		r.linger(ctx)
	}
	return result, nil
}

// rollOut runs the job and shows it to its end.
func (r *rig) rollOut(ctx context.Context) error {
	v := r.view()
	defer v.close()
	job, err := r.client.CreateJob(ctx, orchestrator.NewJob{Name: jobName, Image: r.image.ID, Devices: r.devices()})
	if err != nil {
		return fmt.Errorf("create the job: %w", err)
	}
	if _, err := r.client.StartJob(ctx, job.Name); err != nil {
		return fmt.Errorf("start the job: %w", err)
	}
	_, err = app.WatchJob(ctx, r.client, job.Name, app.WatchFuncs{
		Execution: func(e orchestrator.Execution) error { v.update(e); return nil },
		Job:       func(orchestrator.Job) error { return nil },
	})
	if err != nil {
		return fmt.Errorf("watch the job: %w", err)
	}
	return nil
}

// introduce says what the scene is.
func (r *rig) introduce() {
	w := r.options.Progress
	fmt.Fprintf(w, "%s: %d bytes (%s), version %s, SHA-256 %s...\n", r.image.FileName, r.image.Size, r.image.Format, r.image.Version, r.image.SHA256[:16])
	for _, region := range r.image.LeftOut {
		fmt.Fprintf(w, "  %s\n", region)
	}
	r.introduceLines(w)
	if r.password != "" {
		fmt.Fprintf(w, "watch it in the console: http://%s, user %s, password %s\n", r.server.Addresses().HTTP, consoleUser, r.password)
	}
	if r.fault.name != "" {
		s := r.stations[faulty]
		fmt.Fprintf(w, "fault on %s: %s\n", s.device, r.fault.in(s.product.dialect))
	}
}

// introduceLines says what the devices are connected by, and how fast that is.
func (r *rig) introduceLines(w io.Writer) {
	all := r.products()
	scene := fmt.Sprintf("job %q: %d devices, each behind a bridge on a serial line of its own (pseudo-terminal, %d bit/s", jobName, len(r.stations), r.options.Baud)
	load := func(p *product) string {
		return fmt.Sprintf("at the line's ceiling of %.0f B/s the load takes %.1f s", p.ceiling, float64(r.image.Size)/p.ceiling)
	}
	if len(all) == 1 {
		fmt.Fprintf(w, "%s, %s)\n%s\n", scene, all[0].line, load(all[0]))
	} else {
		fmt.Fprintf(w, "%s)\n", scene)
		for _, s := range r.stations {
			fmt.Fprintf(w, "  %s is a %s, %s, %s: %s\n", s.device, s.product.deviceType, s.product.dialect, s.product.line, load(s.product))
		}
	}
	if slices.ContainsFunc(all, (*product).numbered) {
		fmt.Fprintf(w, "host MCUs of the afero dialect know versions by number: %s is %d, %s is %d\n", oldVersion, factoryID, r.image.Version, r.image.VersionID)
	}
}

func (r *rig) view() view {
	if r.options.Terminal && !r.options.JSON {
		return newBars(r.options.Progress, time.Now, r.devices())
	}
	return newLines(r.options.Progress, time.Now)
}

// report prints what came of it and says whether every device was updated.
func (r *rig) report(outcomes []outcome) bool {
	o := r.options
	updated, identical := 0, 0
	for _, out := range outcomes {
		if out.updated() {
			updated++
		}
		if out.identical {
			identical++
		}
	}
	all := updated == len(outcomes) && identical == len(outcomes)
	if o.JSON {
		e := json.NewEncoder(o.Out)
		for _, out := range outcomes {
			// The writer is the caller's; a pipe that has ended is its own affair.
			_ = e.Encode(out.public())
		}
		return all
	}
	fmt.Fprintln(o.Out)
	table(o.Out, outcomes)
	fmt.Fprintln(o.Out)
	for _, p := range r.products() {
		fmt.Fprintf(o.Out, "The ceiling of a line of %d bit/s (%s) for this image is %.0f B/s%s.\n", o.Baud, p.lineInWords, p.ceiling, p.counted)
	}
	fmt.Fprintf(o.Out, "%d of %d devices report version %s; on %d the running image is byte for byte the uploaded one (SHA-256 %s...).\n",
		updated, len(outcomes), r.image.Version, identical, r.image.SHA256[:16])
	for _, out := range outcomes {
		if text := out.explain(); len(text) > 0 {
			fmt.Fprintf(o.Out, "\n%s\n", out.device)
			for _, line := range text {
				fmt.Fprintf(o.Out, "  %s\n", line)
			}
		}
	}
	return all
}

// linger prints where everything can be reached and waits for the end of ctx.
func (r *rig) linger(ctx context.Context) {
	w := r.options.Progress
	a := r.server.Addresses()
	fmt.Fprintf(w, "\nEverything is left running; end it with ^C.\n")
	fmt.Fprintf(w, "  MQTT   %s\n  HTTP   http://%s\n  token  %s\n", a.MQTT, a.HTTP, app.TokenFile(r.serverData()))
	for _, s := range r.stations {
		fmt.Fprintf(w, "  %-6s %s\n", s.device, s.pty.Path())
	}
	fmt.Fprintf(w, "For example: davit job show %s --server http://%s --data %s\n", jobName, a.HTTP, r.serverData())
	<-ctx.Done()
}
