package afero

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// offeredAgain is what comes when an update begins anew: the start-up, the offer,
// which the MCU accepts, and the question for what runs.
func (b *bench) offeredAgain() {
	b.Helper()
	b.startsUp()
	b.offered()
	b.info(b.begin())
	b.answers(oldID)
}

// BEGIN and IDLE differ in one bit: a refusal counts when it was said twice.
func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(b *bench)
	}{
		{"twice", func(b *bench) { b.idle(); b.ends(schemas.StateRejected, schemas.CauseRejected) }},
		{"and then accepted", func(b *bench) { b.info(b.begin()); b.loads(0, 20) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.session.Start(b.update)
				b.offered()
				b.idle()
				b.goesOn("it was said once")
				b.offered()
				c.then(b)
			})
		})
	}
}

// IDLE has no reason. An MCU that says it because it runs the image already, which
// it booted in an update that was taken back and could not tell us, has the update.
func TestRefusalOfWhatRunsAlready(t *testing.T) {
	for _, c := range []struct {
		name  string
		runs  uint64
		force bool
		state schemas.State
		cause schemas.Cause
	}{
		{"the image", newID, false, schemas.StateSucceeded, ""},
		{"another version", oldID, false, schemas.StateRejected, schemas.CauseRejected},
		{"the image, and it is to be loaded all the same", newID, true, schemas.StateRejected, schemas.CauseRejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.update.Force = c.force
				b.session.Start(b.update)
				b.offered()
				if c.force {
					b.answers(oldID)
				}
				b.idle()
				b.offered()
				b.idle()
				if !c.force {
					b.answers(c.runs)
				}
				if c.runs != oldID && !c.force {
					b.goesOn("it was said once")
					b.answers(c.runs)
				}
				b.ends(c.state, c.cause)
			})
		})
	}
}

// An IDLE before the offer is about something else.
func TestIdleBeforeTheOffer(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.session.Start(b.update)
		b.idle()
		b.idle()
		b.goesOn("nothing was offered")
		b.offered()
		b.idle()
		b.goesOn("it was said once")
	})
}

// The MCU accepts by saying the offer as it heard it: if that is another one it
// is offered again.
func TestSpoiltEchoIsNoAcceptance(t *testing.T) {
	for name, spoil := range map[string]func(i *afpro.Info){
		"type":    func(i *afpro.Info) { i.Type++ },
		"size":    func(i *afpro.Info) { i.Size ^= 1 << 20 },
		"version": func(i *afpro.Info) { i.Version = oldID },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.session.Start(b.update)
				b.offered()
				echo := b.begin()
				spoil(&echo)
				b.info(echo)
				b.offered()
				b.toldStates()
				b.info(b.begin())
				b.chunkAt(0)
				b.toldStates("accepted", "installing")
			})
		})
	}
}

// An offer that is not answered is made again, from the start-up on, and not for
// ever.
func TestUnansweredOffer(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.AnswerTimeout = 2 * time.Minute
		b.up(oldID)
		b.session.Start(b.update)
		began := time.Now()
		b.offered()
		for i := range 3 {
			b.quiet(readyAfter-100*time.Millisecond, "the MCU has yet to answer")
			b.startsUp()
			b.offered()
			b.answers(oldID)
			if took, want := time.Since(began), time.Duration(i+1)*DefaultOfferInterval; took < want || took > want+5*time.Second {
				t.Errorf("offer %d after %v", i+2, took)
			}
		}
		b.ends(schemas.StateTimedOut, schemas.CauseTimeout)
	})
}

// acceptsBeforeTheImage has the MCU accept an image that is being fetched; what it
// returns ends that.
func (b *bench) acceptsBeforeTheImage() (fetched func()) {
	b.Helper()
	ready := make(chan struct{})
	b.update.Ready = ready
	b.up(oldID)
	b.accepts()
	return func() { close(ready) }
}

// acceptsAnew has the MCU accept an offer once more and take the image.
func (b *bench) acceptsAnew() {
	b.Helper()
	b.offered()
	b.info(b.begin())
	b.loads(0, 20)
}

