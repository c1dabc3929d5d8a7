package orchestrator_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBroker is a Publisher that keeps what was published.
type fakeBroker struct {
	mu         sync.Mutex
	offers     map[string]schemas.Offer // retained
	offered    int
	acks       map[string][]schemas.Ack
	profiles   map[string][]schemas.Profile
	fail       error // what Offer, Withdraw, Ack and Profile return
	onChunk    func(device string, chunk []byte) error
	receives   []string            // devices in the order of their chunks
	onWithdraw func(device string) // set before anything is withdrawn
	forgotten  []string            // deleted devices that were cleared
}

func newBroker() *fakeBroker {
	return &fakeBroker{offers: map[string]schemas.Offer{}, acks: map[string][]schemas.Ack{}, profiles: map[string][]schemas.Profile{}}
}

func (b *fakeBroker) Offer(_ context.Context, device string, o schemas.Offer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	if _, err := schemas.Encode(&o); err != nil {
		return err
	}
	b.offers[device] = o
	b.offered++
	return nil
}

func (b *fakeBroker) Withdraw(_ context.Context, device string) error {
	if b.onWithdraw != nil {
		b.onWithdraw(device)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	delete(b.offers, device)
	return nil
}

func (b *fakeBroker) Forget(ctx context.Context, device string) error {
	if err := b.Withdraw(ctx, device); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgotten = append(b.forgotten, device)
	return nil
}

func (b *fakeBroker) Ack(_ context.Context, device string, a schemas.Ack) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	if _, err := schemas.Encode(&a); err != nil {
		return err
	}
	b.acks[device] = append(b.acks[device], a)
	return nil
}

func (b *fakeBroker) Profile(_ context.Context, device string, p schemas.Profile) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	if _, err := schemas.Encode(&p); err != nil {
		return err
	}
	b.profiles[device] = append(b.profiles[device], p)
	return nil
}

func (b *fakeBroker) Chunk(_ context.Context, device string, chunk []byte) error {
	b.mu.Lock()
	on := b.onChunk
	b.receives = append(b.receives, device)
	b.mu.Unlock()
	if on != nil {
		return on(device, chunk)
	}
	return nil
}

func (b *fakeBroker) setFail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func (b *fakeBroker) offer(device string) (schemas.Offer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.offers[device]
	return o, ok
}

func (b *fakeBroker) retained() map[string]schemas.Offer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.offers)
}

func (b *fakeBroker) lastAck(device string) (schemas.Ack, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.acks[device])
	if n == 0 {
		return schemas.Ack{}, 0
	}
	return b.acks[device][n-1], n
}

// env is a Service with what it stands on.
type env struct {
	*orchestrator.Service
	t      testing.TB
	store  orchestrator.Store
	blobs  orchestrator.Blobs
	broker *fakeBroker
	opts   orchestrator.Options
	stop   func()

	sizeLimit uint64 // of fleet's device type; 0 means 1 MiB
}

// newEnv makes a Service on an empty memory store; every test ends with a
// clean check. Change opts with the functions given.
func newEnv(t testing.TB, change ...func(*orchestrator.Options)) *env {
	t.Helper()
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, broker: newBroker()}
	e.opts = orchestrator.Options{
		Store: memstore.New(), Blobs: blobs, Publisher: e.broker, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&e.opts)
	}
	e.store, e.blobs = e.opts.Store, e.opts.Blobs
	e.restart()
	return e
}

// restart makes a new Service on the same store, as after a crash.
func (e *env) restart() {
	e.t.Helper()
	s, err := orchestrator.New(e.opts)
	if err != nil {
		e.t.Fatal(err)
	}
	e.Service = s
}

// start runs the Service until stop or the end of the test.
func (e *env) start() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := e.Service
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	e.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				e.t.Errorf("run: %v", err)
			}
		})
	}
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		e.t.Fatalf("run ended: %v", err)
	}
}

// checkClean fails the test unless the store and the blobs are consistent.
func (e *env) checkClean() orchestrator.CheckReport {
	e.t.Helper()
	r, err := e.Check(context.Background())
	if err != nil {
		e.t.Fatalf("check: %v", err)
	}
	if !r.OK() {
		e.t.Fatalf("check: %d violations:\n%s", r.Count, strings.Join(r.Violations, "\n"))
	}
	return r
}

var ctx = context.Background()

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (e *env) ok(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// wants fails the test unless err is of the kind and its text has the words.
func (e *env) wants(err, kind error, words ...string) {
	e.t.Helper()
	if !errors.Is(err, kind) {
		e.t.Errorf("error %v, want %v", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			e.t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// fleet makes image type "app", device type "pump" and devices d000...
func (e *env) fleet(n int) []string {
	e.t.Helper()
	must[orchestrator.ImageType](e.t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	must[orchestrator.DeviceType](e.t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "pump", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app", SizeLimit: cmp.Or(e.sizeLimit, 1<<20)}},
		BootTimeout: orchestrator.Duration(90 * time.Second),
	}))
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("d%03d", i)
		must[orchestrator.Device](e.t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: ids[i], Type: "pump"}))
	}
	return ids
}

// content is n bytes that differ by seed.
func content(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + seed
	}
	return b
}

func (e *env) image(version string, bytes_ []byte, change ...func(*orchestrator.NewImage)) orchestrator.Image {
	e.t.Helper()
	n := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: version, Format: "binary"}
	for _, c := range change {
		c(&n)
	}
	return must[orchestrator.Image](e.t)(e.UploadImage(ctx, n, bytes.NewReader(bytes_)))
}

// job makes and starts a job.
func (e *env) job(name, image string, devices ...string) orchestrator.Job {
	e.t.Helper()
	return must[orchestrator.Job](e.t)(e.CreateJob(ctx, orchestrator.NewJob{Name: name, Image: image, Devices: devices, Start: true}))
}

// execution returns the job's execution on a device.
func (e *env) execution(job, device string) orchestrator.Execution {
	e.t.Helper()
	list, _, err := e.JobExecutions(ctx, job, orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	e.ok(err)
	for _, x := range list {
		if x.Device == device {
			return x
		}
	}
	e.t.Fatalf("job %s has no execution on %s", job, device)
	return orchestrator.Execution{}
}

// status is a report of an execution's present attempt.
func status(x orchestrator.Execution, seq uint64, state schemas.State) schemas.Status {
	s := schemas.Status{V: schemas.Version, Execution: x.ID, Attempt: x.Attempt, Seq: seq, State: state}
	switch {
	case state == schemas.StateSucceeded:
		s.HostVersion = x.Version
	case state.Final():
		s.Cause = schemas.CauseSerial
	}
	return s
}
