package afero

import (
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// applied carries the update to where the MCU has taken APPLY.
func (b *bench) applied() {
	b.Helper()
	b.loaded()
	b.wants(saysApply)
}

// comesBack is an MCU that restarts and says what it runs.
func (b *bench) comesBack(id uint64) {
	b.Helper()
	b.reboots()
	b.startsUp()
	b.answers(id)
	b.answers(id)
}

// succeeds restarts the MCU into the image.
func (b *bench) succeeds() {
	b.Helper()
	b.comesBack(newID)
	b.ends(schemas.StateSucceeded, "")
}

// The version is the proof: with a restart or without, with IDLE or without.
func TestBoot(t *testing.T) {
	for _, c := range []struct {
		name string
		boot func(b *bench)
	}{
		{"IDLE, restart", func(b *bench) { b.idle(); b.comesBack(newID) }},
		{"restart", func(b *bench) { b.comesBack(newID) }},
		{"IDLE, no restart", func(b *bench) { b.idle(); b.reports(newID); b.reports(newID) }},
		{"no restart", func(b *bench) { b.reports(newID); b.reports(newID) }},
		{"restart, the old version for a moment", func(b *bench) { b.idle(); b.comesBack(oldID); b.reports(newID); b.reports(newID) }},
		{"FAIL, once", func(b *bench) { b.fail(); b.wants(saysApply); b.comesBack(newID) }},
		{"the old version before the restart", func(b *bench) { b.idle(); b.answers(oldID); b.comesBack(newID) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.applied()
				c.boot(b)
				b.ends(schemas.StateSucceeded, "")
				b.toldStates("accepted", "installing", "booting", "succeeded")
			})
		})
	}
}

// The other version, or none, is none.
func TestNoBoot(t *testing.T) {
	for _, c := range []struct {
		name        string
		boot        func(b *bench)
		state       schemas.State
		cause       schemas.Cause
		after, late time.Duration // it ends between these
	}{
		{"runs the old version", func(b *bench) { b.idle(); b.comesBack(oldID) }, schemas.StateFailed, schemas.CauseBoot, session.Grace, session.Grace + time.Second},
		{"says FAIL", func(b *bench) { b.fail(); b.wants(saysApply); b.fail() }, schemas.StateFailed, schemas.CauseBoot, 0, time.Second},
		{"is gone", func(b *bench) { b.idle() }, schemas.StateTimedOut, schemas.CauseTimeout, DefaultBootTimeout - time.Second, DefaultBootTimeout + time.Second},
		{"is gone after a restart", func(b *bench) { b.idle(); b.reboots() }, schemas.StateTimedOut, schemas.CauseTimeout, DefaultVersionTimeout - time.Second, DefaultVersionTimeout + time.Second},
		{"one report of another version", func(b *bench) { b.idle(); b.reboots(); b.startsUp(); b.reports(9) }, schemas.StateFailed, schemas.CauseBoot, 0, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.applied()
				began := time.Now()
				c.boot(b)
				b.ends(c.state, c.cause)
				if took := time.Since(began); took < c.after || took > c.late {
					t.Errorf("it took %v to find out", took)
				}
			})
		})
	}
}

// An image that starts over and over and says nothing is not watched for ever.
func TestBootLoop(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.applied()
		b.idle()
		began := time.Now()
		for len(b.Done) == 0 && time.Since(began) < time.Hour {
			b.pass(5 * time.Second)
			b.tells(afpro.SystemCommand, afpro.CommandReboot)
		}
		b.ends(schemas.StateTimedOut, schemas.CauseTimeout)
		if took := time.Since(began); took > DefaultBootTimeout+2*DefaultVersionTimeout {
			t.Errorf("watched for %v", took)
		}
	})
}

// Nothing shows that APPLY was heard as it was sent. An MCU that stays silent
// about it and runs on is told again, but not for ever.
func TestApplyIsToldAgain(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.applied()
		for range maxApplies - 1 {
			b.quiet(readyAgain, "the MCU has yet to answer")
			b.answers(oldID)
			b.wants(saysApply)
		}
		b.answers(oldID)
		b.answers(oldID) // and no APPLY
		b.idle()
		b.succeeds()
	})
}

// An MCU that does not take APPLY is told when it is heard again.
func TestApplyThatIsNotTaken(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.loaded()
		b.pass(patience + 5*time.Second)
		b.startsUp()
		b.wants(saysApply)
		b.idle()
		b.succeeds()
	})
}

