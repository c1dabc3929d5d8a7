package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// follower is somebody who keeps a picture of the records by the feed alone.
type follower struct {
	rev     uint64
	picture map[string]string
}

// catchUp reads the feed to its end in parts of the given size.
func (f *follower) catchUp(e *env, limit int) {
	e.t.Helper()
	for {
		feed, err := e.Events(ctx, f.rev, orchestrator.FeedFilter{}, limit, 0)
		e.ok(err)
		for _, ev := range feed.Events {
			if ev.Rev <= f.rev {
				e.t.Fatalf("event %d of %s %s comes after %d", ev.Rev, ev.Kind, ev.ID, f.rev)
			}
			f.rev = ev.Rev
			key := ev.Kind + " " + ev.ID
			if ev.Deleted {
				delete(f.picture, key)
				continue
			}
			f.picture[key] = asJSON(e.t, ev.Record)
		}
		f.rev = feed.Rev
		if len(feed.Events) == 0 {
			return
		}
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// truth is the same picture, read from the records themselves.
func (e *env) truth() map[string]string {
	e.t.Helper()
	all := map[string]string{}
	page := orchestrator.Page{Limit: 1000}
	types, _, err := e.ImageTypes(ctx, page)
	e.ok(err)
	for _, v := range types {
		all["image_type "+v.ID] = asJSON(e.t, v)
	}
	deviceTypes, _, err := e.DeviceTypes(ctx, page)
	e.ok(err)
	for _, v := range deviceTypes {
		all["device_type "+v.ID] = asJSON(e.t, v)
	}
	images, _, err := e.Images(ctx, orchestrator.ImageFilter{}, page)
	e.ok(err)
	for _, v := range images {
		all["image "+v.ID] = asJSON(e.t, v)
	}
	devices, _, err := e.Devices(ctx, orchestrator.DeviceFilter{}, page)
	e.ok(err)
	for _, v := range devices {
		all["device "+v.ID] = asJSON(e.t, v)
	}
	groups, _, err := e.Groups(ctx, page)
	e.ok(err)
	for _, v := range groups {
		all["group "+v.ID] = asJSON(e.t, v)
	}
	jobs, _, err := e.Jobs(ctx, orchestrator.JobFilter{}, page)
	e.ok(err)
	for _, v := range jobs {
		all["job "+v.Name] = asJSON(e.t, v)
		executions, _, err := e.JobExecutions(ctx, v.Name, orchestrator.ExecutionFilter{}, page)
		e.ok(err)
		for _, x := range executions {
			all["execution "+x.ID] = asJSON(e.t, x)
		}
	}
	return all
}

// TestFeedTellsEverything does things at random, some of them failing, and
// has followers catch up now and then, in parts of any size and over restarts:
// each must end with the picture that the records give.
func TestFeedTellsEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	e := newEnv(t)
	devices := e.fleet(6)
	followers := []*follower{{picture: map[string]string{}}, {picture: map[string]string{}}, {picture: map[string]string{}}}
	image := e.image("2", content(100, 1))
	jobs := 0
	for step := range 400 {
		d := devices[r.IntN(len(devices))]
		group := fmt.Sprintf("g%d", r.IntN(3))
		switch r.IntN(9) {
		case 0:
			_, _ = e.CreateGroup(ctx, orchestrator.NewGroup{ID: group, Devices: []string{d}}) // may exist
		case 1:
			_ = e.DeleteGroup(ctx, group) // may be in use, or not exist
		case 2:
			labels := map[string]string{"step": fmt.Sprint(step)}
			_, _ = e.UpdateDevice(ctx, d, orchestrator.DevicePatch{Labels: &labels})
		case 3:
			_ = e.DeleteDevice(ctx, d) // may be busy
		case 4:
			_, _ = e.CreateDevice(ctx, orchestrator.NewDevice{ID: d, Type: "pump"})
		case 5:
			jobs++
			_, _ = e.CreateJob(ctx, orchestrator.NewJob{Name: fmt.Sprintf("j%03d", jobs), Image: image.ID, Devices: []string{d}, Start: r.IntN(2) == 0})
		case 6:
			_ = e.Hello(ctx, d, schemas.Hello{V: schemas.Version, HostVersions: map[string]string{orchestrator.DefaultVersionProperty: fmt.Sprint(r.IntN(4))}})
		case 7:
			if jobs > 0 {
				_, _ = e.CancelJob(ctx, fmt.Sprintf("j%03d", 1+r.IntN(jobs)), orchestrator.CancelRequest{})
			}
		case 8:
			_ = e.Presence(ctx, d, r.IntN(2) == 0)
		}
		if r.IntN(40) == 0 {
			e.restart()
		}
		if r.IntN(10) == 0 {
			followers[r.IntN(len(followers))].catchUp(e, 1+r.IntN(7))
		}
	}
	if jobs < 10 {
		t.Fatalf("only %d jobs were made", jobs)
	}
	want := e.truth()
	for i, f := range followers {
		f.catchUp(e, 3)
		if !maps.Equal(f.picture, want) {
			t.Errorf("follower %d sees %d records, there are %d", i, len(f.picture), len(want))
			for k, v := range want {
				if f.picture[k] != v {
					t.Errorf("%s\n is   %s\n seen %s", k, v, f.picture[k])
				}
			}
		}
	}
	e.checkClean()
}

// TestFeedInParts reads the feed of several jobs, some of whose executions are stored
// as they once were, from everywhere and in parts of any size: it is the same as in one.
func TestFeedInParts(t *testing.T) {
	e := newEnv(t)
	ids := e.fleet(12)
	image := e.image("2", content(10, 1))
	for _, job := range []string{"a", "a-b", "b", "b.c"} {
		e.job(job, image.ID, ids...)
	}
	r := rand.New(rand.NewPCG(3, 5))
	for seq := range 60 {
		x := e.execution("a", ids[r.IntN(len(ids))])
		e.ok(e.Status(ctx, x.Device, status(x, uint64(seq+1), schemas.StateInstalling)))
	}
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		return errors.Join(orchestrator.StoreAsJSON(w, e.execution("a", ids[0]).ID), orchestrator.StoreAsJSON(w, e.execution("b", ids[3]).ID))
	}))
	for _, f := range []orchestrator.FeedFilter{{}, {Job: "a-b"}, {Kinds: []string{orchestrator.KindExecution}}, {Kinds: []string{orchestrator.KindJob}}} {
		all, _, err := orchestrator.FeedFrom(ctx, e.Service, 0, f, 1000)
		e.ok(err)
		for _, most := range []int{1, 2, 3, 7, 50} {
			got, parts, err := orchestrator.FeedFrom(ctx, e.Service, 0, f, most)
			e.ok(err)
			if !slices.Equal(got, all) || most < len(all) && parts < len(all)/most {
				t.Errorf("%+v in %d parts of %d\n%q, want\n%q", f, parts, most, got, all)
			}
		}
		for i, name := range all {
			var rev uint64
			_, err := fmt.Sscanf(name, "%d", &rev)
			e.ok(err)
			rest, _, err := orchestrator.FeedFrom(ctx, e.Service, rev, f, 4)
			e.ok(err)
			if !slices.Equal(rest, all[i+1:]) {
				t.Errorf("%+v after %d\n%q, want\n%q", f, rev, rest, all[i+1:])
			}
		}
	}
}

