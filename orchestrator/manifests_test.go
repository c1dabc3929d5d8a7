package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
	"davit/trust"
)

// signer makes signed images for an env.
type signer struct {
	*env
	keys []trust.PrivateKey
}

// newSigner is an env whose service has two keys of which one has to sign.
func newSigner(t *testing.T, change ...func(*orchestrator.Options)) *signer {
	s := &signer{keys: []trust.PrivateKey{signtest.Key(t), signtest.Key(t)}}
	s.env = newEnv(t, append([]func(*orchestrator.Options){func(o *orchestrator.Options) { o.ImageKeys = signtest.Keys(1, s.keys...) }}, change...)...)
	return s
}

func manifest(s trust.Signed) orchestrator.NewManifest {
	return orchestrator.NewManifest{Manifest: string(s.Text), Signatures: string(s.Signatures)}
}

// sign signs content as a version for device type pump.
func (s *signer) sign(version string, content []byte, change ...func(*trust.Terms)) trust.Signed {
	s.t.Helper()
	terms := signtest.Terms("app", "pump", version, time.Now())
	for _, c := range change {
		c(&terms)
	}
	return signtest.Sign(s.t, content, terms, s.keys[0])
}

// signedImage uploads an image and attaches its manifest.
func (s *signer) signedImage(version string, content []byte, change ...func(*trust.Terms)) (orchestrator.Image, trust.Signed) {
	s.t.Helper()
	signed := s.sign(version, content, change...)
	m := s.image(version, content)
	return must[orchestrator.Image](s.t)(s.AttachManifest(ctx, m.ID, manifest(signed))), signed
}

// requireSignature has device type pump require signatures, or not.
func (e *env) requireSignature(yes bool) {
	e.t.Helper()
	must[orchestrator.DeviceType](e.t)(e.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{RequireSignature: &yes}))
}

// blobSums are the blobs that there are.
func (e *env) blobSums() []string {
	e.t.Helper()
	var sums []string
	e.ok(e.blobs.List(ctx, func(sum string, _ int64) bool {
		sums = append(sums, sum)
		return true
	}))
	return sums
}

func TestManifestIsKeptWithItsImage(t *testing.T) {
	path := t.TempDir() + "/davit.db"
	store := must[*boltstore.Store](t)(boltstore.Open(boltstore.Options{Path: path}))
	defer func() { _ = store.Close() }()
	e := newSigner(t, func(o *orchestrator.Options) { o.Store = store })
	e.fleet(1)
	data := content(5000, 1)
	m, signed := e.signedImage("2", data)
	want := orchestrator.ImageManifest{
		SHA256: m.Manifest.SHA256, Size: uint64(len(signed.Bundle())), Counter: 7, DeviceTypes: []string{"pump"}, BlockSize: trust.MinBlockSize,
		Created: m.Manifest.Created, Expires: m.Manifest.Created.Add(24 * time.Hour),
		SignedBy: []string{e.keys[0].Public().ID.String()}, VerifiedBy: []string{e.keys[0].Public().ID.String()},
	}
	e.restart()
	kept := must[orchestrator.Image](t)(e.Image(ctx, m.ID))
	if kept.Manifest == nil || !slices.Equal(kept.Manifest.VerifiedBy, want.VerifiedBy) || !slices.Equal(kept.Manifest.SignedBy, want.SignedBy) ||
		kept.Manifest.Size != want.Size || kept.Manifest.Counter != 7 || !kept.Manifest.Expires.Equal(want.Expires) || kept.Revision != 2 {
		t.Errorf("manifest %+v, want %+v", kept.Manifest, want)
	}
	if !slices.Contains(e.blobSums(), m.Manifest.SHA256) {
		t.Error("the bundle is not among the blobs")
	}
	e.checkClean()

	// A start sweeps what belongs to nothing, and leaves it alone.
	e.start()
	e.stop()
	e.checkClean()

	// The same one again is no other; a second image of the same content shares it.
	again := must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(signed)))
	if again.Manifest.SHA256 != m.Manifest.SHA256 {
		t.Errorf("attached again as %s", again.Manifest.SHA256)
	}
	twin, err := e.image("2", data), error(nil)
	if twin, err = e.AttachManifest(ctx, twin.ID, manifest(signed)); err != nil || twin.Manifest.SHA256 != m.Manifest.SHA256 {
		t.Fatal(twin.Manifest, err)
	}
	e.ok(e.DeleteImage(ctx, twin.ID))
	if got := e.blobSums(); len(got) != 2 {
		t.Errorf("blobs %v after one of two images was deleted", got)
	}
	// Another one replaces it.
	other := e.sign("2", data, func(terms *trust.Terms) { terms.Counter = 8 })
	replaced := must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(other)))
	if got := e.blobSums(); len(got) != 2 || !slices.Contains(got, replaced.Manifest.SHA256) {
		t.Errorf("blobs %v after the manifest was replaced", got)
	}
	e.checkClean()
	e.ok(e.DeleteImage(ctx, m.ID))
	if got := e.blobSums(); len(got) != 0 {
		t.Errorf("blobs %v after the image was deleted", got)
	}
	e.checkClean()
}

