package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// modelBase is what all schedules begin with: types and images, and their bytes.
type modelBase struct {
	env    *env
	store  *memstore.Store
	images []orchestrator.Image
}

// newModelBase makes two image types, two device types (a pump takes both, a lamp
// only the application) and images that lead from some versions to others.
func newModelBase(t *testing.T) *modelBase {
	b := &modelBase{store: memstore.New()}
	b.env = newEnv(t, func(o *orchestrator.Options) { o.Store = b.store })
	for _, id := range []string{"app", "boot"} {
		must[orchestrator.ImageType](t)(b.env.CreateImageType(ctx, orchestrator.NewImageType{ID: id}))
	}
	app := orchestrator.EnabledImageType{ID: "app", SizeLimit: 1 << 20, VersionProperty: "app_version"}
	boot := orchestrator.EnabledImageType{ID: "boot", SizeLimit: 1 << 20, VersionProperty: "boot_version"}
	for id, types := range map[string][]orchestrator.EnabledImageType{"pump": {app, boot}, "lamp": {app}} {
		must[orchestrator.DeviceType](t)(b.env.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: id, Dialect: "ayla", ImageTypes: types}))
	}
	for i, x := range []struct{ kind, version, from string }{
		{"app", "1.0", ""}, {"app", "1.5", "1.0"}, {"app", "2.0", "1.5"}, {"app", "2.0", ""}, {"app", "3.0", ""}, {"app", "3.0", "2.0"},
		{"boot", "b1", ""}, {"boot", "b2", "b1"}, {"boot", "b3", ""},
	} {
		fits := []string{"pump"}
		if x.kind == "app" {
			fits = append(fits, "lamp")
		}
		b.images = append(b.images, b.env.image(x.version, content(10_000+i, byte(i)), func(n *orchestrator.NewImage) {
			n.ImageType, n.DeviceTypes, n.MinVersion = x.kind, fits, x.from
		}))
	}
	return b
}

// modelRig is one schedule: the service on a store that can fail, a clock of its
// own, a broker and devices. Nothing in it runs by itself.
type modelRig struct {
	*orchestrator.Service
	t     *rapid.T
	base  *modelBase
	rnd   *rand.Rand // of the present step
	stats *modelStats
	m     *model

	store  *memstore.Store
	opts   orchestrator.Options
	reader *orchestrator.Service // sees what is in the store, and nothing else
	faults []storetest.Fault     // of the next updates

	wall  time.Time
	up    time.Duration   // all that the clock went forward
	backs []time.Duration // when it was set back, by up
	next  time.Time       // what Advance said last

	offers   map[string]schemas.Offer // retained
	refusals int                      // how many publications the broker is still going to refuse
	devices  map[string]*module
	ids      []string
	made     int // devices
	healthy  bool
}

var errBroker = errors.New("the broker does not answer")

// newModelRig draws the world of a schedule.
func newModelRig(t *rapid.T, base *modelBase, stats *modelStats, seed uint64) *modelRig {
	r := &modelRig{
		t: t, base: base, stats: stats, rnd: rand.New(rand.NewPCG(seed, 0)), store: base.store.Clone(),
		offers: map[string]schemas.Offer{}, devices: map[string]*module{},
	}
	// Some days of these zones have a change of the clock.
	r.wall = pick(r, []time.Time{
		time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 7, 22, 30, 0, 0, time.UTC), time.Date(2016, 12, 31, 23, 50, 0, 0, time.UTC), time.Date(2026, 6, 10, 8, 0, 0, 0, time.UTC),
	})
	r.opts = orchestrator.Options{
		Store: &modelStore{Store: r.store, rig: r}, Blobs: base.env.blobs, Publisher: r, Now: func() time.Time { return r.wall },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), JobBatch: pick(r, []int{2, 5, 256}), Reoffers: 1e9,
	}
	if r.chance(4) {
		r.opts.MaxInProgress = 1 + r.n(8)
	}
	r.m = newModel(r)
	reading := r.opts
	reading.Store, reading.MaxInProgress = r.store, 0
	r.reader = r.make(reading)
	r.Service = r.make(r.opts)
	for range 8 + r.n(18) {
		r.createDevice()
	}
	for i := range 3 {
		r.createGroup(fmt.Sprintf("g%d", i), i == 2)
	}
	for _, d := range r.all() {
		if !r.chance(4) {
			d.connect()
		}
	}
	return r
}

