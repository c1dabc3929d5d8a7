package orchestrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
	"davit/trust"
)

// A bundle has to fit what devices fetch.
var _ [schemas.MaxManifestSize - trust.MaxManifestSize - trust.MaxSignaturesSize]byte

// AttachManifest gives an image its signed manifest: the text has to be about this
// image, block by block, for all of its device types and not expired, and the
// signatures have to be enough by the service's keys, if it has some. A manifest may
// be replaced, but for one with the same signatures not while a job that has not ended
// uses the image: ErrConflict. ErrInvalid names the field, manifest or signatures, and
// the reason.
func (s *Service) AttachManifest(ctx context.Context, id string, n NewManifest) (Image, error) {
	image, err := s.Image(ctx, id)
	if err != nil {
		return Image{}, err
	}
	signed := trust.Signed{Text: []byte(n.Manifest), Signatures: []byte(n.Signatures)}
	facts, err := s.checkManifest(ctx, &image, signed)
	if err != nil {
		return Image{}, err
	}
	var rec Image
	var replaced []string
	err = s.keepBytes(ctx, signed.Bundle(), func(sum string) error {
		facts.SHA256 = sum
		_, err := s.commit(ctx, func(t *txn) (err error) {
			rec, replaced, err = t.attach(&image, facts)
			return err
		})
		return err
	})
	if err != nil {
		return Image{}, err
	}
	s.drop(ctx, replaced)
	s.log.Info("manifest attached", "event", logevent.ManifestAttached, slog.String("image", id), slog.String("sha256", facts.SHA256), slog.Uint64("counter", facts.Counter),
		slog.Any("signed_by", facts.SignedBy), slog.Any("verified_by", facts.VerifiedBy))
	return rec, nil
}

