package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
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

// The MCU leg begins while the image is arriving yet, and what the MCU gets is the image.
func TestSignedImageIsLoadedWhileItArrives(t *testing.T) {
	inSignedWorld(t, 300_000, func(w *signedWorld) {
		w.service.delay = 100 * time.Millisecond
		w.service.offer(pump, w.signedOffer())
		w.awaitState(schemas.StateInstalling)
		if got := w.service.bytes(); got > 150_000 {
			t.Errorf("the load began when %d of 300000 bytes were there", got)
		}
		w.wantSuccess(pump)
		if states := w.service.states(theExecution); strings.Contains(states, "downloaded ") {
			t.Errorf("states %s: the load waited for the whole image", states)
		}
		if w.manifests("accepted") != 1 {
			t.Error("the manifest was not counted")
		}
		n, err := counters{w.dir + "/counters"}.load(pump)
		if err != nil || n["application"] != 1 {
			t.Errorf("counters %v, %v", n, err)
		}
	})
}

// Whatever is wrong with a manifest ends the update with its reason, and nothing of
// the image is asked for or goes to the line; force changes nothing.
func TestManifestRefused(t *testing.T) {
	other, err := trust.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		terms  func(t *trust.Terms)
		image  func(b []byte) []byte
		key    *trust.PrivateKey
		bundle func(b []byte) []byte
		reason trust.Reason
	}{
		"unsigned":          {bundle: func(b []byte) []byte { return trust.ParseBundle(b).Text }, reason: trust.ErrUnsigned},
		"wrong key":         {key: &other, reason: trust.ErrUnknownKey},
		"expired":           {terms: func(t *trust.Terms) { t.Expires = trust.Moment(time.Now()) }, reason: trust.ErrExpired},
		"from the future":   {terms: func(t *trust.Terms) { t.Created = t.Created.Add(100 * time.Hour) }, reason: trust.ErrNotYetValid},
		"other device type": {terms: func(t *trust.Terms) { t.DeviceTypes = []string{"fan"} }, reason: trust.ErrDeviceType},
		"other image type":  {terms: func(t *trust.Terms) { t.ImageType = "bootloader" }, reason: trust.ErrImageType},
		"other version":     {terms: func(t *trust.Terms) { t.Version = "9.9.9" }, reason: trust.ErrMismatch},
		"of another image":  {image: func(b []byte) []byte { b[7] ^= 1; return b }, reason: trust.ErrMismatch},
		"longer image":      {image: func(b []byte) []byte { return append(b, 0) }, reason: trust.ErrMismatch},
		"truncated":         {bundle: func(b []byte) []byte { return b[:len(b)-9] }, reason: trust.ErrMalformed},
		"text truncated": {bundle: func(b []byte) []byte {
			s := trust.ParseBundle(b)
			return append(s.Text[:len(s.Text)-3], append([]byte("\n"), s.Signatures...)...)
		}, reason: trust.ErrBadSignature},
		"extended":     {bundle: func(b []byte) []byte { return append(b, '\n') }, reason: trust.ErrMalformed},
		"flipped byte": {bundle: func(b []byte) []byte { b[30] ^= 1; return b }, reason: trust.ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			inSignedWorld(t, 20_000, func(w *signedWorld) {
				terms, image, key := w.terms(), bytes.Clone(w.image), w.key
				if c.terms != nil {
					c.terms(&terms)
				}
				if c.image != nil {
					image = c.image(image)
				}
				if c.key != nil {
					key = *c.key
				}
				b := w.bundle(image, terms, key)
				if c.bundle != nil {
					b = c.bundle(b)
				}
				o := w.serve(w.theOffer(), b)
				o.Force = true
				w.service.offer(pump, o)
				st := w.wantEnd(schemas.StateRejected, schemas.CauseSignature)
				if !strings.HasPrefix(st.Detail, "The bridge refused the image: ") {
					t.Errorf("detail %q", st.Detail)
				}
				if w.manifests(string(c.reason)) != 1 {
					t.Errorf("it was not counted as %s; detail %q", c.reason, st.Detail)
				}
				if got := w.service.bytes(); got != len(b) {
					t.Errorf("%d bytes were served, the manifest has %d", got, len(b))
				}
				w.wantNothingLoaded()
			})
		})
	}
}

// An offer without a manifest is rejected, and with Optional it is not.
func TestUnsignedOffer(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		o := w.theOffer()
		o.Force = true
		w.service.offer(pump, o)
		w.wantEnd(schemas.StateRejected, schemas.CauseSignature)
		w.wantNothingLoaded()
		if w.service.bytes() != 0 || w.manifests(string(trust.ErrUnsigned)) != 1 {
			t.Errorf("%d bytes were served", w.service.bytes())
		}
		w.stop()
		w.cfg.Trust.Optional = true
		w.start()
		o.Attempt = 2
		w.service.offer(pump, o)
		w.await("the second attempt", func() bool {
			st := w.service.last(theExecution)
			return st.Attempt == 2 && st.State.Final()
		})
		w.wantSuccess(pump)
	})
}