func TestManifestIsRefused(t *testing.T) {
	e := newSigner(t)
	e.fleet(1)
	data := content(5000, 1)
	m := e.image("2", data)
	good := e.sign("2", data)
	wrong := func(change func(*trust.Terms)) trust.Signed { return e.sign("2", data, change) }
	contradictory := trust.Signed{Text: bytes.Replace(good.Text, []byte(`"blocks": "`), []byte(`"blocks": "AAAA`), 1)}
	at := bytes.Index(contradictory.Text, []byte("AAAA"))
	contradictory.Text = append(contradictory.Text[:at+4], contradictory.Text[at+8:]...)
	sig, err := e.keys[0].Sign(contradictory.Text, "x")
	e.ok(err)
	contradictory.Signatures = trust.EncodeSignatures([]trust.Signature{sig})
	broken := bytes.Clone(good.Text)
	broken[10] ^= 1
	cases := []struct {
		name   string
		signed trust.Signed
		field  string
		reason error // nil for one of ours
		says   string
	}{
		{"no signature", trust.Signed{Text: good.Text}, "signatures", trust.ErrUnsigned, "there is no signature"},
		{"no text", trust.Signed{Signatures: good.Signatures}, "signatures", trust.ErrBadSignature, ""},
		{"unknown key", signtest.Sign(t, data, signtest.Terms("app", "pump", "2", time.Now()), signtest.Key(t)), "signatures", trust.ErrUnknownKey, ""},
		{"changed text", trust.Signed{Text: broken, Signatures: good.Signatures}, "signatures", trust.ErrBadSignature, ""},
		{"cut signature", trust.Signed{Text: good.Text, Signatures: good.Signatures[:40]}, "signatures", trust.ErrMalformed, "signature"},
		{"another image", e.sign("2", content(5000, 2)), "manifest", trust.ErrMismatch, "SHA-256"},
		{"another size", e.sign("2", content(5001, 1)), "manifest", trust.ErrMismatch, "5001 bytes"},
		{"another version", e.sign("3", data), "manifest", trust.ErrMismatch, `version "3"`},
		{"another image type", wrong(func(x *trust.Terms) { x.ImageType = "boot" }), "manifest", trust.ErrImageType, "image type boot"},
		{"another device type", wrong(func(x *trust.Terms) { x.DeviceTypes = []string{"fan"} }), "manifest", trust.ErrDeviceType, "device type fan"},
		{"expired", wrong(func(x *trust.Terms) { x.Created, x.Expires = x.Created.AddDate(0, 0, -2), x.Created.AddDate(0, 0, -1) }), "manifest", trust.ErrExpired, "expired"},
		{"of the future", wrong(func(x *trust.Terms) { x.Created, x.Expires = x.Created.AddDate(0, 0, 2), x.Expires.AddDate(0, 0, 3) }), "manifest", trust.ErrNotYetValid, "clock"},
		{"other blocks", contradictory, "manifest", nil, "blocks"},
		{"too long", trust.Signed{Text: make([]byte, trust.MaxManifestSize+1), Signatures: good.Signatures}, "manifest", trust.ErrMalformed, "at most"},
	}
	for _, c := range cases {
		_, err := e.AttachManifest(ctx, m.ID, manifest(c.signed))
		var field *orchestrator.FieldError
		if !errors.Is(err, orchestrator.ErrInvalid) || !errors.As(err, &field) || field.Field != c.field || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.reason != nil && !errors.Is(err, c.reason) {
			t.Errorf("%s: %v, want the reason %v", c.name, err, c.reason)
		}
	}
	_, err = e.AttachManifest(ctx, "img-none", manifest(good))
	e.wants(err, orchestrator.ErrNotFound)
	if got := must[orchestrator.Image](t)(e.Image(ctx, m.ID)); got.Manifest != nil || got.Revision != 1 || len(e.blobSums()) != 1 {
		t.Errorf("something was kept: %+v, blobs %v", got, e.blobSums())
	}
	e.checkClean()
}

