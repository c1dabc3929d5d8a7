package bridge

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/spool"
	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/schemas"
	"davit/trust"
)

// Trust says whose images the bridge lets through to its host MCUs. The zero
// value verifies no signature.
type Trust struct {
	// Keys are the pinned image keys, of which Keys.Threshold have to have signed an
	// image's manifest; no keys verify nothing. With keys, every port has to say its device's type.
	Keys trust.KeySet
	// Ring is the key list in force, in the place of Keys.
	Ring *trust.KeyRing
	// Optional lets an offer pass that names no manifest. One that does is verified all
	// the same.
	Optional bool
}

func (t Trust) on() bool { return len(t.Keys.Keys) > 0 || t.Ring != nil }

// check refuses what could decide nothing.
func (t Trust) check(ports []PortConfig) error {
	if !t.on() {
		return nil
	}
	if t.Ring == nil {
		if err := t.Keys.Validate(); err != nil {
			return fmt.Errorf("image keys: %w", err)
		}
	} else if len(t.Keys.Keys) > 0 {
		return errors.New("there are image keys and a key list; decide for one of them")
	}
	for _, p := range ports {
		if p.DeviceType == "" {
			return fmt.Errorf("device %s: its port does not say the device's type, without which no signed image can be checked; add device-type=TYPE to the port", p.Device)
		}
	}
	return nil
}

// follows refuses what may not take the place of old while a bridge runs.
func (t Trust) follows(old Trust) error {
	switch {
	case !t.on() && old.on():
		return errKeysGone
	case t.Ring != nil && old.Ring != nil && t.Ring.Version() < old.Ring.Version():
		return fmt.Errorf("the key list has version %d, and version %d is in force; only a newer one takes its place", t.Ring.Version(), old.Ring.Version())
	}
	return nil
}

// acceptList remembers on disk that the key list is in force, before it is, or refuses it
// because a newer one was: also over restarts.
func (b *Bridge) acceptList(t Trust) error {
	err := b.lists.Accept(t.Ring)
	if durable.IsNoSpace(err) && b.spool.Spare() {
		err = b.lists.Accept(t.Ring)
	}
	return err
}

// errKeysGone is Reconfigure's answer to a configuration that would end all verification.
var errKeysGone = errors.New("the configuration has no image keys any more, so that unsigned images would be let through; start the bridge anew if that is meant")

// largestBundle is the longest manifest with its signatures that is fetched.
const largestBundle = trust.MaxManifestSize + trust.MaxSignaturesSize

// trusting is whom the bridge trusts now.
func (b *Bridge) trusting() Trust {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.trust
}

// papers are an execution's manifest while it is fetched.
type papers struct {
	image  *spool.Image
	dl     *download
	member *member
}

func (p *papers) letGo() {
	if p.dl != nil {
		p.dl.leave(p.member)
	}
	_ = p.image.Release() // what it could not sync is fetched again
}

// vouch calls then once the image's manifest has been verified in this attempt, or at
// once if nothing is to be verified. If it is refused, the execution ends, and then is
// not called. Nothing of an execution goes to the line before, but for one whose MCU was told
// to boot by an earlier run: that one is watched only.
func (d *device) vouch(then func()) {
	ex, t := d.ex, d.b.trusting()
	switch {
	case ex.papers != nil:
		return // under way
	case ex.vouched || !t.on() || ex.offer.Manifest == "" && t.Optional:
		ex.vouched = true
		then()
	case ex.offer.Manifest == "":
		d.refuseImage(&trust.Refusal{Reason: trust.ErrUnsigned, Text: "the offer names no signed manifest, and this bridge takes signed images only; sign the image and upload it with its signature"})
	case ex.offer.ManifestSize > largestBundle:
		d.refuseImage(&trust.Refusal{Reason: trust.ErrMalformed, Text: fmt.Sprintf("the manifest has %d bytes with its signatures, at most %d are allowed", ex.offer.ManifestSize, largestBundle)})
	default:
		d.fetchManifest(then)
	}
}

// fetchManifest brings the manifest to the spool as an image, or finds it there.
func (d *device) fetchManifest(then func()) {
	ex := d.ex
	img, err := d.b.spool.Acquire(ex.offer.Manifest, ex.offer.ManifestSize)
	if err != nil {
		d.finish(failure(err))
		return
	}
	ex.papers = &papers{image: img}
	ex.papers.member = &member{device: d.id, image: ex.offer.Manifest, chunk: d.largestChunk()}
	ex.papers.member.done = func(err error) {
		d.do(func() {
			if d.ex == ex {
				d.manifestFetched(err, then)
			}
		})
	}
	if ex.papers.dl, err = d.b.downloads.join(ex.offer.Manifest, ex.offer.ManifestSize, ex.papers.member); err != nil {
		d.finish(failure(err))
		return
	}
	d.route(ex.papers.dl)
}

