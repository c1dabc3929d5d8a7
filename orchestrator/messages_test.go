package orchestrator_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

func TestStatusThatChangesNothingIsAcknowledged(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(2)
	m := e.image("2", content(1000, 1))
	e.job("j", m.ID, "d000")
	x := e.execution("j", "d000")
	e.ok(e.Status(ctx, "d000", status(x, 5, schemas.StateInstalling)))
	before := e.execution("j", "d000")
	foreign, unknown, retry := status(x, 9, schemas.StateSucceeded), status(x, 9, schemas.StateSucceeded), status(x, 9, schemas.StateSucceeded)
	unknown.Execution, retry.Attempt = "ex-none", 2
	for _, c := range []struct {
		name, device string
		s            schemas.Status
		want         schemas.State
		superseded   bool
	}{
		{"repeated", "d000", status(x, 5, schemas.StateInstalling), schemas.StateInstalling, false},
		{"late", "d000", status(x, 2, schemas.StateDownloading), schemas.StateInstalling, false},
		{"older bytes", "d000", status(x, 4, schemas.StateInstalling), schemas.StateInstalling, false},
		{"another attempt", "d000", retry, schemas.StateInstalling, true},
		{"unknown execution", "d000", unknown, schemas.StateCanceled, true},
		{"another device's execution", "d001", foreign, schemas.StateCanceled, true},
		{"unknown device", "nobody", foreign, schemas.StateCanceled, true},
	} {
		e.ok(e.Status(ctx, c.device, c.s))
		a, _ := e.broker.lastAck(c.device)
		if a.State != c.want || a.Superseded != c.superseded || a.Seq != c.s.Seq || a.Execution != c.s.Execution || a.Attempt != c.s.Attempt {
			t.Errorf("%s: ack %+v", c.name, a)
		}
		if now := e.execution("j", "d000"); !reflect.DeepEqual(now, before) {
			t.Errorf("%s: the execution changed to %+v", c.name, now)
		}
	}
	bad := status(x, 6, schemas.StateSucceeded)
	bad.HostVersion = ""
	e.wants(e.Status(ctx, "d000", bad), orchestrator.ErrInvalid, "host_version")
	e.wants(e.Hello(ctx, "nobody", schemas.Hello{V: 1}), orchestrator.ErrNotFound)
	e.wants(e.Presence(ctx, "nobody", true), orchestrator.ErrNotFound)
	e.wants(e.Hello(ctx, "d000", schemas.Hello{V: 2}), orchestrator.ErrInvalid)
}

// TestAckFailure lets the broker fail: the report is recorded, the
// caller hears of the missing ack, and the repetition is acknowledged.
func TestAckFailure(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	e.job("j", e.image("2", content(10, 1)).ID, "d000")
	x := e.execution("j", "d000")
	down := errors.New("broker is down")
	e.broker.setFail(down)
	e.wants(e.Status(ctx, "d000", status(x, 1, schemas.StateAccepted)), down, "it is recorded")
	e.broker.setFail(nil)
	e.ok(e.Status(ctx, "d000", status(x, 1, schemas.StateAccepted)))
	if a, n := e.broker.lastAck("d000"); n != 1 || a.State != schemas.StateAccepted {
		t.Errorf("%d acks, the last %+v", n, a)
	}
}

func TestOffersAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		ids := e.fleet(20)
		e.start()
		defer func() { e.stop() }()
		e.broker.setFail(errors.New("broker is down"))
		e.job("j", e.image("2", content(10, 1)).ID, ids...)
		time.Sleep(time.Minute)
		if n := len(e.broker.retained()); n != 0 {
			t.Fatalf("%d offers on a broker that is down", n)
		}
		e.broker.setFail(nil)
		time.Sleep(10 * time.Second)
		if n := len(e.broker.retained()); n != 20 {
			t.Errorf("%d offers after the broker came back, want 20", n)
		}
		// A broker that forgot its retained messages gets them again.
		for _, id := range ids {
			e.ok(e.broker.Withdraw(ctx, id))
		}
		e.ok(e.Republish(ctx))
		synctest.Wait()
		if n := len(e.broker.retained()); n != 20 {
			t.Errorf("%d offers after republishing, want 20", n)
		}
	})
}

// What the broker retains of a deleted device is cleared, if not at once then
// after the next start.
func TestDeletedDeviceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		e.fleet(2)
		e.ok(e.DeleteDevice(ctx, "d000")) // nobody publishes yet
		e.restart()
		e.start()
		synctest.Wait()
		e.ok(e.DeleteDevice(ctx, "d001"))
		synctest.Wait()
		e.stop()
		e.restart()
		e.start()
		synctest.Wait()
		e.stop()
		if got := e.broker.forgotten; !slices.Equal(got, []string{"d000", "d001"}) {
			t.Errorf("forgotten: %v, want each device once", got)
		}
	})
}