// TestEditsKeepTheManifestTrue: an image does not become another than what was signed.
func TestEditsKeepTheManifestTrue(t *testing.T) {
	e := newSigner(t)
	e.fleet(1)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "fan", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	m, _ := e.signedImage("2", content(3000, 1))
	version, types, text := "3", []string{"pump", "fan"}, "what it brings"
	_, err := e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Version: &version})
	e.wants(err, orchestrator.ErrInvalid, "version", `"2"`)
	_, err = e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{DeviceTypes: &types})
	e.wants(err, orchestrator.ErrInvalid, "device_types/0", `"fan"`)
	must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Description: &text}))
	e.checkClean()
}

func TestManifestStaysWhileAJobNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(1)
		data := content(3000, 1)
		m, signed := e.signedImage("2", data)
		e.job("j", m.ID, ids...)
		other := e.sign("2", data, func(terms *trust.Terms) { terms.Counter = 8 })
		_, err := e.AttachManifest(ctx, m.ID, manifest(other))
		e.wants(err, orchestrator.ErrConflict, `job "j"`)
		must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(signed)))
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(other)))
		e.checkClean()
	})
}

func TestOfferNamesTheManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(2)
		m, signed := e.signedImage("2", content(3000, 1))
		plain := e.image("3", content(3000, 2))
		e.start()
		defer func() { e.stop() }()
		e.job("j", m.ID, ids[0])
		e.job("k", plain.ID, ids[1])
		synctest.Wait()
		o, ok := e.broker.offer(ids[0])
		if !ok || o.Manifest != m.Manifest.SHA256 || o.ManifestSize != uint64(len(signed.Bundle())) {
			t.Errorf("offer %+v", o)
		}
		if o, ok := e.broker.offer(ids[1]); !ok || o.Manifest != "" || o.ManifestSize != 0 {
			t.Errorf("offer of an image without a manifest: %+v", o)
		}
	})
}

func TestManifestIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(2)
		r := newReceiver()
		e.broker.onChunk = r.chunk
		data := content(20_000, 1)
		m, signed := e.signedImage("2", data)
		other, _ := e.signedImage("3", content(20_000, 2))
		e.job("j", m.ID, ids[0])
		e.start()
		defer func() { e.stop() }()
		bundle := signed.Bundle()
		size := uint64(len(bundle))
		get := func(image string, from, to uint64) schemas.Fetch {
			return schemas.Fetch{V: 1, Image: image, Tag: 9, Chunk: 512, Follow: true, Ranges: []schemas.Range{{Offset: from, Length: to - from}}}
		}
		// The device goes to and fro between both.
		e.ok(e.ask(ids[0], get(m.Manifest.SHA256, 0, size/2)))
		synctest.Wait()
		e.ok(e.ask(ids[0], get(m.ID, 0, 600)))
		synctest.Wait()
		if got := r.data[ids[0]]; !bytes.Equal(got[:512], data[:512]) {
			t.Error("the image's bytes are others")
		}
		r.data[ids[0]] = nil
		for _, part := range [][2]uint64{{0, size / 2}, {size / 2, size}} {
			e.ok(e.ask(ids[0], get(m.Manifest.SHA256, part[0], part[1])))
			synctest.Wait()
		}
		if !bytes.Equal(r.data[ids[0]], bundle) || !r.last[ids[0]] || r.bad != nil {
			t.Errorf("%d bytes of a manifest of %d, last %v, %v", len(r.data[ids[0]]), size, r.last[ids[0]], r.bad)
		}
		e.wants(e.ask(ids[0], get(m.Manifest.SHA256, 0, size+1)), orchestrator.ErrInvalid, "has ")
		e.wants(e.ask(ids[0], get(other.Manifest.SHA256, 0, 10)), orchestrator.ErrConflict, "no execution under way")
		e.wants(e.ask(ids[1], get(m.Manifest.SHA256, 0, 10)), orchestrator.ErrConflict, "no execution under way")
		e.wants(e.ask(ids[0], get(m.SHA256, 0, 10)), orchestrator.ErrConflict, "no execution under way")
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		e.wants(e.ask(ids[0], get(m.Manifest.SHA256, 0, 10)), orchestrator.ErrConflict, "no execution under way")
	})
}

func TestJobsOfTypesThatRequireSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(2)
		plain := e.image("1", content(2000, 1))
		m, _ := e.signedImage("2", content(2000, 2))
		n := orchestrator.NewJob{Name: "j", Image: plain.ID, Devices: ids, IgnoreValidation: true}
		must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, n)) // no type requires them yet
		e.requireSignature(true)

		refused := func(n orchestrator.NewJob, field string, words ...string) {
			t.Helper()
			for _, try := range []func() error{
				func() error { _, err := e.CreateJob(ctx, n); return err },
				func() error { _, err := e.PreviewJob(ctx, n); return err },
			} {
				err := try()
				e.wants(err, orchestrator.ErrInvalid, append(words, "requires signed images")...)
				var at *orchestrator.FieldError
				if !errors.As(err, &at) || at.Field != field {
					t.Errorf("%v is about %v, want %s", err, at, field)
				}
			}
		}
		refused(n, "image", plain.ID, "type pump", "no signed manifest")
		n.Image = m.ID
		n.Rollout = &orchestrator.Rollout{Waves: []orchestrator.Wave{{Percent: 100}}, Stop: []orchestrator.StopRule{{Count: 1, Action: orchestrator.StopAbort, RollBack: plain.ID}}}
		refused(n, "rollout/stop/0/roll_back", plain.ID)
		last := e.image("3", content(2000, 3), func(n *orchestrator.NewImage) { n.MinVersion = "1" })
		must[orchestrator.Image](t)(e.AttachManifest(ctx, last.ID, manifest(e.sign("3", content(2000, 3)))))
		led := n
		led.Image, led.Rollout, led.IgnoreValidation = last.ID, &orchestrator.Rollout{Via: []string{plain.ID}}, false
		refused(led, "rollout/via/0", plain.ID, "no signed manifest")
		n.Rollout = nil
		must[orchestrator.Job](t)(e.CreateJob(ctx, n))
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))

		// A service with other keys, or without any, does not take its word for it.
		n.Name = "k"
		e.opts.ImageKeys = signtest.Keys(1, signtest.Key(t))
		e.restart()
		refused(n, "image", "which is not trusted here")
		e.opts.ImageKeys = trust.KeySet{}
		e.restart()
		refused(n, "image", "no keys", "--image-keys")
		e.opts.ImageKeys = signtest.Keys(2, e.keys...)
		e.restart()
		refused(n, "image", "2")
		e.opts.ImageKeys = signtest.Keys(1, e.keys...)
		e.restart()
		time.Sleep(25 * time.Hour)
		refused(n, "image", "expired")
		e.requireSignature(false)
		must[orchestrator.Job](t)(e.CreateJob(ctx, n))
		e.checkClean()
	})
}