// A second acceptance changes nothing, neither before the image is there nor in
// the middle of it.
func TestAcceptedTwice(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		fetched := b.acceptsBeforeTheImage()
		b.info(b.begin())
		fetched()
		b.chunkAt(0)
		b.info(b.begin())
		b.next(chunk)
		b.loads(chunk, 20)
	})
}

// The image may take longer to fetch than an MCU's acceptance is worth.
func TestImageThatIsReadyLate(t *testing.T) {
	for _, c := range []struct {
		late  time.Duration
		again bool
	}{{session.GoStale - time.Second, false}, {session.GoStale + time.Second, true}} {
		t.Run(c.late.String(), func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				fetched := b.acceptsBeforeTheImage()
				b.pass(c.late)
				fetched()
				if c.again {
					b.acceptsAnew()
				} else {
					b.loads(0, 20)
				}
			})
		})
	}
}

// An MCU that restarts while the image is fetched has forgotten what it accepted.
func TestRestartWhileTheImageIsFetched(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		fetched := b.acceptsBeforeTheImage()
		b.reboots()
		b.startsUp()
		b.answers(oldID)
		b.answers(oldID)
		fetched()
		b.acceptsAnew()
	})
}

// An MCU that takes its word back while the image is fetched is asked again.
func TestIdleWhileTheImageIsFetched(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		fetched := b.acceptsBeforeTheImage()
		b.idle()
		fetched()
		b.acceptsAnew()
	})
}

// An acceptance that comes before the offer is one of an earlier offer.
func TestAcceptanceBeforeTheOffer(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.session.Start(b.update)
		b.ready(time.Second)
		b.info(b.begin())
		b.offered()
		b.toldStates()
		b.info(b.begin())
		b.loads(0, 20)
	})
}

// A refusal of before the leg began anew does not count for the next offer.
func TestRefusalOfBefore(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.session.Start(b.update)
		b.offered()
		b.idle()
		b.offered()
		b.info(b.begin())
		b.loads(0, chunk)
		b.idle() // gives up
		b.startsUp()
		b.offered()
		b.idle()
		b.goesOn("it was said once since the leg began anew")
		b.answers(oldID)
		b.offered()
	})
}

// An MCU that restarts before it has answered has not heard the offer.
func TestRestartDuringTheOffer(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.session.Start(b.update)
		b.offered()
		b.idle()
		b.reboots()
		b.startsUp()
		b.idle() // of before
		b.goesOn("it was said once since the offer")
		b.offered()
		b.info(b.begin())
		b.answers(oldID)
		b.loads(0, 20)
	})
}

// An MCU that turns out to run the image while it is offered needs no update.
func TestVersionReportedDuringTheOffer(t *testing.T) {
	for _, force := range []bool{false, true} {
		virtual(t, 20, func(b *bench) {
			b.update.Force = force
			b.startsUp()
			b.session.Start(b.update)
			b.answers(newID) // on its way already
			b.offered()
			b.reports(newID)
			if force {
				b.goesOn("it is to be updated all the same")
				return
			}
			b.ends(schemas.StateSucceeded, "")
		})
	}
}

// stages are how far an update may be when it is canceled or replaced.
var stages = []struct {
	name string
	upTo func(b *bench)
	fail bool // the MCU is in the middle of it
}{
	{"before the offer", func(b *bench) { b.session.Start(b.update); b.ready(time.Second) }, false},
	{"offered", func(b *bench) { b.session.Start(b.update); b.offered() }, false},
	{"accepted", func(b *bench) { b.update.Ready = make(chan struct{}); b.accepts() }, true},
	{"a chunk to be sent", func(b *bench) { b.accepts(); b.ready(time.Second) }, true},
	{"a chunk sent", func(b *bench) { b.accepts(); b.chunkAt(0) }, true},
	{"between chunks", func(b *bench) { b.accepts(); b.loads(0, chunk) }, true},
	{"all sent", func(b *bench) { b.accepts(); b.loads(0, 20) }, true},
	{"applied", func(b *bench) { b.loaded(); b.wants(saysApply) }, false},
}

// A canceled update says nothing more, but that the MCU is to drop what it has.
func TestCancel(t *testing.T) {
	for _, c := range stages {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				c.upTo(b)
				b.Forget()
				b.session.Cancel()
				if c.fail {
					b.wants(saysFail)
				}
				b.saysNoMore()
				if said := b.Said(); len(said) > 0 {
					t.Errorf("told %q after the cancelation", said)
				}
			})
		})
	}
}

