package bridge

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/sim"
	"davit/schemas"
	"davit/trust"
)

// In both dialects an MCU that is loaded while its image arrives waits when the network
// is gone for a while, and gets the rest then.
func TestLoadWaitsForTheNetwork(t *testing.T) {
	for _, gone := range []time.Duration{2 * time.Second, 2 * time.Minute} {
		bothDialects(t, func(t *testing.T, kind string) {
			inDrainWorld(t, kind, 150_000, sim.MCUConfig{}, func(w *drainWorld) {
				s := signing(t, w.world)
				w.slow(100 * time.Millisecond)
				w.offer = s.serve(w.offer, s.bundle(w.image, s.termsOf(w.offer), s.key))
				w.service.offer(pump, w.offer)
				w.awaitState(schemas.StateInstalling)
				if got := w.service.bytes(); got >= len(w.image) {
					t.Errorf("the load began when all %d bytes were there", got)
				}
				w.service.disconnect()
				time.Sleep(gone) // virtual
				w.service.connect()
				w.succeeds()
				if !bytes.Equal(w.mcu.RunningImage(), w.image) {
					t.Error("the MCU runs something else")
				}
			})
		})
	}
}

// signing makes w a world whose bridge takes signed images only.
func signing(t *testing.T, w *world) *signedWorld {
	t.Helper()
	key, err := trust.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // virtual: manifests are made before they are looked at
	w.stop()
	for i := range w.cfg.Ports {
		w.cfg.Ports[i].DeviceType = theType
	}
	w.cfg.Trust = Trust{Keys: trust.KeySet{Keys: []trust.PublicKey{key.Public()}, Threshold: 1}}
	w.cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	w.start()
	return &signedWorld{world: w, key: key, written: &tape{}}
}

func (w *signedWorld) termsOf(o schemas.Offer) trust.Terms {
	terms := w.terms()
	terms.Version = o.Version
	return terms
}

// Devices that share a download of a signed image each go by their own manifest, and one of another
// type gets nothing, also on the image's shared stream with spoilt chunks.
func TestSignedImageForSeveralDevices(t *testing.T) {
	devices := []string{"a", "b", "c"}
	inWorld(t, sim.MCUConfig{}, 150_000, devices, func(w *world) {
		s := signing(t, w)
		w.stop()
		w.cfg.Ports[2].DeviceType = "fan"
		w.start()
		w.await("hello", func() bool { return w.service.hello("c").Streams })
		spoilt := 0
		w.service.chunk = func(n int, b []byte) []byte {
			if s.inBlock(b, 9) && spoilt == 0 {
				spoilt++
				b[len(b)-1] ^= 1
			}
			return b
		}
		terms := s.terms()
		terms.BlockSize = 16 << 10
		manifests := map[string][]byte{"a": s.bundle(w.image, s.terms(), s.key), "b": s.bundle(w.image, terms, s.key)}
		manifests["c"] = manifests["a"]
		for _, d := range devices {
			o := s.serve(w.theOffer(), manifests[d])
			o.Execution, o.Stream = "ex-"+d, true
			w.service.offer(d, o)
		}
		w.wantAll(devices[:2])
		if st := w.awaitEnd("ex-c"); st.State != schemas.StateRejected || st.Cause != schemas.CauseSignature {
			t.Errorf("c: %s, %s, %s", st.State, st.Cause, st.Detail)
		}
		if w.mcus["c"].RunningVersion() == newVersion {
			t.Error("c runs it")
		}
		if n := testutil.ToFloat64(w.cfg.Metrics.badBlocks); spoilt != 1 || n < 1 {
			t.Errorf("%v bad blocks counted", n)
		}
	})
}

// An image that is only to be fetched is checked as well.
func TestSignedDownloadOnly(t *testing.T) {
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		o := w.theOffer()
		o.Action = schemas.ActionDownload
		w.service.offer(pump, o)
		w.wantEnd(schemas.StateRejected, schemas.CauseSignature)
		if n := w.service.bytes(); n != 0 {
			t.Errorf("%d bytes were fetched", n)
		}
		o = w.serve(o, w.bundle(w.image, w.terms(), w.key))
		o.Execution = "ex-signed"
		w.service.offer(pump, o)
		w.await("the image", func() bool { return w.bridge.spool.Whole(o.SHA256) })
		w.wantNothingLoaded()
	})
}