// TestManifestWithoutKeys: a service without keys keeps manifests; they count for
// nothing until they are attached again.
func TestManifestWithoutKeys(t *testing.T) {
	e := newSigner(t)
	keys := e.opts.ImageKeys
	e.opts.ImageKeys = trust.KeySet{}
	e.restart()
	ids := e.fleet(1)
	m, signed := e.signedImage("2", content(2000, 1))
	if len(m.Manifest.VerifiedBy) != 0 || len(m.Manifest.SignedBy) != 1 {
		t.Errorf("manifest %+v", m.Manifest)
	}
	_, err := e.AttachManifest(ctx, m.ID, manifest(e.sign("3", content(2000, 1))))
	e.wants(err, orchestrator.ErrInvalid, `version "3"`)
	e.requireSignature(true)
	e.opts.ImageKeys = keys
	e.restart()
	_, err = e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids})
	e.wants(err, orchestrator.ErrInvalid, "attach it again")
	must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(signed)))
	must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids}))
	e.checkClean()
}

// TestNothingUnsignedIsOffered: what a job may do when it was created is looked at again
// with every offer.
func TestNothingUnsignedIsOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(4)
		plain := e.image("1", content(2000, 1))
		m, _ := e.signedImage("2", content(2000, 2))
		e.start()
		defer func() { e.stop() }()
		// A draft of before the type required signatures, and one whose manifest expires.
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "old", Image: plain.ID, Devices: ids[:2], IgnoreValidation: true}))
		e.requireSignature(true)
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "late", Image: m.ID, Devices: ids[2:3], IgnoreValidation: true}))
		e.job("early", m.ID, ids[3])
		must[orchestrator.Job](t)(e.StartJob(ctx, "old"))
		synctest.Wait()
		for _, d := range ids[:2] {
			x := e.execution("old", d)
			if x.State != schemas.StateRejected || x.Cause != schemas.CauseSignature || !strings.Contains(x.Detail, "no manifest whose signatures") {
				t.Errorf("unsigned: %+v", x)
			}
		}
		if x := e.execution("early", ids[3]); x.State != schemas.StateOffered {
			t.Errorf("signed: %+v", x)
		}
		time.Sleep(25 * time.Hour)
		must[orchestrator.Job](t)(e.StartJob(ctx, "late"))
		synctest.Wait()
		if x := e.execution("late", ids[2]); x.State != schemas.StateRejected || x.Cause != schemas.CauseSignature || !strings.Contains(x.Detail, "expired at") {
			t.Errorf("expired: %+v", x)
		}
		if x := e.execution("early", ids[3]); x.State != schemas.StateOffered {
			t.Errorf("what stands was taken back: %+v", x)
		}
		if job := must[orchestrator.Job](t)(e.Job(ctx, "late")); job.Causes[schemas.CauseSignature] != 1 {
			t.Errorf("job %+v", job)
		}
		e.checkClean()
	})
}

// TestSignaturesOfLaterDevices: a device that comes to a continuous job later is judged
// by its own type, and what was ended by an expiry can be tried again with a new manifest.
func TestSignaturesOfLaterDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newSigner(t)
		ids := e.fleet(1)
		yes := true
		must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
			ID: "strict", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}, RequireSignature: yes,
		}))
		data := content(2000, 1)
		both := func(terms *trust.Terms) { terms.DeviceTypes = []string{"pump", "strict"} }
		m := e.image("2", data, func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"pump", "strict"} })
		e.start()
		defer func() { e.stop() }()
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{
			Name: "j", Image: m.ID, Query: "true", Start: true, Rollout: &orchestrator.Rollout{Continuous: true},
		}))
		must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "late", Type: "strict"}))
		e.ok(e.Hello(ctx, "late", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "1"}}))
		synctest.Wait()
		if x := e.execution("j", "late"); x.State != schemas.StateRejected || x.Cause != schemas.CauseSignature {
			t.Errorf("a device that came later: %+v", x)
		}
		if x := e.execution("j", ids[0]); x.State != schemas.StateOffered {
			t.Errorf("a device whose type does not care: %+v", x)
		}
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		synctest.Wait()
		must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(e.sign("2", data, both))))
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "k", Image: m.ID, Devices: []string{"late"}}))
		time.Sleep(25 * time.Hour)
		must[orchestrator.Job](t)(e.StartJob(ctx, "k"))
		synctest.Wait()
		if x := e.execution("k", "late"); x.Cause != schemas.CauseSignature {
			t.Errorf("expired: %+v", x)
		}
		renewed := must[orchestrator.Image](t)(e.AttachManifest(ctx, m.ID, manifest(e.sign("2", data, both))))
		must[orchestrator.Job](t)(e.RetryJob(ctx, "k", orchestrator.RetryRequest{}))
		synctest.Wait()
		if x := e.execution("k", "late"); x.State != schemas.StateOffered || x.Attempt != 2 {
			t.Errorf("tried again: %+v", x)
		}
		if o, _ := e.broker.offer("late"); o.Manifest != renewed.Manifest.SHA256 {
			t.Errorf("offer %+v", o)
		}
		e.checkClean()
	})
}