// CheckManifest says whether AttachManifest would take a manifest for an image that is not
// there yet, but would be made of an upload in this way. Nothing is written.
func (s *Service) CheckManifest(ctx context.Context, upload string, in NewImage, n NewManifest) error {
	if err := in.validate(); err != nil {
		return err
	}
	var image Image
	err := s.store.View(ctx, func(r Reader) error {
		u, err := needUpload(r, upload, s.now())
		if err == nil {
			image = u.image(in)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.checkManifest(ctx, &image, trust.Signed{Text: []byte(n.Manifest), Signatures: []byte(n.Signatures)})
	return err
}

// attach writes the manifest to the image's record, which has to be as it was when the
// manifest was held against it, and returns the blob that it replaces, if any.
func (t *txn) attach(checked *Image, facts *ImageManifest) (rec Image, replaced []string, err error) {
	old, err := need[Image](t, "image", checked.ID)
	if err != nil {
		return rec, nil, err
	}
	if old.Revision != checked.Revision {
		return rec, nil, fmt.Errorf("image %q: %w: it was edited while its manifest was looked at; try again", old.ID, ErrStale)
	}
	if old.Manifest == nil || old.Manifest.SHA256 != facts.SHA256 {
		job, err := openJob(t, old.ID)
		if err != nil {
			return rec, nil, err
		}
		if job != "" {
			return rec, nil, fmt.Errorf("image %q: %w: its manifest stays as it is while job %q has not ended, as devices may be fetching it; wait for the job or cancel it", old.ID, ErrConflict, job)
		}
		if old.Manifest != nil {
			replaced = []string{old.Manifest.SHA256}
		}
	}
	rec = *old
	rec.Manifest = facts
	rec.Revision++
	if err := put(t, old, &rec); err != nil {
		return rec, nil, err
	}
	return rec, replaced, t.audit("sign", KindImage, rec.ID, old, &rec)
}

// checkManifest holds a signed manifest against an image and the service's keys. The
// facts that it returns are without SHA-256.
func (s *Service) checkManifest(ctx context.Context, image *Image, signed trust.Signed) (*ImageManifest, error) {
	signatures, err := trust.ParseSignatures(signed.Signatures)
	if err != nil {
		return nil, invalidField("signatures", "%w", err)
	}
	by, err := s.verify(image, image.DeviceTypes, signed)
	if err != nil {
		return nil, manifestField(err)
	}
	m, err := trust.DecodeManifest(signed.Text)
	if err != nil {
		return nil, manifestField(err)
	}
	for _, deviceType := range image.DeviceTypes {
		if err := m.Admit(deviceType, image.offered(), s.now()); err != nil {
			return nil, manifestField(err)
		}
	}
	if err := s.checkBlocks(ctx, image, m, signed.Text); err != nil {
		return nil, err
	}
	facts := &ImageManifest{
		Size: uint64(len(signed.Text) + len(signed.Signatures)), Counter: m.Counter, DeviceTypes: m.DeviceTypes, BlockSize: m.BlockSize,
		Created: m.Created, Expires: m.Expires, VerifiedBy: by,
	}
	for _, signature := range signatures {
		facts.SignedBy = append(facts.SignedBy, signature.KeyID.String())
	}
	return facts, nil
}

// manifestField names the field that a refusal of a manifest is about.
func manifestField(err error) error {
	field := "manifest"
	for _, reason := range []trust.Reason{
		trust.ErrUnsigned, trust.ErrUnknownKey, trust.ErrKeyScope, trust.ErrRevokedKey, trust.ErrBadSignature, trust.ErrThreshold, trust.ErrKeyListExpired,
	} {
		if errors.Is(err, reason) {
			field = "signatures"
		}
	}
	return invalidField(field, "%w", err)
}

// verify returns the ids of the service's keys that signed a manifest for each of the
// device types; none if the service has no keys.
func (s *Service) verify(image *Image, deviceTypes []string, signed trust.Signed) ([]string, error) {
	v := s.verifier.Load()
	if !v.on() {
		return nil, nil
	}
	policy := trust.Policy{Pinned: v.keys, Ring: v.ring, Offered: image.offered(), Now: s.now()}
	var by []string
	for _, policy.DeviceType = range deviceTypes {
		verified, err := policy.Check(signed)
		if err != nil {
			return nil, err
		}
		for _, key := range verified.SignedBy() {
			by = append(by, key.ID.String())
		}
	}
	slices.Sort(by)
	return slices.Compact(by), nil
}

// checkBlocks makes the image's manifest anew, with the terms of the one that was
// signed: they have one text, so they are the same exactly if all blocks are.
func (s *Service) checkBlocks(ctx context.Context, image *Image, m *trust.Manifest, text []byte) error {
	b, err := s.blobs.Open(ctx, image.SHA256)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	own, err := trust.Build(io.NewSectionReader(readerAt{ctx, b}, 0, b.Size()), m.Terms)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	again, err := own.Encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		return invalidField("manifest", "the blocks that it lists are not those of the image, although size and SHA-256 are; sign the image anew")
	}
	return nil
}

// keepBytes puts bytes among the blobs and calls keep, which writes the record that
// refers to them; without one they are removed again.
func (s *Service) keepBytes(ctx context.Context, data []byte, keep func(sum string) error) error {
	blob, err := s.blobs.Create(ctx)
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	defer blob.Abort()
	if _, err := blob.Write(data); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	sum, _, err := s.pin(blob)
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return errors.Join(keep(sum), s.unpin(context.WithoutCancel(ctx), sum))
}

// signed reads the manifest that an image has.
func (s *Service) signed(ctx context.Context, image *Image) (trust.Signed, error) {
	b, err := s.blobs.Open(ctx, image.Manifest.SHA256)
	if err != nil {
		return trust.Signed{}, fmt.Errorf("read the manifest of image %q: %w", image.ID, err)
	}
	bundle, err := io.ReadAll(io.NewSectionReader(readerAt{ctx, b}, 0, b.Size()))
	if err = errors.Join(err, b.Close()); err != nil {
		return trust.Signed{}, fmt.Errorf("read the manifest of image %q: %w", image.ID, err)
	}
	return trust.ParseBundle(bundle), nil
}

// checkSigned refuses a job with an image that may not go to one of its device types,
// because they require signatures. All signatures are verified anew, with the keys that
// the service has now.
func (s *Service) checkSigned(ctx context.Context, r Reader, n NewJob, list []target) error {
	var strict []string
	seen := map[string]bool{}
	for _, t := range list {
		if seen[t.deviceType] {
			continue
		}
		seen[t.deviceType] = true
		dt, err := needField[DeviceType](r, "devices", "device type", t.deviceType)
		if err != nil {
			return err
		}
		if dt.RequireSignature {
			strict = append(strict, t.deviceType)
		}
	}
	if len(strict) == 0 {
		return nil
	}
	slices.Sort(strict)
	for _, place := range n.images() {
		image, err := needField[Image](r, place.field, "image", place.id)
		if err != nil {
			return err
		}
		if why := s.unsigned(ctx, image, strict); why != nil {
			return invalidField(place.field, "image %q may not go to devices of type %s, which requires signed images: %w", place.id, strings.Join(strict, ", "), why)
		}
	}
	return nil
}

// imagePlace is an image that a job names, and the field that does.
type imagePlace struct{ field, id string }

// images are all that the job may deploy.
func (n *NewJob) images() []imagePlace {
	all := []imagePlace{{"image", n.Image}}
	if r := n.Rollout; r != nil {
		for i, id := range r.Via {
			all = append(all, imagePlace{element("rollout/via", i), id})
		}
		for i := range r.Stop {
			if r.Stop[i].RollBack != "" {
				all = append(all, imagePlace{element("rollout/stop", i) + "/roll_back", r.Stop[i].RollBack})
			}
		}
	}
	return all
}

// unsigned says why an image may not go to device types that require signatures; nil
// if it may.
func (s *Service) unsigned(ctx context.Context, image *Image, deviceTypes []string) error {
	switch {
	case image.Manifest == nil:
		return errors.New("it has no signed manifest; attach one with davit image attach")
	case !s.verifier.Load().on():
		return errors.New("the service has no keys to verify signatures with; start it with --image-keys, or with --key-list and --root-keys")
	case len(image.Manifest.VerifiedBy) == 0:
		return errors.New("the service had no keys when its manifest was attached; attach it again to have its signatures verified")
	}
	signed, err := s.signed(ctx, image)
	if err == nil {
		_, err = s.verify(image, deviceTypes, signed)
	}
	return err
}

// signatures adds to a device's aggregate whether its type requires signatures, and if
// so which images have one. It reads those that may be offered; of another type only the
// type itself, and nothing if nothing waits.
func (t *txn) signatures(st *State, dev *Device, ev Event) error {
	queue, queued := ev.(Queue)
	if dev == nil || len(st.Executions) == 0 && !queued {
		return nil
	}
	dt, err := t.deviceType(dev.Type)
	if err != nil || !dt.RequireSignature {
		return err
	}
	st.RequireSignature, st.SignedUntil, st.Revoked = true, map[string]time.Time{}, nil
	images := []string{queue.Execution.Image}
	for i := range st.Executions {
		images = append(images, st.Executions[i].Image)
	}
	for _, v := range st.Jobs {
		for _, l := range chained(v.links, v.last) {
			images = append(images, l.Image)
		}
	}
	for _, id := range images {
		if _, known := st.SignedUntil[id]; known || id == "" {
			continue
		}
		m, err := recall(t.plans.images, t, "image", id)
		if err != nil {
			return err
		}
		st.SignedUntil[id] = m.signedUntil()
		if why := t.verifier.upholds(m, dev.Type); why != nil {
			if st.Revoked == nil {
				st.Revoked = map[string]string{}
			}
			st.Revoked[id] = why.Error()
		}
	}
	return nil
}

// signedUntil is until when the image may go to devices whose type requires
// signatures; the zero time if it may not.
func (m *Image) signedUntil() time.Time {
	if m.Manifest == nil || len(m.Manifest.VerifiedBy) == 0 {
		return time.Time{}
	}
	return m.Manifest.Expires
}

// offered is the image as a manifest has to be about it.
func (m *Image) offered() trust.Offered {
	return trust.Offered{ImageType: m.ImageType, Version: m.Version, Size: m.Size, SHA256: m.SHA256}
}

// blobs are the SHA-256 of all bytes that the image has.
func (m *Image) blobs() []string {
	if m.Manifest == nil {
		return []string{m.SHA256}
	}
	return []string{m.SHA256, m.Manifest.SHA256}
}

// keepsManifest refuses an edit that would make the image another than its manifest is
// about.
func (m *Image) keepsManifest(old *Image) error {
	if m.Manifest == nil {
		return nil
	}
	if m.Version != old.Version {
		return invalidField("version", "the image's manifest is for version %q; upload the file as another image", old.Version)
	}
	for i, id := range m.DeviceTypes {
		if !slices.Contains(m.Manifest.DeviceTypes, id) {
			return invalidField(element("device_types", i), "the image's manifest is not for device type %q; attach one first that is", id)
		}
	}
	return nil
}
