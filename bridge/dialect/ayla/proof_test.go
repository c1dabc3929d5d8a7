package ayla

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

// noEnd fails if the update has ended.
func (b *bench) noEnd(why string) {
	b.Helper()
	b.settle()
	if len(b.Done) > 0 {
		b.Errorf("%s: ended %+v", why, <-b.Done)
	}
}

// What the MCU reported before it restarted is not what it runs now.
func TestVersionFromBeforeARestartIsNoProof(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.version(newVersion)
		b.settle()
		b.restart()
		b.listenEnable() // it is back, and does not answer what it is asked
		b.settle()
		b.drain(t)
		b.session.Start(b.update)
		b.want(t, tlv.OpOTA)
		b.stat(tlv.CodeAlready)
		b.wantEnd(schemas.StateRejected, schemas.CauseAlready, tlv.CodeAlready)
	})
}

// An MCU that does not answer whether it still runs the version is offered it.
func TestVersionThatIsNotConfirmed(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.version(newVersion)
		b.settle()
		b.drain(t)
		b.session.Start(b.update)
		began := time.Now()
		b.want(t, tlv.OpOTA)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("offered after %v", took)
		}
		b.version("1.0.0")
		b.goAhead()
		b.load(t, b.image)
	})
}

func TestVersionThatChangedUnseen(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.version(newVersion)
		b.settle()
		b.drain(t)
		b.session.Start(b.update)
		b.want(t, tlv.OpSendProp)
		b.version("1.0.0")
		b.want(t, tlv.OpOTA)
	})
}

// forced carries a forced update to the version that runs already to its BOOT.
func (b *bench) forced() {
	b.Helper()
	b.update.Force = true
	b.version(newVersion)
	b.settle()
	b.begin()
	b.load(b.T, b.image)
	b.stat(tlv.CodeOK)
	b.want(b.T, tlv.OpOTABoot)
}

// The same version from an MCU that fell back proves nothing: the code that
// says so comes after it.
func TestForcedSameVersionAndFallBack(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.forced()
		b.settle()
		b.bootsTo(newVersion)
		time.Sleep(2 * time.Second)
		b.stat(tlv.CodeBoot)
		b.wantEnd(schemas.StateFailed, schemas.CauseBoot, tlv.CodeBoot)
	})
}

// An MCU that restarts for a reason of its own, before it has heard BOOT, runs
// what it ran.
func TestForcedSameVersionAndRestartBeforeBoot(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		noBoot := func(f tlv.Frame) bool {
			p, err := tlv.ParsePacket(f.Payload)
			return err == nil && p.Op == tlv.OpOTABoot
		}
		b.hush(noBoot) // lost on the line
		b.forced()
		b.bootsTo(newVersion)
		b.noEnd("BOOT was never heard")
		b.want(t, tlv.OpOTA)
		b.hush(nil)
		b.goAhead()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.settle()
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

func TestForcedSameVersionThatIsNeverSure(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.hush(func(f tlv.Frame) bool {
			p, err := tlv.ParsePacket(f.Payload)
			return err == nil && p.Op == tlv.OpOTABoot
		})
		b.forced()
		for range session.MaxReboots {
			b.bootsTo(newVersion)
			b.want(t, tlv.OpOTA)
			b.goAhead()
			b.load(t, b.image)
			b.stat(tlv.CodeOK)
			b.want(t, tlv.OpOTABoot)
		}
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateFailed, schemas.CauseBoot, 0)
	})
}

// After a restart of the bridge, too, a forced update is proven only by a
// version that was not there before.
func TestForcedResume(t *testing.T) {
	for _, c := range []struct {
		before string
		proof  bool
	}{{"1.0.0", true}, {newVersion, false}, {"", false}} {
		t.Run("before "+c.before, func(t *testing.T) {
			virtual(t, 300, func(b *bench) {
				b.update.Force, b.update.ResumeAt, b.update.Before = true, schemas.StateBooting, c.before
				b.session.Start(b.update)
				b.version(newVersion)
				if c.proof {
					b.wantEnd(schemas.StateSucceeded, "", 0)
					return
				}
				b.want(t, tlv.OpOTA)
				b.noEnd("the version was there before")
			})
		})
	}
}

// A peer that lived through a restart of the bridge takes a first frame with
// any number but 0 for a repetition of the last one, maybe.
func TestFirstFrameHasNumber0UntilOneIsHeard(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.hush(func(tlv.Frame) bool { return true })
		time.Sleep(patience + session.AckCeiling)
		b.session.Start(b.update)
		time.Sleep(patience + session.AckCeiling)
		b.drain(t)
		b.hush(nil)
		select {
		case f := <-b.frames:
			if f.Seq != 0 {
				t.Errorf("the first frame that the peer hears has number %d", f.Seq)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing is sent any more")
		}
	})
}

