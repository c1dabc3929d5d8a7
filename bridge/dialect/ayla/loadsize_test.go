package ayla

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

// buffer is an MCU that has so many bytes for the frame between its flags.
func buffer(n int, mcu sim.MCUConfig) sim.MCUConfig {
	mcu.RxLimit, mcu.AcceptSame = n-4, true // its payload
	return mcu
}

// overruns is what MCUs do with a frame that is longer than their buffer.
var overruns = []struct {
	name string
	mcu  sim.MCUConfig
}{
	{"lost", sim.MCUConfig{}},
	{"STAT LEN_ERR", sim.MCUConfig{RxCode: tlv.CodeLength}},
	{"STAT OVERFLOW", sim.MCUConfig{RxCode: tlv.CodeOverflow}},
	{"NAK LEN_ERR", sim.MCUConfig{RxCode: tlv.CodeLength, RxNAK: true}},
	{"NAK OVERFLOW", sim.MCUConfig{RxCode: tlv.CodeOverflow, RxNAK: true}},
}

// knotty puts an image in the rig's place of which a part is all flags and
// escapes, so that its LOADs are up to twice as long on the line.
func knotty(r *dialecttest.Rig, from, n int) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range r.Image {
		r.Image[i] = byte(rng.Uint32())
		if i >= from && i < from+n {
			r.Image[i] = 0x7d + byte(i&1)
		}
	}
	r.Update.SHA256, r.Update.Image = sha256.Sum256(r.Image), bytes.NewReader(r.Image)
}

// seen is what the MCU had to do with its receive buffer so far.
func seen(r *dialecttest.Rig) sim.MCUStats { return r.MCU.(*sim.MCU).Stats() }

// again updates once more, and says how many LOADs that took and how many frames
// were lost for their length.
func again(r *dialecttest.Rig) (loads, lost int, took time.Duration) {
	r.Helper()
	before, began := seen(r), time.Now()
	r.Update.Force = true
	r.Ends(schemas.StateSucceeded, "")
	after := seen(r)
	return after.Loads - before.Loads, after.FramesBad - before.FramesBad, time.Since(began)
}

// An MCU whose receive buffer is smaller than a full LOAD is updated without a
// person, whatever it does with the frames that it cannot hold, and the size that
// works is kept for the next update.
func TestSmallReceiveBuffer(t *testing.T) {
	const size = 6000
	for _, o := range overruns {
		for _, c := range []struct{ room, learnt int }{{271, 255}, {270, 128}, {200, 128}, {144, 128}, {143, 64}, {100, 64}, {60, 32}, {48, 32}} {
			t.Run(fmt.Sprintf("%s/%d bytes", o.name, c.room), func(t *testing.T) {
				onRig(t, sim.LineConfig{}, buffer(c.room, o.mcu), size, func(r *dialecttest.Rig) {
					began := time.Now()
					r.Ends(schemas.StateSucceeded, "")
					if took := time.Since(began); took > 2*time.Minute {
						t.Errorf("it took %v", took)
					}
					loads, lost, took := again(r)
					if want := (size + c.learnt - 1) / c.learnt; loads != want || lost != 0 {
						t.Errorf("the second update had %d LOADs and %d frames that were too long; want %d and none", loads, lost, want)
					}
					if took > 15*time.Second {
						t.Errorf("the second update took %v", took)
					}
				})
			})
		}
	}
}

// In a buffer that takes the frame as it stands on the line, what fits depends on
// the image.
func TestSmallReceiveBufferOfTheLine(t *testing.T) {
	for _, o := range overruns {
		for _, at := range []int{0, 3000, 5700} {
			t.Run(fmt.Sprintf("%s/%d", o.name, at), func(t *testing.T) {
				mcu := buffer(300, o.mcu)
				mcu.RxStuffed = true
				onRig(t, sim.LineConfig{}, mcu, 6000, func(r *dialecttest.Rig) {
					knotty(r, at, 300)
					r.Ends(schemas.StateSucceeded, "")
					if loads, lost, _ := again(r); loads < 6000/128 || lost != 0 {
						t.Errorf("the second update had %d LOADs and %d frames that were too long", loads, lost)
					}
				})
			})
		}
	}
}