// What the MCU has been told the length of has to come, and is nothing to go on
// from.
func TestCancelOfWhatIsAnnounced(t *testing.T) {
	for _, c := range []struct {
		name string
		upTo func(b *bench)
		more []string // what is said then
	}{
		{"the offer", func(b *bench) { b.session.Start(b.update) }, nil},
		{"a chunk", func(b *bench) { b.accepts() }, []string{saysFail}},
		{"APPLY", func(b *bench) { b.loaded() }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				c.upTo(b)
				b.ready(time.Second)
				counts := b.sync(0)
				b.ready(time.Second)
				b.session.Cancel()
				synctest.Wait()
				b.Forget()
				b.ack(counts)
				b.ready(time.Second)
				if m, err := afpro.ParseMessage(b.bytes(int(counts.ASR))); err != nil || m.Attribute != afpro.ChannelToMCU {
					t.Errorf("said %q, %v", describe(m), err)
				}
				b.ready(time.Second)
				for _, say := range c.more {
					b.wants(say)
				}
				b.info(b.begin())
				b.next(chunk)
				b.idle()
				b.saysNoMore()
				if said := b.Said(); len(said) > 0 {
					t.Errorf("told %q after the cancelation", said)
				}
			})
		})
	}
}

// saysNoMore fails the test if the bridge says anything in two minutes, but what
// is allowed.
func (b *bench) saysNoMore(allowed ...string) {
	b.Helper()
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		if _, ok := b.peek(time.Minute); !ok {
			return
		}
		b.ready(0)
		c := b.open(0)
		if c.ASR == 0 {
			continue
		}
		m, err := afpro.ParseMessage(b.bytes(int(c.ASR)))
		if say := describe(m); err != nil || !slices.Contains(allowed, say) {
			b.Fatalf("the bridge said %q, %v", say, err)
		}
		b.ready(time.Second)
	}
}

// A replaced update says nothing more either, and the new one goes through.
func TestReplace(t *testing.T) {
	for _, c := range stages {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				c.upTo(b)
				b.Forget()
				other := dialecttest.NewRecorder()
				b.update.Version, b.update.VersionID, b.update.Reporter = "3.0.0", 8, other
				ready := make(chan struct{})
				close(ready)
				b.update.Ready = ready
				b.session.Start(b.update)
				if c.fail {
					b.wants(saysFail)
				}
				b.offered()
				b.info(b.begin())
				b.loads(0, 20)
				b.verify()
				b.wants("UPDATE channel to MCU: OTA info APPLY version 8")
				b.idle()
				b.reports(8)
				b.answers(8)
				if e := <-other.Done; e.State != schemas.StateSucceeded || e.HostVersion != "8" {
					t.Errorf("the second update: %+v", e)
				}
				if want := []string{"2101=8"}; !slices.Equal(b.Said(), want) {
					t.Errorf("of the first one was told %q", b.Said())
				}
			})
		})
	}
}

// What cannot be recorded is not done.
func TestNothingWithoutItsRecord(t *testing.T) {
	full := errors.New("disk full")
	for _, c := range []struct {
		name string
		upTo func(b *bench) // refuses, and goes on to where that matters
	}{
		{"accepted", func(b *bench) { b.session.Start(b.update); b.offered(); b.Refuse(full); b.info(b.begin()) }},
		{"installing", func(b *bench) { b.accepts(); b.chunkAt(0); b.Refuse(full); b.next(chunk) }},
		{"all installed", func(b *bench) {
			b.accepts()
			b.loads(0, 2*chunk)
			b.chunkAt(2 * chunk)
			b.Refuse(full)
			b.next(afpro.StopOffset)
		}},
		{"booting", func(b *bench) { b.accepts(); b.loads(0, 20); b.Refuse(full); b.verify() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				c.upTo(b)
				b.ends(schemas.StateFailed, schemas.CauseStorage)
				b.saysNoMore(saysFail)
			})
		})
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestImageThatCannotBeRead(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.update.Image = broken{}
		b.up(oldID)
		b.accepts()
		b.ends(schemas.StateFailed, schemas.CauseStorage)
		b.saysNoMore(saysFail)
	})
}