func TestFeedFilters(t *testing.T) {
	e := newEnv(t)
	e.fleet(3)
	image := e.image("2", content(10, 1))
	e.job("a", image.ID, "d000", "d001")
	e.job("b", image.ID, "d002")
	for _, c := range []struct {
		name   string
		filter orchestrator.FeedFilter
		want   map[string]int
	}{
		{"all", orchestrator.FeedFilter{}, map[string]int{"image_type": 1, "device_type": 1, "image": 1, "device": 3, "job": 2, "execution": 3}},
		{"kinds", orchestrator.FeedFilter{Kinds: []string{"job", "image"}}, map[string]int{"job": 2, "image": 1}},
		{"job", orchestrator.FeedFilter{Job: "a"}, map[string]int{"job": 1, "execution": 2}},
		{"device", orchestrator.FeedFilter{Device: "d001"}, map[string]int{"device": 1, "execution": 1}},
		{"both", orchestrator.FeedFilter{Job: "b", Device: "d001"}, map[string]int{}},
	} {
		feed, err := e.Events(ctx, 0, c.filter, 100, 0)
		e.ok(err)
		got := map[string]int{}
		for _, ev := range feed.Events {
			got[ev.Kind]++
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if last, err := e.LastRev(ctx); err != nil || feed.Rev != last {
			t.Errorf("%s: goes on at %d, the last change is %d (%v)", c.name, feed.Rev, last, err)
		}
	}
	_, err := e.Events(ctx, 0, orchestrator.FeedFilter{Kinds: []string{"nonsense"}}, 10, 0)
	e.wants(err, orchestrator.ErrInvalid, "nonsense", "execution")
	_, err = e.Events(ctx, 1<<40, orchestrator.FeedFilter{}, 10, 0)
	e.wants(err, orchestrator.ErrInvalid, "future")
}

// TestFeedWaits: a change that the filter keeps out wakes nobody for good, one
// that it lets through does at once, and without one the wait has its end.
func TestFeedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.fleet(2)
		since, err := e.LastRev(ctx)
		e.ok(err)
		type answer struct {
			feed orchestrator.Feed
			err  error
			at   time.Duration
		}
		begin := time.Now()
		wait := func(ctx context.Context) <-chan answer {
			ch := make(chan answer, 1)
			go func() {
				feed, err := e.Events(ctx, since, orchestrator.FeedFilter{Device: "d001"}, 10, time.Minute)
				ch <- answer{feed, err, time.Since(begin)}
			}()
			return ch
		}
		first := wait(ctx)
		time.Sleep(10 * time.Second)
		e.ok(e.Presence(ctx, "d000", true))
		time.Sleep(10 * time.Second)
		e.ok(e.Presence(ctx, "d001", true))
		if a := <-first; a.err != nil || len(a.feed.Events) != 1 || a.feed.Events[0].ID != "d001" || a.at != 20*time.Second {
			t.Errorf("%+v", a)
		}
		since, err = e.LastRev(ctx)
		e.ok(err)
		if a := <-wait(ctx); a.err != nil || len(a.feed.Events) != 0 || a.at != 80*time.Second {
			t.Errorf("%+v", a)
		}
		ended, cancel := context.WithCancel(ctx)
		third := wait(ended)
		synctest.Wait()
		cancel()
		if a := <-third; a.err == nil {
			t.Errorf("%+v", a)
		}
	})
}