// A device may be deleted while the withdrawal of its last offer is under way.
func TestDeviceIsForgottenIfDeletedDuringAWithdrawal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(1)
		e.job("j", e.image("2", content(10, 1)).ID, ids...)
		deletion := sync.OnceFunc(func() { e.ok(e.DeleteDevice(ctx, "d000")) })
		e.broker.onWithdraw = func(string) { deletion() }
		e.start()
		defer func() { e.stop() }()
		synctest.Wait()
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		synctest.Wait()
		if got := e.broker.forgotten; !slices.Equal(got, ids) {
			t.Errorf("forgotten: %v, want %v", got, ids)
		}
	})
}

func TestPresence(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(2)
	e.ok(e.Presence(ctx, "d000", true))
	e.ok(e.Presence(ctx, "d000", true))
	if d := must[orchestrator.Device](t)(e.Device(ctx, "d000")); !d.Online || d.LastSeen.IsZero() {
		t.Errorf("device %+v", d)
	}
	e.restart()
	e.start()
	defer func() { e.stop() }()
	if d := must[orchestrator.Device](t)(e.Device(ctx, "d000")); d.Online {
		t.Error("a device is online after a restart before it has said so")
	}
}

func boltAt(t testing.TB, path string, change ...func(*boltstore.Options)) func(*orchestrator.Options) {
	return func(o *orchestrator.Options) {
		bo := boltstore.Options{Path: path}
		for _, c := range change {
			c(&bo)
		}
		s, err := boltstore.Open(bo)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Store = s
	}
}

// TestManyDevicesReportAtOnce drives a job on the real store to its end, all
// devices at a time, every report sent twice at once.
func TestManyDevicesReportAtOnce(t *testing.T) {
	e := newEnv(t, boltAt(t, filepath.Join(t.TempDir(), "store.db")))
	ids := e.fleet(300)
	e.start()
	defer func() { e.stop() }()
	e.job("j", e.image("2", content(1000, 1)).ID, ids...)
	executions := map[string]orchestrator.Execution{}
	list, _, err := e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	e.ok(err)
	for _, x := range list {
		executions[x.Device] = x
	}
	var wg sync.WaitGroup
	for i, id := range ids {
		final := schemas.StateSucceeded
		if i%3 == 0 {
			final = schemas.StateFailed
		}
		for range 2 {
			wg.Go(func() {
				for seq, s := range []schemas.State{schemas.StateAccepted, schemas.StateDownloading, schemas.StateInstalling, final} {
					if err := e.Status(ctx, id, status(executions[id], uint64(seq+1), s)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	j := must[orchestrator.Job](t)(e.Job(ctx, "j"))
	if j.State != orchestrator.JobCompleted || j.Counts[schemas.StateSucceeded] != 200 || j.Counts[schemas.StateFailed] != 100 {
		t.Errorf("job ended as %s, %v", j.State, j.Counts)
	}
	for _, id := range ids {
		if _, n := e.broker.lastAck(id); n != 8 {
			t.Fatalf("%s got %d acks for 8 reports", id, n)
		}
	}
	e.checkClean()
}

func TestHelloOfAnotherType(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	e.ok(e.Hello(ctx, "d000", schemas.Hello{V: 1, DeviceType: "valve", Module: "m 1.2", Dialect: "ayla"}))
	d := must[orchestrator.Device](t)(e.Device(ctx, "d000"))
	if d.Type != "pump" || d.Module != "m 1.2" || d.Dialect != "ayla" || d.LastSeen.IsZero() {
		t.Errorf("device %+v", d)
	}
	if got := fmt.Sprint(d.Versions); got != "map[]" {
		t.Errorf("versions %s", got)
	}
}

// A version that the module cannot vouch for any more is still shown, and is no
// proof: the image is offered.
func TestUnconfirmedVersionIsShownAndDecidesNothing(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	says := func(version string) orchestrator.Device {
		t.Helper()
		e.ok(e.Hello(ctx, "d000", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": version}}))
		return must[orchestrator.Device](t)(e.Device(ctx, "d000"))
	}
	if d := says("2.0"); d.Versions["app"] != "2.0" || len(d.Unconfirmed) != 0 {
		t.Errorf("after a report: %+v", d)
	}
	if d := says(""); d.Versions["app"] != "2.0" || !slices.Equal(d.Unconfirmed, []string{"app"}) {
		t.Errorf("after it became unknown: %+v", d)
	}
	if j := e.job("j", e.image("2.0", content(500, 1)).ID, "d000"); j.Counts[schemas.StateOffered] != 1 {
		t.Errorf("an unconfirmed version was taken as proof: %+v", j)
	}
	if d := says("2.0"); d.Versions["app"] != "2.0" || len(d.Unconfirmed) != 0 {
		t.Errorf("after the next report: %+v", d)
	}
	if x := e.execution("j", "d000"); x.State != schemas.StateSucceeded {
		t.Errorf("the report ended the execution as %s", x.State)
	}
}