// manifestFetched verifies the manifest and goes on, or ends the execution.
func (d *device) manifestFetched(err error, then func()) {
	ex := d.ex
	d.route(nil)
	ex.papers.dl = nil
	if err != nil {
		r := failure(err)
		r.Detail = "The signed manifest: " + r.Detail
		d.finish(r)
		return
	}
	b := make([]byte, ex.offer.ManifestSize)
	_, err = ex.papers.image.ReadAt(b, 0)
	ex.papers.letGo()
	ex.papers = nil
	if err != nil {
		d.finish(failure(err))
		return
	}
	signed, err := d.verify(trust.ParseBundle(b))
	if err != nil {
		d.refuseImage(err)
		return
	}
	m := signed.Manifest()
	d.log.Info("manifest verified", "event", logevent.ManifestVerified, "execution", ex.offer.Execution, "manifest", signed.Digest(), "signed_by", fmt.Sprint(keyIDs(signed)), "counter", m.Counter, "expires", m.Expires)
	d.b.metrics.manifest(manifestAccepted)
	ex.signed, ex.vouched = signed, true
	d.rec.Open.Counter = &m.Counter
	if err := d.save(); err != nil {
		d.finish(failure(err))
		return
	}
	then()
}

func keyIDs(v *trust.Verified) []trust.KeyID {
	var ids []trust.KeyID
	for _, k := range v.SignedBy() {
		ids = append(ids, k.ID)
	}
	return ids
}

// verify holds a signed manifest against the offer, the device and what it has run.
func (d *device) verify(s trust.Signed) (*trust.Verified, error) {
	o := d.ex.offer
	counter, err := d.counter(o.ImageType)
	if err != nil {
		return nil, err
	}
	t := d.b.trusting()
	return trust.Policy{
		Pinned: t.Keys, Ring: t.Ring, DeviceType: d.port.DeviceType, Counter: counter, Now: time.Now(),
		Offered: trust.Offered{ImageType: o.ImageType, Version: o.Version, Size: o.Size, SHA256: o.SHA256},
	}.Check(s)
}

// refuseImage ends an execution whose image may not reach the MCU. No offer's Force
// changes that.
func (d *device) refuseImage(err error) {
	reason := manifestCounter
	var r *trust.Refusal
	if errors.As(err, &r) {
		reason = string(r.Reason)
	}
	d.b.metrics.manifest(reason)
	d.log.Warn("the image is refused", "event", logevent.ImageRefused, "execution", d.ex.offer.Execution, "reason", reason, "error", err)
	d.finish(dialect.Result{State: schemas.StateRejected, Cause: schemas.CauseSignature, Detail: "The bridge refused the image: " + err.Error() + "."})
}

// leadBytes is how much of a signed image has to be there, block by block verified,
// before the MCU leg begins: some seconds of a serial line, so that a moment without
// the network is not one without data for the MCU.
const leadBytes = 64 << 10

// source is the image as a session reads it: it is there once ready is closed. Of a
// signed image every block is checked once more as it leaves the disk.
type source struct {
	image  atomic.Pointer[spool.Image]
	signed *trust.Verified // set before image is

	mu    sync.Mutex // guards what follows
	block []byte     // the block that was read last
	index int        // its number, -1 for none
}

// open lets sessions read img; signed is nil for an image that is verified as a whole.
func (s *source) open(img *spool.Image, signed *trust.Verified) {
	if s.image.Load() != nil {
		return
	}
	s.signed, s.index = signed, -1
	s.image.Store(img)
}

// arrives returns nil if the bytes can be read, or a channel that is closed when it
// is worth asking again.
func (s *source) arrives(offset, length uint64) <-chan struct{} {
	img := s.image.Load()
	if img == nil {
		return nil // nobody reads before ready is closed
	}
	return img.Await(schemas.Range{Offset: offset, Length: length})
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(b []byte, offset int64) (int, error) {
	img := s.image.Load()
	if img == nil {
		return 0, errors.New("the image is not there")
	}
	if s.signed == nil {
		return img.ReadAt(b, offset)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(b) {
		at := uint64(offset) + uint64(n)
		i := s.signed.Index(at)
		if i < 0 {
			return n, io.EOF
		}
		if err := s.load(img, i); err != nil {
			return n, err
		}
		n += copy(b[n:], s.block[at-s.signed.Range(i).Offset:])
	}
	return n, nil
}

// load reads a block and checks it, unless it was the last one read; mu is held.
func (s *source) load(img *spool.Image, index int) error {
	if index == s.index {
		return nil
	}
	r := s.signed.Range(index)
	if uint64(cap(s.block)) < r.Length {
		s.block = make([]byte, s.signed.Range(0).Length)
	}
	s.block, s.index = s.block[:r.Length], -1
	if _, err := img.ReadAt(s.block, int64(r.Offset)); err != nil {
		return err
	}
	if err := s.signed.Check(index, s.block); err != nil {
		return fmt.Errorf("what is on the bridge's disk has changed since it was verified: %w", err)
	}
	s.index = index
	return nil
}
