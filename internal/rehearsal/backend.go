package rehearsal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"davit/orchestrator"
	"davit/schemas"
)

// link is the orchestrator.Publisher of a play: what the service says reaches the
// model of the device at once.
type link struct{ w *world }

func (l link) Offer(_ context.Context, device string, o schemas.Offer) error {
	l.w.retain(device, &o)
	return nil
}

func (l link) Withdraw(_ context.Context, device string) error {
	l.w.retain(device, nil)
	return nil
}

func (l link) Forget(ctx context.Context, device string) error { return l.Withdraw(ctx, device) }

func (l link) Ack(_ context.Context, _ string, a schemas.Ack) error {
	l.w.ack = a
	return nil
}

// Profile tells devices what they know.
func (link) Profile(context.Context, string, schemas.Profile) error { return nil }

// Chunk is never called: how long a download takes is a matter of its size here.
func (link) Chunk(_ context.Context, device string, _ []byte) error {
	return fmt.Errorf("device %s was sent a chunk that it did not ask for", device)
}

// blobs is an orchestrator.Blobs in memory.
type blobs map[string][]byte

// Create implements orchestrator.Blobs.
func (b blobs) Create(context.Context) (orchestrator.BlobWriter, error) {
	return &blobWriter{blobs: b}, nil
}

// Open implements orchestrator.Blobs.
func (b blobs) Open(_ context.Context, sum string) (orchestrator.Blob, error) {
	content, ok := b[sum]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", sum, orchestrator.ErrNotFound)
	}
	return blob{bytes.NewReader(content)}, nil
}

// Remove implements orchestrator.Blobs.
func (b blobs) Remove(_ context.Context, sum string) error {
	delete(b, sum)
	return nil
}

// List implements orchestrator.Blobs.
func (b blobs) List(_ context.Context, fn func(string, int64) bool) error {
	for _, sum := range slices.Sorted(maps.Keys(b)) {
		if !fn(sum, int64(len(b[sum]))) {
			break
		}
	}
	return nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

type blobWriter struct {
	blobs blobs
	buf   bytes.Buffer
}

func (w *blobWriter) Write(p []byte) (int, error) { return w.buf.Write(p) }

func (w *blobWriter) Commit() (string, int64, error) {
	sum := sha256.Sum256(w.buf.Bytes())
	name := hex.EncodeToString(sum[:])
	w.blobs[name] = w.buf.Bytes()
	return name, int64(w.buf.Len()), nil
}

func (w *blobWriter) Abort() {}