// On a noisy line the MCU's word about a LOAD that was too long may get through at the second attempt only, when many
// more have been acknowledged.
func TestSmallReceiveBufferOnANoisyLine(t *testing.T) {
	for _, o := range overruns {
		for _, room := range []int{200, 100} {
			for seed := range uint64(6) {
				t.Run(fmt.Sprintf("%s/%d bytes/%d", o.name, room, seed), func(t *testing.T) {
					noise := sim.LineFaults{BitErrorRate: 4e-4}
					mcu := o.mcu
					mcu.Seed, mcu.DoubleFlags = seed, seed%2 == 1
					onRig(t, sim.LineConfig{Seed: seed, ToMCU: noise, FromMCU: noise}, buffer(room, mcu), 30_000, func(r *dialecttest.Rig) {
						r.Ends(schemas.StateSucceeded, "")
						again(r)
					})
				})
			}
		}
	}
}

// The same with every other habit that gets in the way, and the update replaced while it is on its way: the word about a
// LOAD may come when the next update is offered, or when the MCU has been told to boot.
func TestLateWordsAboutLoads(t *testing.T) {
	for _, o := range overruns[1:4] {
		for _, c := range []struct {
			seed uint64
			rate float64
		}{{11, 2e-4}, {1, 6e-4}, {2, 6e-4}, {10, 6e-4}, {11, 6e-4}, {12, 6e-4}} {
			t.Run(fmt.Sprintf("%s/%g/%d", o.name, c.rate, c.seed), func(t *testing.T) {
				noise := sim.LineFaults{BitErrorRate: c.rate, DropRate: c.rate / 4}
				mcu := o.mcu
				mcu.Seed, mcu.DoubleFlags, mcu.RxStuffed = c.seed, c.seed&1 != 0, c.seed&2 != 0
				mcu.Fault.DoubleAcks = c.seed&4 != 0
				if c.seed&8 != 0 {
					mcu.Traffic, mcu.Features, mcu.Fault.LoseAcks = 70*time.Millisecond, tlv.FeatureConfirm, 0.05
				}
				onRig(t, sim.LineConfig{Seed: c.seed, ToMCU: noise, FromMCU: noise}, buffer(100+14*int(c.seed), mcu), 30_000, func(r *dialecttest.Rig) {
					r.Session.Start(r.Update)
					time.Sleep(time.Duration(c.seed) * 300 * time.Millisecond) // virtual
					r.Ends(schemas.StateSucceeded, "")
				})
			})
		}
	}
}

// What is configured is not exceeded.
func TestConfiguredLoadSize(t *testing.T) {
	for _, c := range []struct{ size, loads int }{{0, 8}, {255, 8}, {128, 16}, {100, 20}, {1, 2000}, {1000, 8}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			dialecttest.Run(t, dialecttest.Setup{
				Dialect: Dialect{}, Config: dialect.Config{LoadSize: c.size}, MCU: func() sim.Host { return sim.NewMCU(sim.MCUConfig{}) },
				Size: 2000, Reports: newVersion,
			}, func(r *dialecttest.Rig) {
				r.Ends(schemas.StateSucceeded, "")
				if n := seen(r).Loads; n != c.loads {
					t.Errorf("%d LOADs, want %d", n, c.loads)
				}
			})
		})
	}
}