// What the service serves as the manifest has to have the SHA-256 of the offer.
func TestManifestSwapped(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		o := w.signedOffer()
		other := w.signedOffer()
		b := w.bundle(append(bytes.Clone(w.image), 1), w.terms(), w.key)
		w.service.mu.Lock()
		w.service.images[o.Manifest] = b // chunks with another tag
		w.service.mu.Unlock()
		w.cfg.FetchPatience = time.Minute
		w.stop()
		w.start()
		w.service.offer(pump, o)
		w.wantEnd(schemas.StateFailed, schemas.CauseNetwork)
		w.wantNothingLoaded()
		_ = other
	})
}

// inBlock says whether a chunk of the image has bytes of a block of 4 KiB.
func (w *signedWorld) inBlock(b []byte, block int) bool {
	h, data, err := schemas.ParseChunk(b)
	if err != nil {
		w.Error(err)
	}
	tag, _ := schemas.TagOf(w.theOffer().SHA256)
	return h.Image == tag && h.Offset < uint64(block+1)<<12 && h.Offset+uint64(len(data)) > uint64(block)<<12
}

// A block that is not what was signed is asked for again, and no other one.
func TestBadBlockIsFetchedAgainAlone(t *testing.T) {
	for name, chunk := range map[string]int{"chunks are blocks": 4096, "small chunks": 1000, "large chunks": 16 << 10} {
		for _, block := range []int{0, 5, 24} {
			t.Run(name, func(t *testing.T) {
				inSignedWorld(t, 100_000, func(w *signedWorld) {
					w.stop()
					w.cfg.Window = 64 << 10
					w.start()
					spoilt := 0
					w.service.chunk = func(_ int, b []byte) []byte {
						if spoilt == 0 && w.inBlock(b, block) {
							spoilt++
							h, data, _ := schemas.ParseChunk(b)
							at := max(uint64(block)<<12, h.Offset) - h.Offset
							b[len(b)-len(data)+int(at)] ^= 1
						}
						return b
					}
					o := w.signedOffer()
					o.Chunk = schemas.ChunkHint{Preferred: chunk, Max: chunk}
					w.service.offer(pump, o)
					w.wantSuccess(pump)
					again := w.service.bytes() - len(w.image) - int(o.ManifestSize)
					if want := min(4096, len(w.image)-block<<12); spoilt != 1 || again != want {
						t.Errorf("%d bytes were served again, the block has %d", again, want)
					}
					if n := testutil.ToFloat64(w.cfg.Metrics.badBlocks); n != 1 {
						t.Errorf("%v bad blocks counted", n)
					}
				})
			})
		}
	}
}

// A block that is never what was signed ends the update; the MCU sees nothing of it.
func TestBlockThatStaysBad(t *testing.T) {
	inSignedWorld(t, 200_000, func(w *signedWorld) {
		w.service.delay = 50 * time.Millisecond
		w.service.chunk = func(_ int, b []byte) []byte {
			if w.inBlock(b, 30) {
				b[len(b)-1] ^= 1
			}
			return b
		}
		w.service.offer(pump, w.signedOffer())
		st := w.wantEnd(schemas.StateFailed, schemas.CauseChecksum)
		if !strings.Contains(st.Detail, "block 30") {
			t.Errorf("detail %q", st.Detail)
		}
		for _, l := range w.written.loads(t) {
			if int(l.Offset)+len(l.Data) > 30<<12 {
				t.Errorf("bytes from %d on went to the line", l.Offset)
			}
		}
		if v := w.mcus[pump].RunningVersion(); v == newVersion {
			t.Error("the MCU runs it")
		}
	})
}

// An MCU that was given an image is given none with a lower counter, after a
// restart, by a manifest that is good otherwise; and a broken file lets nothing in.
func TestRollback(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		terms := w.terms()
		terms.Counter = 7
		w.service.offer(pump, w.serve(w.theOffer(), w.bundle(w.image, terms, w.key)))
		w.wantSuccess(pump)
		w.kill()
		w.start()
		next := func(execution string, counter uint64) schemas.Status {
			terms := w.terms()
			terms.Counter = counter
			o := w.serve(w.theOffer(), w.bundle(w.image, terms, w.key))
			o.Execution, o.Force = execution, true
			w.service.offer(pump, o)
			return w.awaitEnd(execution)
		}
		if st := next("ex-lower", 6); st.State != schemas.StateRejected || st.Cause != schemas.CauseSignature || w.manifests(string(trust.ErrRollback)) != 1 {
			t.Errorf("lower: %s, %s, %s", st.State, st.Cause, st.Detail)
		}
		if st := next("ex-same", 7); st.State != schemas.StateSucceeded {
			t.Errorf("same: %s, %s, %s", st.State, st.Cause, st.Detail)
		}
		breakFile(t, counters{w.dir + "/counters"}.path(pump))
		st := next("ex-broken", 9)
		if st.State != schemas.StateRejected || st.Cause != schemas.CauseSignature || !strings.Contains(st.Detail, "security counters") {
			t.Errorf("broken file: %s, %s, %s", st.State, st.Cause, st.Detail)
		}
	})
}