func (r *modelRig) make(o orchestrator.Options) *orchestrator.Service {
	s, err := orchestrator.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// reseed has what is drawn follow from a number.
func (r *modelRig) reseed(n uint64) { r.rnd = rand.New(rand.NewPCG(n, 1)) }

// n draws a number below n, chance says yes once in n.
func (r *modelRig) n(n int) int         { return r.rnd.IntN(n) }
func (r *modelRig) chance(n int) bool   { return r.rnd.IntN(n) == 0 }
func pick[T any](r *modelRig, of []T) T { return of[r.n(len(of))] }

// all are the devices in order.
func (r *modelRig) all() []*module {
	out := make([]*module, 0, len(r.ids))
	for _, id := range r.ids {
		out = append(out, r.devices[id])
	}
	return out
}

func (r *modelRig) logf(format string, args ...any) {
	r.t.Logf("%s "+format, append([]any{r.wall.Format("01-02 15:04:05.000")}, args...)...)
}

// fail ends the schedule: the service and the model differ.
func (r *modelRig) fail(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf("%s "+format, append([]any{r.wall.Format("01-02 15:04:05.000")}, args...)...)
}

// tolerate fails the test for an error that nothing in the schedule accounts for,
// and says whether there was none.
func (r *modelRig) tolerate(what string, err error, kinds ...error) bool {
	for _, kind := range append(kinds, storetest.ErrInjected, errBroker) {
		if errors.Is(err, kind) {
			r.logf("%s: %v", what, err)
			return false
		}
	}
	if err != nil {
		r.fail("%s: unexpected error: %v", what, err)
	}
	return true
}

// pass moves the clock.
func (r *modelRig) pass(d time.Duration) {
	for _, j := range r.m.jobs {
		j.wasOver = j.wasOver || r.m.pastEnd(j)
	}
	r.wall = r.wall.Add(d)
	if d > 0 {
		r.up += d
	} else {
		r.backs = append(r.backs, r.up)
	}
}

// modelStore is the store of a rig: it fails as the schedule says and has the
// model look at each update that was kept.
type modelStore struct {
	orchestrator.Store
	rig *modelRig
}

func (s *modelStore) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	fault := storetest.FaultNone
	if len(s.rig.faults) > 0 {
		fault, s.rig.faults = s.rig.faults[0], s.rig.faults[1:]
	}
	if fault != storetest.FaultNone {
		s.rig.stats.faults++
	}
	faulty := storetest.Faulty{Store: s.Store, Next: func() storetest.Fault { return fault }}
	err := faulty.Update(ctx, fn)
	if err == nil || fault == storetest.FaultAfter && errors.Is(err, storetest.ErrInjected) {
		s.rig.m.committed()
	}
	return err
}

// The rig is its own broker.

func (r *modelRig) refuse() error {
	if r.refusals == 0 {
		return nil
	}
	r.refusals--
	return errBroker
}

// Offer implements orchestrator.Publisher.
func (r *modelRig) Offer(_ context.Context, device string, o schemas.Offer) error {
	if _, err := schemas.Encode(&o); err != nil {
		r.fail("%s is offered what is not of the contract: %v", device, err)
	}
	r.m.published(device, o)
	if err := r.refuse(); err != nil {
		return err
	}
	r.logf("  published %s %s/%d %s", device, o.Execution, o.Attempt, o.Version)
	r.offers[device] = o
	return nil
}

// Withdraw implements orchestrator.Publisher.
func (r *modelRig) Withdraw(_ context.Context, device string) error {
	if err := r.refuse(); err != nil {
		return err
	}
	delete(r.offers, device)
	return nil
}

// Forget implements orchestrator.Publisher.
func (r *modelRig) Forget(ctx context.Context, device string) error { return r.Withdraw(ctx, device) }

// Ack implements orchestrator.Publisher.
func (r *modelRig) Ack(_ context.Context, device string, a schemas.Ack) error {
	if err := r.refuse(); err != nil {
		return err
	}
	if d := r.devices[device]; d != nil {
		d.acked(a)
	}
	return nil
}

// Profile implements orchestrator.Publisher.
func (r *modelRig) Profile(context.Context, string, schemas.Profile) error { return r.refuse() }

// Chunk implements orchestrator.Publisher.
func (r *modelRig) Chunk(context.Context, string, []byte) error { return nil }

