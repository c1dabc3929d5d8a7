package bridge

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
	"davit/trust"
)

// The MCU leg begins while the image is arriving yet, and what the MCU gets is the image.
func TestSignedImageIsLoadedWhileItArrives(t *testing.T) {
	inSignedWorld(t, 300_000, func(w *signedWorld) {
		w.slow(100 * time.Millisecond)
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
		n, err := w.bridge.counters.load(pump)
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

// What the service serves as the manifest has to have the SHA-256 of the offer, whatever its
// chunks say whose they are: a good manifest of another image does not take the place of
// the one that was offered.
func TestManifestSwapped(t *testing.T) {
	for name, c := range map[string]struct {
		own   bool // chunks have the tag of what they are, not of what was asked for
		cause schemas.Cause
	}{"by its own name": {true, schemas.CauseNetwork}, "by the name of what was asked for": {false, schemas.CauseChecksum}} {
		t.Run(name, func(t *testing.T) {
			inSignedWorld(t, 20_000, func(w *signedWorld) {
				o := w.signedOffer()
				terms := w.terms()
				terms.Counter++
				b := w.bundle(w.image, terms, w.key)
				if len(b) != int(o.ManifestSize) {
					t.Fatalf("it has %d bytes instead of %d", len(b), o.ManifestSize)
				}
				w.service.mu.Lock()
				w.service.images[o.Manifest] = b
				w.service.mu.Unlock()
				w.service.chunk = func(_ int, b []byte) []byte {
					if h, data, err := schemas.ParseChunk(b); err == nil && !c.own {
						h.Image, _ = schemas.TagOf(o.Manifest)
						return append(h.AppendTo(nil), data...)
					}
					return b
				}
				w.cfg.FetchPatience = time.Minute
				w.stop()
				w.start()
				w.service.offer(pump, o)
				w.wantEnd(schemas.StateFailed, c.cause)
				w.wantNothingLoaded()
			})
		})
	}
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
		w.slow(50 * time.Millisecond)
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
		breakFile(t, w.bridge.counters.path(pump))
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
		n, err := w.bridge.counters.load(pump)
		if err != nil || len(n) != 0 {
			t.Errorf("counters %v, %v", n, err)
		}
	})
}

// After a kill at any time the update goes on: the manifest is not fetched once
// more, what is on disk is checked before it is used, and the counter is there in the end.
func TestSignedUpdateOverRestarts(t *testing.T) {
	spoilt, found := 0, 0
	for at := 300 * time.Millisecond; at < 30*time.Second; at += step(time.Second) {
		inSignedWorld(t, 200_000, func(w *signedWorld) {
			w.cfg.Spool.SyncBytes = 8 << 10
			w.slow(150 * time.Millisecond)
			o := w.signedOffer()
			w.service.offer(pump, o)
			time.Sleep(at)
			whole := w.bridge.spool.Whole(o.Manifest)
			before := w.service.bytes()
			w.kill()
			if whole && spoilFile(t, filepath.Join(w.dir, "spool", o.SHA256+".part"), 5000) {
				spoilt++
			}
			w.start()
			w.wantSuccess(pump)
			if limit := len(w.image) + 40_000; whole && w.service.bytes()-before > limit {
				t.Errorf("killed at %v: %d bytes were served after it", at, w.service.bytes()-before)
			}
			if whole && w.askedFor(o.ManifestSize) > 1 {
				t.Errorf("killed at %v: the manifest was fetched twice", at)
			}
			if n, err := w.bridge.counters.load(pump); err != nil || n["application"] != 1 {
				t.Errorf("killed at %v: counters %v, %v", at, n, err)
			}
			found += int(testutil.ToFloat64(w.cfg.Metrics.badBlocks))
		})
	}
	if spoilt == 0 || found != spoilt {
		t.Errorf("%d blocks were spoilt on disk, %d were found", spoilt, found)
	}
}

// Of two good manifests of one image an attempt goes by the one that its offer named when it
// was accepted, also after a restart; the next attempt goes by its own, which is verified, with
// whatever was fetched by the first.
func TestManifestsAreNotMixed(t *testing.T) {
	for _, attempt := range []int{1, 2} {
		for _, kill := range []bool{false, true} {
			inSignedWorld(t, 100_000, func(w *signedWorld) {
				w.slow(100 * time.Millisecond)
				w.service.offer(pump, w.signedOffer())
				w.await("a part of the image", func() bool { return w.service.bytes() > 30_000 })
				terms := w.terms()
				terms.Counter, terms.BlockSize = 9, 8<<10
				o := w.serve(w.theOffer(), w.bundle(w.image, terms, w.key))
				o.Attempt = attempt
				w.service.offer(pump, o)
				if kill {
					w.kill()
					w.start()
				}
				w.await("the end of the last attempt", func() bool {
					st := w.service.last(theExecution)
					return st.Attempt == attempt && st.State.Final()
				})
				w.wantSuccess(pump)
				want := map[int]uint64{1: 1, 2: 9}[attempt]
				if n, err := w.bridge.counters.load(pump); err != nil || n["application"] != want {
					t.Errorf("attempt %d, killed %t: counters %v, %v; want %d", attempt, kill, n, err, want)
				}
				if asked := w.askedFor(o.ManifestSize); (asked > 0) != (attempt == 2) {
					t.Errorf("attempt %d, killed %t: the other manifest was asked for %d times", attempt, kill, asked)
				}
			})
		}
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
		w.slow(20 * time.Second)
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