// An MCU that says its SHA-256 once more has not heard APPLY.
func TestVerifyOnceMore(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.applied()
		b.info(afpro.Info{State: afpro.InfoVerify, SHA256: [32]byte{1}}) // spoilt, or of something else
		b.quiet(time.Second, "that is not the image's")
		b.verify()
		b.wants(saysApply)
		b.idle()
		b.verify() // on its way for long
		b.succeeds()
	})
}

// An MCU that stays on what it runs and never says IDLE may have heard something
// else than APPLY: it gets the image again, but not for ever.
func TestApplyThatIsNeverHeard(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.BootTimeout = time.Minute
		b.up(oldID)
		b.applied()
		for range session.MaxReboots {
			if !b.untilOffered(b.runs(oldID)) {
				t.Fatalf("the update ended: %+v", <-b.Done)
			}
			b.info(b.begin())
			b.answers(oldID)
			b.chunkAt(2 * chunk) // where it was
			b.next(afpro.StopOffset)
			b.verify()
			b.wants(saysApply)
		}
		if b.untilOffered(b.runs(oldID)) {
			t.Error("offered once more")
		}
		b.ends(schemas.StateFailed, schemas.CauseBoot)
	})
}

// untilOffered answers GETs and goes through start-ups, until the offer, or the end
// of the update without one.
func (b *bench) untilOffered(answer func(get afpro.Message)) bool {
	b.Helper()
	for len(b.Done) == 0 {
		m, ok := b.heardWithin(session.ProbeEvery)
		switch {
		case !ok:
		case m.Type == afpro.Get:
			answer(m)
		case m.Attribute == afpro.ASRProtocol:
			b.tells(afpro.MCUProtocol, 2, 0)
		case strings.HasPrefix(describe(m), "UPDATE channel to MCU: OTA info BEGIN"):
			return true
		}
	}
	return false
}

// runs answers a GET with a version.
func (b *bench) runs(id uint64) func(afpro.Message) {
	return func(get afpro.Message) { b.answer(get.Request, id) }
}

// Forced, the version that runs already is proof only with IDLE.
func TestForcedSameVersion(t *testing.T) {
	for _, c := range []struct {
		name string
		boot func(b *bench)
		then func(b *bench)
	}{
		{"IDLE, restart", func(b *bench) { b.idle(); b.comesBack(newID) }, func(b *bench) { b.ends(schemas.StateSucceeded, "") }},
		{"IDLE, no restart", func(b *bench) { b.idle(); b.reports(newID) }, func(b *bench) { b.ends(schemas.StateSucceeded, "") }},
		{"restart", func(b *bench) { b.comesBack(newID) }, func(b *bench) {
			if !b.untilOffered(b.runs(newID)) {
				b.Errorf("the update ended: %+v", <-b.Done)
			}
		}},
		{"no restart", func(b *bench) { b.reports(newID); b.reports(newID) }, func(b *bench) {
			b.answers(newID)
			b.goesOn("nothing was applied")
			b.wants(saysApply) // it may have heard something else
			b.idle()
			b.answers(newID)
			b.ends(schemas.StateSucceeded, "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.update.Force = true
				b.up(newID)
				b.session.Start(b.update)
				b.offered()
				b.info(b.begin())
				b.answers(newID)
				b.loads(0, 20)
				b.verify()
				b.wants(saysApply)
				c.boot(b)
				b.goesOn("more may follow")
				c.then(b)
			})
		})
	}
}

// An MCU that runs on and never says IDLE may have heard something else, too.
func TestForcedSameVersionThatIsNeverApplied(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.Force, b.update.BootTimeout = true, time.Minute
		b.up(newID)
		b.session.Start(b.update)
		legs := 0
		for ; b.untilOffered(b.runs(newID)); legs++ {
			b.info(b.begin())
			b.answers(newID)
			b.chunkAt(0)
			b.next(afpro.StopOffset)
			b.verify()
			b.wants(saysApply)
		}
		b.ends(schemas.StateFailed, schemas.CauseBoot)
		if legs != session.MaxReboots+1 {
			t.Errorf("offered %d times", legs)
		}
	})
}

