package bridge

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
	"davit/trust"
)

// offerBefore is a signed offer of an image that differs from the world's in three of its
// blocks, and is fetched only.
func (w *signedWorld) offerBefore(change func(*trust.Terms)) (older []byte, o schemas.Offer) {
	w.Helper()
	const block = 1 << 10
	older = bytes.Clone(w.image)
	for _, i := range []int{0, 41, len(older)/block - 1} {
		older[i*block+7] ^= 0xff
	}
	terms := w.terms()
	terms.Version, terms.BlockSize = "1.9.9", block
	if change != nil {
		change(&terms)
	}
	return older, w.keepsFirst(older, terms)
}

// keepsFirst is a signed offer of another image, which is fetched only.
func (w *signedWorld) keepsFirst(image []byte, terms trust.Terms) schemas.Offer {
	w.Helper()
	w.service.mu.Lock()
	w.service.images["img-0"] = image
	w.service.mu.Unlock()
	o := w.serve(w.offerOf("img-0", terms.Version, image), w.bundle(image, terms, w.key))
	o.Execution, o.Action = "ex-before", schemas.ActionDownload
	return o
}

// imageBytes are those that were asked for since the last call, but for the manifest's.
func (w *signedWorld) imageBytes(o schemas.Offer) int {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	n := 0
	for _, r := range w.service.asked {
		n += int(r.Length)
	}
	w.service.asked = nil
	return n - int(o.ManifestSize)
}

// TestOnlyWhatDiffersIsFetched: of an image of 100 blocks of which the spool has 97 from
// another one, three are fetched, and the update comes to its end; a block of the other image that is damaged
// on disk is fetched as well, and blocks of another size are not looked at.
func TestOnlyWhatDiffersIsFetched(t *testing.T) {
	const block = 1 << 10
	for _, c := range []struct {
		name   string
		change func(*trust.Terms)
		damage int // byte of the other image, 0 for none
		fetch  int // blocks
	}{
		{name: "three blocks", fetch: 3},
		{name: "one is damaged", damage: 50*block + 1, fetch: 4},
		{name: "another block size", change: func(t *trust.Terms) { t.BlockSize = 2 * block }, fetch: 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSignedWorld(t, 100*block, func(w *signedWorld) {
				older, before := w.offerBefore(c.change)
				w.service.offer(pump, before)
				w.await("the older image", func() bool { return w.service.last("ex-before").State == schemas.StateDownloaded })
				w.await("its ack", func() bool { return w.service.hello(pump).Execution == "" })
				if n := w.imageBytes(before); n != len(older) {
					t.Errorf("%d bytes were fetched of an image of %d", n, len(older))
				}
				if c.damage > 0 && !spoilFile(t, filepath.Join(w.cfg.DataDir, "spool", before.SHA256+".img"), c.damage) {
					t.Error("the older image is not in the spool")
				}
				terms := w.terms()
				terms.BlockSize = block
				o := w.serve(w.theOffer(), w.bundle(w.image, terms, w.key))
				w.service.offer(pump, o)
				w.wantSuccess(pump)
				if n := w.imageBytes(o); n != c.fetch*block {
					t.Errorf("%d bytes were fetched, want %d blocks", n, c.fetch)
				}
				if n := testutil.ToFloat64(w.cfg.Metrics.blocks); n != float64(100-c.fetch) || testutil.ToFloat64(w.cfg.Metrics.bytes) != n*block {
					t.Errorf("%v blocks were taken from the other image, want %d", n, 100-c.fetch)
				}
				if n := testutil.ToFloat64(w.cfg.Metrics.badBlocks); n != 0 {
					t.Errorf("%v blocks count as bad", n)
				}
			})
		})
	}
}

// TestWholeImageFromOthers: an image all of whose blocks the spool has is not fetched at all.
func TestWholeImageFromOthers(t *testing.T) {
	const block = 1 << 10
	inSignedWorld(t, 20*block, func(w *signedWorld) {
		longer := append(bytes.Clone(w.image), 1, 2, 3)
		terms := w.terms()
		terms.Version, terms.BlockSize = "1.9.9", block
		before := w.keepsFirst(longer, terms)
		w.service.offer(pump, before)
		w.await("the longer image", func() bool { return w.service.last("ex-before").State == schemas.StateDownloaded })
		w.await("its ack", func() bool { return w.service.hello(pump).Execution == "" })
		w.imageBytes(before)
		terms.Version = newVersion
		o := w.serve(w.theOffer(), w.bundle(w.image, terms, w.key))
		w.service.offer(pump, o)
		w.wantSuccess(pump)
		if n := w.imageBytes(o); n != 0 {
			t.Errorf("%d bytes were fetched", n)
		}
	})
}