// An image whose blocks are what was signed, in a manifest whose SHA-256 of the whole is that
// of another, never becomes whole for the MCU.
func TestManifestThatContradictsItself(t *testing.T) {
	inSignedWorld(t, 150_000, func(w *signedWorld) {
		w.slow(100 * time.Millisecond)
		other := bytes.Clone(w.image)
		other[0] ^= 1
		// A signer who wanted this would have to write the manifest by hand.
		good, claimed := w.bundle(w.image, w.terms(), w.key), w.offerOf("img-1", newVersion, other)
		s := trust.ParseBundle(good)
		text := bytes.ReplaceAll(s.Text, []byte(w.theOffer().SHA256), []byte(claimed.SHA256))
		sig, err := w.key.Sign(text, "")
		if err != nil {
			t.Fatal(err)
		}
		o := w.serve(claimed, trust.Signed{Text: text, Signatures: trust.EncodeSignatures([]trust.Signature{sig})}.Bundle())
		w.service.chunk = func(_ int, b []byte) []byte {
			h, data, _ := schemas.ParseChunk(b)
			if own, _ := schemas.TagOf(w.theOffer().SHA256); h.Image == own {
				h.Image, _ = schemas.TagOf(claimed.SHA256)
				return append(h.AppendTo(nil), data...)
			}
			return b
		}
		w.service.offer(pump, o)
		if st := w.wantEnd(schemas.StateFailed, schemas.CauseChecksum); !strings.Contains(st.Detail, "contradicts itself") {
			t.Errorf("detail %q", st.Detail)
		}
		for _, l := range w.written.loads(t) {
			if int(l.Offset)+len(l.Data) > 36<<12 {
				t.Error("the last block went to the line")
			}
		}
	})
}

// A bridge that is stopped while an MCU is loaded with a signed image that is arriving yet
// lets it come to its end.
func TestDrainWhileSignedImageArrives(t *testing.T) {
	inSignedWorld(t, 200_000, func(w *signedWorld) {
		w.stop()
		w.cfg.DrainTimeout = time.Minute
		w.start()
		w.slow(200 * time.Millisecond)
		w.service.offer(pump, w.signedOffer())
		w.awaitState(schemas.StateInstalling)
		if w.service.bytes() >= len(w.image) {
			t.Error("all of the image was there")
		}
		w.stop()
		w.wantSuccess(pump)
	})
}

// With a key list the keys that it names for the device's type count, until it has expired,
// and no older list takes its place.
func TestKeyList(t *testing.T) {
	root, err := trust.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		lists := func(types []string, versions ...uint64) *trust.KeyRing {
			var chain []trust.Signed
			for _, version := range versions {
				now := trust.Moment(time.Now())
				l := trust.KeyList{
					Version: version, Created: now.Add(-time.Second), Expires: now.Add(time.Hour), RootThreshold: 1, ImagesThreshold: 1,
					Keys: []trust.ListedKey{{Key: root.Public(), Role: trust.RoleRoot}, {Key: w.key.Public(), Role: trust.RoleImages, DeviceTypes: types}},
				}
				text, err := l.Encode()
				if err != nil {
					t.Fatal(err)
				}
				sig, err := root.Sign(text, "")
				if err != nil {
					t.Fatal(err)
				}
				chain = append(chain, trust.Signed{Text: text, Signatures: trust.EncodeSignatures([]trust.Signature{sig})})
			}
			ring, err := trust.Follow(trust.KeySet{Keys: []trust.PublicKey{root.Public()}, Threshold: 1}, chain...)
			if err != nil {
				t.Fatal(err)
			}
			return ring
		}
		use := func(ring *trust.KeyRing) error {
			_, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: w.cfg.Ports, Trust: Trust{Ring: ring}})
			return err
		}
		if err := use(lists([]string{"fan"}, 1)); err != nil {
			t.Fatal(err)
		}
		o := w.signedOffer()
		o.Execution = "ex-fan"
		w.service.offer(pump, o)
		if st := w.awaitEnd("ex-fan"); st.Cause != schemas.CauseSignature || w.manifests(string(trust.ErrThreshold)) != 1 {
			t.Errorf("a key for another device type: %s, %s", st.State, st.Detail)
		}
		if err := use(lists([]string{theType}, 1, 2)); err != nil {
			t.Fatal(err)
		}
		if err := use(lists([]string{theType}, 1)); err == nil {
			t.Error("an older list took the place")
		}
		w.service.offer(pump, w.signedOffer())
		w.wantSuccess(pump)
		time.Sleep(2 * time.Hour) // virtual
		o = w.signedOffer()
		o.Execution = "ex-late"
		w.service.offer(pump, o)
		if st := w.awaitEnd("ex-late"); st.Cause != schemas.CauseSignature || w.manifests(string(trust.ErrKeyListExpired)) != 1 {
			t.Errorf("an expired list: %s, %s", st.State, st.Detail)
		}
	})
}