// publish brings up to n offer topics up to date.
func (r *modelRig) publish(n int) {
	for ; n > 0; n-- {
		device, repeated, err := orchestrator.PublishNext(ctx, r.Service)
		if device == "" {
			return
		}
		if repeated {
			n++ // those come in no order, so that all of them go out in one step
		}
		r.tolerate("publish", err)
	}
}

// settle has the service do everything that is due, until nothing is left, and then
// asks the model why nothing more happens.
func (r *modelRig) settle() {
	for range 200 {
		next, err := r.Advance(ctx)
		if !r.tolerate("advance", err) {
			continue
		}
		if r.next = next; !r.drain() {
			r.m.quiet()
			return
		}
	}
	r.fail("the service does not come to rest")
}

// drain publishes what is marked, and says whether there was something.
func (r *modelRig) drain() (some bool) {
	for {
		device, _, err := orchestrator.PublishNext(ctx, r.Service)
		if device == "" {
			return some
		}
		some = true
		r.tolerate("publish", err)
	}
}

// crash has another process take over: everything in memory is lost, and who is
// connected is told anew.
func (r *modelRig) crash() {
	r.logf("crash")
	r.stats.crashes++
	r.faults, r.refusals = nil, 0
	r.Service = r.make(r.opts)
	if err := orchestrator.Recover(ctx, r.Service); err != nil {
		r.fail("recover: %v", err)
	}
	for _, i := range r.rnd.Perm(len(r.ids)) {
		if d := r.devices[r.ids[i]]; d.connected {
			r.tolerate("presence", r.Presence(ctx, d.id, true))
		}
	}
}

// check runs the service's own check of all records.
func (r *modelRig) check() {
	report, err := r.reader.Check(ctx)
	if err != nil {
		r.fail("check: %v", err)
	}
	if !report.OK() {
		r.fail("check: %d violations:\n%s", report.Count, strings.Join(report.Violations, "\n"))
	}
	r.stats.checks++
}

// createDevice makes a device known.
func (r *modelRig) createDevice() {
	r.made++
	d := &module{rig: r, id: fmt.Sprintf("d%03d", r.made), typ: pick(r, []string{"pump", "pump", "lamp"}), runs: map[string]string{}, labels: r.labels()}
	d.runs["app"] = pick(r, []string{"1.0", "1.0", "1.5", "2.0", "0.9"})
	if d.typ == "pump" {
		d.runs["boot"] = pick(r, []string{"b1", "b1", "b0"})
	}
	d.says = !r.chance(5)
	r.devices[d.id] = d // continuous jobs may take it in the same update
	_, err := r.CreateDevice(ctx, orchestrator.NewDevice{ID: d.id, Type: d.typ, Labels: d.labels})
	if _, missing := r.reader.Device(ctx, d.id); !r.tolerate("create device", err) && missing != nil {
		delete(r.devices, d.id)
		return
	}
	r.ids = append(r.ids, d.id)
	r.logf("device %s %s %v %v", d.id, d.typ, d.runs, d.labels)
}

func (r *modelRig) labels() map[string]string {
	labels := map[string]string{"site": pick(r, []string{"a", "b", "c"})}
	if zone := pick(r, []string{"", "", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "no/where"}); zone != "" {
		labels["tz"] = zone
	}
	return labels
}

// createGroup makes a group, a dynamic one by the label site.
func (r *modelRig) createGroup(id string, dynamic bool) {
	n := orchestrator.NewGroup{ID: id}
	if dynamic {
		n.Query = `label.site == "a"`
	} else {
		n.Devices = r.some(len(r.ids) / 3)
	}
	if _, err := r.CreateGroup(ctx, n); err != nil {
		r.fail("create group: %v", err)
	}
}

// some draws about n devices.
func (r *modelRig) some(n int) []string {
	out := []string{}
	for _, i := range r.rnd.Perm(len(r.ids))[:min(max(n, 1), len(r.ids))] {
		out = append(out, r.ids[i])
	}
	return out
}

// members are a group's devices at this moment, as people see them.
func (r *modelRig) members(group string) map[string]bool {
	g, err := r.reader.Group(ctx, group)
	if err != nil {
		r.fail("group: %v", err)
	}
	out := map[string]bool{}
	for _, id := range g.Devices {
		out[id] = true
	}
	if g.Query == "" {
		return out
	}
	for id, d := range r.devices {
		if d.labels["site"] == "a" {
			out[id] = true
		}
	}
	return out
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