// meanwhile is Blobs in which something happens while a blob is made.
type meanwhile struct {
	orchestrator.Blobs
	happens func()
}

func (m *meanwhile) Create(ctx context.Context) (orchestrator.BlobWriter, error) {
	if m.happens != nil {
		m.happens()
	}
	return m.Blobs.Create(ctx)
}

// TestManifestOfAnImageThatChanges: what was held against the image as it was is not
// attached to what it has become, and leaves nothing behind.
func TestManifestOfAnImageThatChanges(t *testing.T) {
	var blobs *meanwhile
	e := newSigner(t, func(o *orchestrator.Options) {
		blobs = &meanwhile{Blobs: o.Blobs}
		o.Blobs = blobs
	})
	e.fleet(1)
	data := content(2000, 1)
	m := e.image("2", data)
	for _, c := range []struct {
		kind    error
		happens func()
	}{
		{orchestrator.ErrStale, func() {
			version := "3"
			must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Version: &version}))
		}},
		{orchestrator.ErrNotFound, func() { e.ok(e.DeleteImage(ctx, m.ID)) }},
	} {
		signed := manifest(e.sign(must[orchestrator.Image](t)(e.Image(ctx, m.ID)).Version, data))
		blobs.happens = c.happens
		_, err := e.AttachManifest(ctx, m.ID, signed)
		e.wants(err, c.kind)
		blobs.happens = nil
		e.checkClean()
	}
	if got := e.blobSums(); len(got) != 0 {
		t.Errorf("blobs %v are left", got)
	}
}

// TestManifestsAreNotShared: devices that follow the shared stream of their image are
// each sent the manifest alone, and then the image together.
func TestManifestsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const devices = 5
		c := &audience{fairness: &fairness{t: t, body: content(40_000, 3)}}
		e := newSigner(t, func(o *orchestrator.Options) { o.Multicaster = c })
		c.env = e.env
		ids := e.fleet(devices)
		m, signed := e.signedImage("2", c.body)
		e.job("j", m.ID, ids...)
		e.start()
		defer func() { e.stop() }()
		fetchAll := func(id string, body []byte) (sent int) {
			var mu sync.Mutex
			for _, d := range ids {
				s := newSession(body, fairBuffer, -1)
				defer func() {
					s.close()
					if s.wrong > 0 {
						t.Errorf("%d chunks of %s are wrong", s.wrong, id)
					}
				}()
				s.received = func(x schemas.Chunk) {
					mu.Lock()
					defer mu.Unlock()
					sent += x.Length
				}
				f := schemas.Fetch{V: 1, Image: id, Tag: 3, Chunk: 4096, Follow: true, Ranges: []schemas.Range{{Length: uint64(len(body))}}}
				e.ok(e.askOver(d, f, s))
			}
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			return sent
		}
		bundle := signed.Bundle()
		if sent := fetchAll(m.Manifest.SHA256, bundle); sent != devices*len(bundle) || c.calls != 0 {
			t.Errorf("%d bytes of manifests, want %d, in %d multicasts", sent, devices*len(bundle), c.calls)
		}
		if fetchAll(m.ID, c.body); c.calls == 0 {
			t.Error("the image was not shared, so nothing is proved")
		}
	})
}