// It is not begun anew for ever for want of that.
func TestForcedSameVersionThatIsNeverSure(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.Force = true
		b.up(newID)
		b.session.Start(b.update)
		for i := range session.MaxReboots + 1 {
			if !b.untilOffered(b.runs(newID)) {
				t.Fatalf("the update ended: %+v", <-b.Done)
			}
			b.info(b.begin())
			b.answers(newID)
			if i == 0 {
				b.loads(0, 20)
			} else {
				b.chunkAt(2 * chunk) // where it was
				b.next(afpro.StopOffset)
			}
			b.verify()
			b.wants(saysApply)
			b.comesBack(newID)
		}
		if b.untilOffered(b.runs(newID)) {
			t.Error("offered once more")
		}
		b.ends(schemas.StateFailed, schemas.CauseBoot)
	})
}

// A report that comes when the time for it is nearly over is not waited upon for
// others.
func TestReportAtTheLastMoment(t *testing.T) {
	for _, c := range []struct {
		name   string
		force  bool
		before uint64
		after  uint64
		state  schemas.State
		cause  schemas.Cause
	}{
		{"the old version", false, oldID, oldID, schemas.StateFailed, schemas.CauseBoot},
		{"the same version, applied", true, newID, newID, schemas.StateSucceeded, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.update.VersionTimeout, b.update.Force = session.Grace/2, c.force
				b.up(c.before)
				b.session.Start(b.update)
				b.offered()
				b.info(b.begin())
				if c.force {
					b.answers(c.before)
				}
				b.loads(0, 20)
				b.verify()
				b.wants(saysApply)
				b.idle()
				b.reboots()
				began := time.Now()
				b.startsUp()
				b.answers(c.after)
				b.answers(c.after)
				b.ends(c.state, c.cause)
				if took := time.Since(began); took > b.update.VersionTimeout {
					t.Errorf("waited for %v", took)
				}
			})
		})
	}
}

// A forced update from another version needs no IDLE.
func TestForcedOtherVersion(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.Force = true
		b.up(oldID)
		b.session.Start(b.update)
		b.offered()
		b.info(b.begin())
		b.answers(oldID)
		b.loads(0, 20)
		b.verify()
		b.wants(saysApply)
		b.succeeds()
	})
}

// After a restart of the bridge the MCU may have booted the image already.
func TestResumeBooting(t *testing.T) {
	for _, c := range []struct {
		name   string
		force  bool
		before string // what ran, as far as that is known
		then   func(b *bench)
	}{
		{"it runs the image", false, "", func(b *bench) {
			b.startsUp()
			b.answers(newID)
			b.goesOn("it was said once")
			b.answers(newID)
			b.ends(schemas.StateSucceeded, "")
			b.saysNoMore()
		}},
		{"it runs the old version for a moment", false, "", func(b *bench) {
			b.up(oldID)
			b.comesBack(newID)
			b.ends(schemas.StateSucceeded, "")
		}},
		{"it runs the old version", false, "", func(b *bench) {
			b.up(oldID)
			b.offeredAfter(session.Settle, b.runs(oldID)) // before that, it may be about to boot
		}},
		{"it is there and does not say", false, "", func(b *bench) {
			b.offeredAfter(DefaultBootTimeout+DefaultVersionTimeout, b.doesNotSay)
		}},
		{"it is gone", false, "", func(b *bench) { b.ends(schemas.StateTimedOut, schemas.CauseTimeout) }},
		{"forced, another one ran before", true, "6", func(b *bench) { b.up(newID); b.ends(schemas.StateSucceeded, "") }},
		{"forced, it ran before", true, "7", func(b *bench) { b.up(newID); b.offeredAfter(session.Settle, b.runs(newID)) }},
		{"forced, what ran before is not known", true, "", func(b *bench) { b.up(newID); b.offeredAfter(session.Settle, b.runs(newID)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.update.ResumeAt, b.update.Force, b.update.Before = schemas.StateBooting, c.force, c.before
				b.session.Start(b.update)
				c.then(b)
			})
		})
	}
}

// offeredAfter fails the test unless the image is offered after d.
func (b *bench) offeredAfter(d time.Duration, answer func(get afpro.Message)) {
	b.Helper()
	began := time.Now()
	if !b.untilOffered(answer) {
		b.Fatalf("the update ended: %+v", <-b.Done)
	}
	if took := time.Since(began); took < d-time.Second || took > d+5*time.Second {
		b.Errorf("offered after %v, want %v", took, d)
	}
	b.toldStates()
}
