package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
	"davit/trust"
)

// theType is the device type of the signed worlds.
const theType = "pump-v2"

// signedWorld is a world whose bridge takes images only that key has signed. What
// it writes to the line is kept.
type signedWorld struct {
	*world
	key     trust.PrivateKey
	written *tape
}

// tape keeps what is written to a line.
type tape struct {
	mu sync.Mutex
	b  []byte
}

func (t *tape) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.b)
}

type taped struct {
	io.ReadWriteCloser
	t *tape
}

func (l taped) Write(b []byte) (int, error) {
	l.t.mu.Lock()
	l.t.b = append(l.t.b, b...)
	l.t.mu.Unlock()
	return l.ReadWriteCloser.Write(b)
}

// loads are the pieces of images among what was written.
func (t *tape) loads(tb testing.TB) []tlv.Load {
	var d tlv.Decoder
	var out []tlv.Load
	for d.Feed(t.bytes()); d.Next(); {
		f, err := d.Frame()
		if err != nil || f.Type != tlv.FrameData {
			continue
		}
		p, err := tlv.ParsePacket(f.Payload)
		if err != nil || p.Op != tlv.OpOTALoad {
			continue
		}
		l, err := tlv.ParseLoad(p)
		if err != nil {
			tb.Errorf("a LOAD that cannot be read: %v", err)
			continue
		}
		l.Data = bytes.Clone(l.Data)
		out = append(out, l)
	}
	return out
}

// inSignedWorld runs f in a world of one signed device with an image of size bytes.
func inSignedWorld(t *testing.T, size int, f func(w *signedWorld)) {
	t.Helper()
	key, err := trust.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	tape := &tape{}
	inWorld(t, sim.MCUConfig{}, size, one(), func(w *world) {
		time.Sleep(10 * time.Second) // virtual: manifests are made before they are looked at
		w.stop()
		w.cfg.Ports[0].DeviceType = theType
		w.cfg.Trust = Trust{Keys: trust.KeySet{Keys: []trust.PublicKey{key.Public()}, Threshold: 1}}
		w.cfg.Metrics = NewMetrics(prometheus.NewRegistry())
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			line, err := w.open(p)
			if err != nil {
				return nil, err
			}
			return taped{line, tape}, nil
		}
		w.start()
		sw := &signedWorld{w, key, tape}
		f(sw)
		sw.wantOnlySigned()
	})
}

// wantOnlySigned looks at every byte of images that went to the line.
func (w *signedWorld) wantOnlySigned() {
	w.Helper()
	for _, l := range w.written.loads(w) {
		end := uint64(l.Offset) + uint64(len(l.Data))
		if end > uint64(len(w.image)) || !bytes.Equal(l.Data, w.image[l.Offset:end]) {
			w.Errorf("bytes %d to %d on the line are not what was signed", l.Offset, end)
		}
	}
}

func (w *signedWorld) wantNothingLoaded() {
	w.Helper()
	if n := len(w.written.loads(w)); n > 0 {
		w.Errorf("%d pieces of an image went to the line", n)
	}
}

func (w *signedWorld) terms() trust.Terms {
	now := trust.Moment(time.Now())
	return trust.Terms{
		ImageType: "application", DeviceTypes: []string{theType}, Version: newVersion, Counter: 1, BlockSize: 4 << 10,
		Created: now.Add(-time.Second), Expires: now.Add(1000 * time.Hour),
	}
}

// bundle signs an image.
func (w *signedWorld) bundle(image []byte, terms trust.Terms, keys ...trust.PrivateKey) []byte {
	w.Helper()
	m, err := trust.Build(bytes.NewReader(image), terms)
	if err != nil {
		w.Fatal(err)
	}
	text, err := m.Encode()
	if err != nil {
		w.Fatal(err)
	}
	var signatures []trust.Signature
	for _, k := range keys {
		s, err := k.Sign(text, m.TrustedComment())
		if err != nil {
			w.Fatal(err)
		}
		signatures = append(signatures, s)
	}
	return trust.Signed{Text: text, Signatures: trust.EncodeSignatures(signatures)}.Bundle()
}

// serve has the service serve a bundle, and the offer name it.
func (w *signedWorld) serve(o schemas.Offer, bundle []byte) schemas.Offer {
	sum := sha256.Sum256(bundle)
	o.Manifest, o.ManifestSize = hex.EncodeToString(sum[:]), uint64(len(bundle))
	w.service.mu.Lock()
	w.service.images[o.Manifest] = bundle
	w.service.mu.Unlock()
	return o
}

// signedOffer is the world's update, signed.
func (w *signedWorld) signedOffer() schemas.Offer {
	return w.serve(w.theOffer(), w.bundle(w.image, w.terms(), w.key))
}

func (w *signedWorld) manifests(result string) float64 {
	return testutil.ToFloat64(w.cfg.Metrics.manifests.WithLabelValues(result))
}

func breakFile(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
}

// spoilFile flips a bit of a byte, and says whether the file is there and has it.
func spoilFile(t *testing.T, path string, at int) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) <= at {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

// slow has messages take a time each way, from the next start of the bridge on, which is now.
func (w *world) slow(delay time.Duration) {
	w.stop()
	w.service.delay = delay
	w.start()
}