// Late acks, acks of numbers never sent and of frames given up end nothing.
func TestForeignAcks(t *testing.T) {
	virtual(t, 2000, func(b *bench) {
		b.begin()
		at := 0
		for at < len(b.image) {
			l, err := tlv.ParseLoad(b.want(t, tlv.OpOTALoad))
			if err != nil || int(l.Offset) != at {
				t.Fatalf("LOAD at %d, want %d (%v)", l.Offset, at, err)
			}
			at += len(l.Data)
			for _, seq := range []byte{0, 1, 2, 77, 255} {
				b.ack(seq)
			}
		}
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.settle()
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

// A LOAD that was acknowledged may be refused all the same.
func TestLoadAcknowledgedAndRefused(t *testing.T) {
	virtual(t, 2000, func(b *bench) {
		b.begin()
		b.loadFrom(t, b.image, 0, 3*tlv.MaxLoad)
		b.stat(tlv.CodeInvalidOffset)
		b.passLoads(t)
		b.goAhead()
		b.rewound(t)
		b.loadFrom(t, b.image, tlv.MaxLoad, len(b.image))
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
	})
}

// An MCU that babbles costs no memory and no update.
func TestHostileBytes(t *testing.T) {
	for name, junk := range map[string][]byte{
		"no flag ever":  bytes.Repeat([]byte{0x55}, 300_000),
		"only flags":    bytes.Repeat([]byte{0x7e}, 300_000),
		"only escapes":  bytes.Repeat([]byte{0x7d}, 300_000),
		"short frames":  bytes.Repeat([]byte{0x7e, 1, 0}, 100_000),
		"empty packets": bytes.Repeat([]byte{0x7e, 0x01, 0x00, 0x4b, 0x8c, 0x7e}, 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			virtualOn(t, sim.LineConfig{Baud: 4_000_000}, 1000, func(b *bench) {
				if _, err := b.end.Write(junk); err != nil {
					t.Fatal(err)
				}
				_, _ = b.end.Write([]byte{0x7e})
				b.settle()
				b.drain(t)
				b.begin()
				b.load(t, b.image)
				b.stat(tlv.CodeOK)
				b.want(t, tlv.OpOTABoot)
				b.settle()
				b.bootsTo(newVersion)
				b.wantEnd(schemas.StateSucceeded, "", 0)
			})
		})
	}
}

// Versions outside the contract never leave the session.
func TestHostileVersions(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		for _, v := range []string{"", "1.0\x00", "\x1b[2J", "a\nb", "\x7f", string(bytes.Repeat([]byte{1}, 255))} {
			b.version(v)
			b.settle()
		}
		b.send([]byte{1, 0x09, 0, 9, 1, 16, 'o', 'e', 'm', '_', 'h', 'o', 's', 't', '_', 'v', 'e', 'r', 's', 'i', 'o', 'n', 5, 2, 0xff, 0xfe}) // not UTF-8
		b.settle()
		long, _, err := tlv.AppendSendText(nil, 9, DefaultVersionProperty, string(bytes.Repeat([]byte{'x'}, 700)), 0)
		if err != nil {
			t.Fatal(err)
		}
		b.send(long)
		b.settle()
		if said := b.Said(); slices.ContainsFunc(said, func(s string) bool { return len(s) > 0 }) {
			t.Errorf("told %q", said)
		}
		b.version("1.0.0")
		b.settle()
		if said := b.Said(); !slices.Equal(said, []string{DefaultVersionProperty + "=1.0.0"}) {
			t.Errorf("told %q", said)
		}
	})
}

// An MCU that wants to begin anew again and again does not keep an update
// going for ever.
func TestEndlessGo(t *testing.T) {
	virtual(t, 3000, func(b *bench) {
		b.begin()
		for range session.MaxRestarts {
			b.rewound(t)
			b.goAhead()
		}
		b.rewound(t)
		b.goAhead()
		b.wantEnd(schemas.StateFailed, schemas.CauseSerial, 0)
	})
}

// Nor does an image that starts again and again without a word about its
// version.
func TestBootLoop(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.begin()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		began := time.Now()
		for len(b.Done) == 0 && time.Since(began) < time.Hour {
			b.restart()
			b.listenEnable()
			b.settle()
			b.drain(t)
			time.Sleep(5 * time.Second)
		}
		if took := time.Since(began); took > DefaultBootTimeout+2*DefaultVersionTimeout {
			t.Errorf("watched for %v", took)
		}
		b.wantEnd(schemas.StateTimedOut, schemas.CauseTimeout, 0)
	})
}

// An MCU that falls back after its update was replaced says BOOT to the next
// one: that is no refusal, and the offer is made again.
func TestFallBackOfTheUpdateBefore(t *testing.T) {
	for _, report := range []sim.ReportMode{sim.ReportAtStart, sim.ReportOnRequest} {
		t.Run("report "+string(report), func(t *testing.T) {
			mcu := sim.MCUConfig{Report: report, Fault: sim.Fault{NoBoot: true}}
			onRig(t, sim.LineConfig{}, mcu, 2000, func(r *dialecttest.Rig) {
				r.Session.Start(r.Update)
				for !slices.Contains(r.States(), string(schemas.StateBooting)) {
					time.Sleep(time.Millisecond) // virtual
				}
				time.Sleep(100 * time.Millisecond)
				r.Session.Start(r.Update)
				time.Sleep(2 * time.Second) // the new image hangs, and the old one has not said anything yet
				r.MCU.SetFault(sim.Fault{})
				r.WantEnd(schemas.StateSucceeded, "")
				if n := r.MCU.Boots(); n != 3 {
					t.Errorf("%d boots, want the first, the old image's after the new one had hung, and the new one's", n)
				}
			})
		})
	}
}
