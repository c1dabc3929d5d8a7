package orchestrator_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/schemas"
	"davit/trust"
)

// TestRevokedSignerIsOfferedNoMore: a key list that revokes who signed an image ends its
// offers to types that require signatures: those to come, and those that nobody has accepted
// with the device's next word. Devices that work on it go on, and so does what other keys signed.
func TestRevokedSignerIsOfferedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, other := signtest.Key(t), signtest.Key(t)
		e := newSigner(t)
		list := signtest.List(1, root, e.keys[0], e.keys[1])
		e.opts.ImageKeys, e.opts.KeyRing = trust.KeySet{}, signtest.Ring(t, list, root)
		e.restart()
		ids := e.fleet(4)
		e.requireSignature(true)
		m, signed := e.signedImage("2", content(2000, 2))
		n := e.image("3", content(2000, 3))
		terms := signtest.Terms("app", "pump", "3", time.Now())
		must[orchestrator.Image](t)(e.AttachManifest(ctx, n.ID, manifest(signtest.Sign(t, content(2000, 3), terms, e.keys[1]))))
		e.start()
		defer func() { e.stop() }()
		e.job("offered", m.ID, ids[0])
		e.job("accepted", m.ID, ids[1])
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "draft", Image: m.ID, Devices: ids[2:3]}))
		e.job("others", n.ID, ids[3])
		synctest.Wait()
		x := e.execution("accepted", ids[1])
		e.ok(e.Status(ctx, ids[1], schemas.Status{V: 1, Execution: x.ID, Attempt: x.Attempt, Seq: 1, State: schemas.StateAccepted}))

		next := signtest.List(2, root, e.keys[1], other)
		next.Revoked = []trust.PublicKey{e.keys[0].Public()}
		e.ok(e.SetKeys(trust.KeySet{}, signtest.Ring(t, next, root)))
		if e.SetKeys(trust.KeySet{}, nil) == nil {
			t.Error("all keys were taken away")
		}
		must[orchestrator.Job](t)(e.StartJob(ctx, "draft"))
		for _, d := range ids {
			e.ok(e.Hello(ctx, d, schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "1"}}))
		}
		synctest.Wait()
		for _, c := range []struct {
			job, device string
			state       schemas.State
		}{
			{"offered", ids[0], schemas.StateRejected}, {"accepted", ids[1], schemas.StateAccepted},
			{"draft", ids[2], schemas.StateRejected}, {"others", ids[3], schemas.StateOffered},
		} {
			x := e.execution(c.job, c.device)
			if x.State != c.state || c.state == schemas.StateRejected && (x.Cause != schemas.CauseSignature || !strings.Contains(x.Detail, "revoked key")) {
				t.Errorf("%s: %+v", c.job, x)
			}
		}
		if _, ok := e.broker.offer(ids[0]); ok {
			t.Error("the offer stands")
		}
		_, err := e.CreateJob(ctx, orchestrator.NewJob{Name: "new", Image: m.ID, Devices: ids[:1]})
		e.wants(err, orchestrator.ErrInvalid, "has been revoked")
		_, err = e.AttachManifest(ctx, m.ID, manifest(signed))
		e.wants(err, orchestrator.ErrInvalid, "has been revoked")
		// Where signatures are not required the image is offered as ever.
		e.requireSignature(false)
		must[orchestrator.Job](t)(e.RetryJob(ctx, "offered", orchestrator.RetryRequest{}))
		synctest.Wait()
		if x := e.execution("offered", ids[0]); x.State != schemas.StateOffered {
			t.Errorf("without required signatures: %+v", x)
		}
		e.checkClean()
	})
}

// TestKeyTakenOut: a key that is only not named any more revokes nothing: what it signed before is
// offered, and new jobs are by the new keys.
func TestKeyTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(2)
		e.requireSignature(true)
		m, _ := e.signedImage("2", content(2000, 2))
		e.start()
		defer func() { e.stop() }()
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "draft", Image: m.ID, Devices: ids[:1]}))
		e.ok(e.SetKeys(signtest.Keys(1, e.keys[1]), nil))
		must[orchestrator.Job](t)(e.StartJob(ctx, "draft"))
		synctest.Wait()
		if x := e.execution("draft", ids[0]); x.State != schemas.StateOffered {
			t.Errorf("%+v", x)
		}
		_, err := e.CreateJob(ctx, orchestrator.NewJob{Name: "new", Image: m.ID, Devices: ids[1:]})
		e.wants(err, orchestrator.ErrInvalid, "not trusted here")
		if e.SetKeys(trust.KeySet{Keys: signtest.Keys(1, e.keys[1]).Keys, Threshold: 2}, nil) == nil {
			t.Error("a threshold that cannot be reached is in force")
		}
	})
}