// An update that fails does not raise the counter: the way back stays open.
func TestFailedUpdateRaisesNoCounter(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		w.service.chunk = func(_ int, b []byte) []byte {
			if w.inBlock(b, 1) {
				b[len(b)-1] ^= 1
			}
			return b
		}
		w.service.offer(pump, w.signedOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseChecksum)
		n, err := counters{w.dir + "/counters"}.load(pump)
		if err != nil || len(n) != 0 {
			t.Errorf("counters %v, %v", n, err)
		}
	})
}

// After a kill at any time the update goes on: the manifest is not fetched once
// more, and what is on disk is checked before it is used.
func TestSignedUpdateOverRestarts(t *testing.T) {
	for at := 300 * time.Millisecond; at < 40*time.Second; at += step(1500 * time.Millisecond) {
		inSignedWorld(t, 200_000, func(w *signedWorld) {
			w.stop()
			w.cfg.Spool.SyncBytes = 8 << 10
			w.start()
			w.service.delay = 50 * time.Millisecond
			o := w.signedOffer()
			w.service.offer(pump, o)
			time.Sleep(at)
			whole := w.bridge.spool.Whole(o.Manifest)
			before := w.service.bytes()
			w.kill()
			if part := w.dir + "/spool/" + o.SHA256 + ".part"; whole && at%2 == 0 {
				spoilFile(t, part, 5000) // or it is complete
			}
			w.start()
			w.wantSuccess(pump)
			if limit := len(w.image) + 40_000; whole && w.service.bytes()-before > limit {
				t.Errorf("killed at %v: %d bytes were served after it", at, w.service.bytes()-before)
			}
			if whole && w.askedFor(o.ManifestSize) > 1 {
				t.Errorf("killed at %v: the manifest was fetched twice", at)
			}
		})
	}
}

// askedFor is how often a range from 0 on of exactly that length was asked for.
func (w *signedWorld) askedFor(length uint64) int {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	n := 0
	for _, r := range w.service.asked {
		if r.Offset == 0 && r.Length == length {
			n++
		}
	}
	return n
}

// Data without end is dropped and told of, during the manifest and the image.
func TestEndlessData(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		w.service.chunk = func(_ int, b []byte) []byte {
			h, data, _ := schemas.ParseChunk(b)
			for i := range 200 {
				h.Offset = uint64(len(w.image) + i*len(data))
				w.service.send(topicOf(pump, schemas.KindChunk), append(h.AppendTo(nil), data...))
			}
			return b
		}
		w.service.offer(pump, w.signedOffer())
		w.wantSuccess(pump)
		if n := testutil.ToFloat64(w.cfg.Metrics.alarms.WithLabelValues("endless")); n < 1 {
			t.Error("no alarm")
		}
	})
}

// A service that gives one small chunk now and then keeps a download alive; that is told of.
func TestSlowRetrieval(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		w.service.delay = 20 * time.Second
		o := w.signedOffer()
		o.Chunk = schemas.ChunkHint{Preferred: 128, Max: 128}
		w.stop()
		w.cfg.Window = MinWindow
		w.start()
		w.service.offer(pump, o)
		w.await("the alarm", func() bool { return testutil.ToFloat64(w.cfg.Metrics.alarms.WithLabelValues("slow")) > 0 })
	})
}

// Keys can be changed while the bridge runs; the next attempt goes by the new ones. All
// of them cannot be taken away.
func TestKeysAreReloaded(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		old := w.key
		var err error
		if w.key, err = trust.GenerateKey(); err != nil {
			t.Fatal(err)
		}
		settings := Settings{Ports: w.cfg.Ports, Trust: Trust{Keys: trust.KeySet{Keys: []trust.PublicKey{w.key.Public()}, Threshold: 1}}}
		if _, err := w.bridge.Reconfigure(w.Context(), settings); err != nil {
			t.Fatal(err)
		}
		o := w.serve(w.theOffer(), w.bundle(w.image, w.terms(), old))
		o.Execution = "ex-old"
		w.service.offer(pump, o)
		if st := w.awaitEnd("ex-old"); st.Cause != schemas.CauseSignature {
			t.Errorf("old key: %s, %s", st.State, st.Detail)
		}
		w.service.offer(pump, w.signedOffer())
		w.wantSuccess(pump)
		if _, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: w.cfg.Ports}); err == nil {
			t.Error("all keys were taken away")
		}
		bad := slices.Clone(w.cfg.Ports)
		bad[0].DeviceType = ""
		settings.Ports = bad
		if _, err := w.bridge.Reconfigure(w.Context(), settings); err == nil || !strings.Contains(err.Error(), "device-type") {
			t.Errorf("a port without a device type: %v", err)
		}
	})
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

// spoilFile flips bits of a byte, if the file is there and has it.
func spoilFile(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) <= at {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