// A buffer that no LOAD fits ends the update with a cause, soon.
func TestReceiveBufferThatNothingFits(t *testing.T) {
	for _, o := range overruns {
		t.Run(o.name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, buffer(40, o.mcu), 6000, func(r *dialecttest.Rig) {
				began := time.Now()
				want := map[tlv.Code]schemas.Cause{tlv.CodeOK: schemas.CauseSerial, tlv.CodeLength: schemas.CauseSize, tlv.CodeOverflow: schemas.CauseProtocol}
				r.Ends(schemas.StateFailed, want[o.mcu.RxCode])
				if took := time.Since(began); took > 5*time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// LEN_ERR after LOADs of the same length that went well is about the image, and
// so it is when it comes with every size.
func TestLengthErrorThatIsNotTheFrames(t *testing.T) {
	virtual(t, 4000, func(b *bench) {
		for i := range b.image {
			b.image[i] = 0
		}
		b.begin()
		b.loadFrom(t, b.image, 0, 12*tlv.MaxLoad)
		b.stat(tlv.CodeLength)
		b.wantEnd(schemas.StateFailed, schemas.CauseSize, tlv.CodeLength)
	})
	virtual(t, 100, func(b *bench) {
		b.begin()
		for range 3 {
			b.want(t, tlv.OpOTALoad)
			b.stat(tlv.CodeLength)
			b.passLoads(t)
			b.goAhead()
		}
		b.want(t, tlv.OpOTALoad)
		b.stat(tlv.CodeLength)
		b.wantEnd(schemas.StateFailed, schemas.CauseSize, tlv.CodeLength)
	})
}

// An MCU that says LEN_ERR to each of several LOADs that were under way is not
// believed to have refused the next offer.
func TestSeveralRefusedLoads(t *testing.T) {
	virtual(t, 2000, func(b *bench) {
		b.begin()
		b.loadFrom(t, b.image, 0, 3*tlv.MaxLoad)
		b.stat(tlv.CodeLength)
		b.passLoads(t)
		b.stat(tlv.CodeLength)
		b.stat(tlv.CodeLength)
		b.want(t, tlv.OpOTA)
		b.goAhead()
		for at := 0; at < len(b.image); {
			l, err := tlv.ParseLoad(b.want(t, tlv.OpOTALoad))
			if err != nil || int(l.Offset) != at || len(l.Data) > 128 {
				t.Fatalf("LOAD of %d bytes at %d, want %d (%v)", len(l.Data), l.Offset, at, err)
			}
			at += len(l.Data)
		}
	})
}

// An MCU that is away for a while, or a line that is, says nothing about its
// receive buffer.
func TestAbsenceTeachesNothing(t *testing.T) {
	const size = 20_000
	for _, at := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second, 1500 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.MCUConfig{AcceptSame: true}, size, func(r *dialecttest.Rig) {
				go func() {
					time.Sleep(at) // virtual
					r.Line.SetFaults(sim.LineFaults{Dead: true}, sim.LineFaults{Dead: true})
					time.Sleep(3 * session.AckCeiling * 3)
					r.Line.SetFaults(sim.LineFaults{}, sim.LineFaults{})
				}()
				r.Ends(schemas.StateSucceeded, "")
				if loads, _, _ := again(r); loads != (size+tlv.MaxLoad-1)/tlv.MaxLoad {
					t.Errorf("%d LOADs afterwards", loads)
				}
			})
		})
	}
}

// One LOAD that is never acknowledged may have any reason; in the next leg the same
// one is too long, and from then on every other one.
func TestLostLoadsAreSentSmaller(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.hush(func(f tlv.Frame) bool {
			p, err := tlv.ParsePacket(f.Payload)
			return err == nil && p.Op == tlv.OpOTALoad
		})
		b.session.Start(b.update)
		for _, want := range []int{255, 255, 128, 64, 32, 32} {
			b.passLoads(t)
			b.goAhead()
			l, err := tlv.ParseLoad(b.want(t, tlv.OpOTALoad))
			if err != nil || l.Offset != 0 || len(l.Data) != want {
				t.Errorf("LOAD of %d bytes at %d, want %d at 0 (%v)", len(l.Data), l.Offset, want, err)
			}
		}
	})
}

// What is kept for the updates after this one.
func TestWhatIsLearntOfLoads(t *testing.T) {
	const before = 255
	for _, c := range []struct {
		name string
		l    loads
		want int
	}{
		{"nothing", loads{size: 255, acked: 10, tries: 10}, 255},
		{"told", loads{size: 64, shrunk: true, told: true, acked: 10, tries: 30}, 64},
		{"lost, and then all went well", loads{size: 64, shrunk: true, acked: 100, tries: 104}, 64},
		{"lost, and still", loads{size: 64, shrunk: true, acked: 100, tries: 160}, before},
	} {
		if got := c.l.worked(before); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
