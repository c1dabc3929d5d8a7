package afero

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas"
	"davit/schemas/afpro"
)

// told says which versions were told so far.
func (b *bench) told() []string {
	synctest.Wait()
	return slices.DeleteFunc(b.Said(), func(s string) bool { return s[0] >= 'a' })
}

// wantTold fails the test unless these versions were told so far.
func (b *bench) wantTold(want ...string) {
	b.Helper()
	if got := b.told(); !slices.Equal(got, want) {
		b.Fatalf("told %q, want %q", got, want)
	}
}

const (
	told6 = "2101=6"
	told7 = "2101=7"
)

// Nothing shows that a bit of a report was wrong, so one report is a claim. It
// counts when it was said twice in any way.
func TestVersionSaidTwice(t *testing.T) {
	for _, c := range []struct {
		name  string
		twice func(b *bench)
	}{
		{"answers", func(b *bench) { b.answers(oldID); b.wantTold(); b.answers(oldID) }},
		{"a report and an answer", func(b *bench) { b.reports(oldID); b.wantTold(); b.answers(oldID) }},
		{"an answer and a report", func(b *bench) { b.answers(oldID); b.wantTold(); b.reports(oldID) }},
		{"reports", func(b *bench) { b.reports(oldID); b.wantTold(); b.reports(oldID) }},
		{"and something else between", func(b *bench) {
			b.reports(newID)
			b.reports(oldID)
			b.reports(newID)
			b.wantTold()
			b.reports(oldID)
			b.wantTold()
			b.reports(oldID)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.startsUp()
				c.twice(b)
				b.wantTold(told6)
				b.reports(oldID) // it is known
				b.wantTold(told6, told6)
			})
		})
	}
}

// An MCU that does not answer GETs of its version is led through the start-up,
// after which it may say it again by itself.
func TestVersionThatCannotBeAskedFor(t *testing.T) {
	for _, c := range []struct {
		name string
		says func(b *bench)
		want []string
	}{
		{"it says it again", func(b *bench) { b.reports(oldID) }, []string{told6}},
		{"it says nothing", func(b *bench) {
			b.unknown() // the start-up asks for it too
			b.pass(restateWait - time.Second)
			b.wantTold()
			b.pass(time.Second)
		}, []string{told6}},
		{"it says something else", func(b *bench) {
			b.reports(newID)
			b.wantTold()
			b.unknown()
			b.startsUp() // for what it says now
			b.reports(newID)
		}, []string{told7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.startsUp()
				b.reports(oldID)
				b.unknown()
				b.startsUp()
				b.wantTold()
				c.says(b)
				b.wantTold(c.want...)
			})
		})
	}
}

// A claim that nothing contradicts counts after a while, even if the questions for
// it are never answered: that is no restart if none ever was.
func TestVersionThatNothingContradicts(t *testing.T) {
	for _, c := range []struct {
		name string
		says func(b *bench)
	}{
		{"reported before the first question", func(b *bench) { b.reports(oldID); b.asked() }},
		{"reported behind the first question", func(b *bench) { b.asked(); b.reports(oldID) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.startsUp()
				began := time.Now()
				c.says(b)
				b.asked()
				b.pass(claimWait - time.Since(began) - 100*time.Millisecond)
				b.wantTold()
				b.pass(300 * time.Millisecond)
				b.wantTold(told6)
				b.pass(10 * time.Second)
				if n := b.resets(); n != 0 {
					t.Errorf("%d restarts noticed", n)
				}
			})
		})
	}
}

// One question at a time is under way, whatever looks like its answer before it
// was heard.
func TestOneQuestionAtATime(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.startsUp()
		b.ready(time.Second) // the question waits
		b.answer(1, oldID)
		b.asked()
		b.quiet(askWait-100*time.Millisecond, "a question is under way")
	})
}

// What was reported before a restart is not what runs now.
func TestVersionFromBeforeARestart(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(b *bench)
		want   []string
	}{
		{"a claim", func(b *bench) { b.startsUp(); b.reports(oldID) }, nil},
		{"a known version", func(b *bench) { b.up(oldID) }, []string{told6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				c.before(b)
				b.reboots()
				b.startsUp()
				b.reports(oldID)
				b.wantTold(c.want...) // it is a claim once more
				b.answers(oldID)
				b.wantTold(append(c.want, told6)...)
			})
		})
	}
}

// An MCU that has answered GETs and does not any more has restarted: its gate is
// shut until it is led through the start-up.
func TestMCUThatStopsAnswering(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.startsUp()
		b.answers(oldID)
		b.asked()
		b.quiet(askWait-100*time.Millisecond, "the MCU has yet to answer")
		b.up(oldID)
		b.wantTold(told6)
		if n := b.resets(); n != 1 {
			t.Errorf("%d restarts noticed", n)
		}
	})
}

// One that talks about other things is not there to be led, but has not for ever.
func TestMCUThatTalksInsteadOfAnswering(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.startsUp()
		b.answers(oldID)
		b.asked()
		began := time.Now()
		for time.Since(began) < talkLimit*askWait-time.Second/2 {
			b.send(message)
			time.Sleep(askWait / 2)
		}
		if n := b.resets(); n != 0 {
			t.Errorf("taken for one that has restarted after %v", time.Since(began))
		}
		b.up(oldID)
	})
}

// Values that are no version, and versions of other types.
func TestOtherVersions(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.Forget()
		for _, value := range [][]byte{nil, {7}, make([]byte, 7), make([]byte, 9)} {
			for range 2 {
				b.tells(afpro.VersionAttribute(firmwareType), value...)
			}
		}
		b.wantTold()
		for range 2 {
			b.tells(2000+afpro.MaxType, uint64le(1<<63)...)
		}
		b.wantTold("2200=9223372036854775808")
	})
}

// What runs is asked for now and then, since an MCU that was exchanged may say
// nothing by itself.
func TestVersionsAreAskedForNowAndThen(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.pass(9 * time.Minute)
		b.answers(newID) // in the tenth minute
		b.answers(newID)
		b.wantTold(told6, told7)
	})
}

// An update to what is said to run already ends when that is said again, and not
// before.
func TestVersionThatRunsAlready(t *testing.T) {
	for _, c := range []struct {
		name  string
		force bool
		then  func(b *bench)
	}{
		{"it says so", false, func(b *bench) { b.answers(newID); b.ends(schemas.StateSucceeded, "") }},
		{"it says another one", false, func(b *bench) { b.answers(oldID); b.answers(oldID); b.offered() }},
		{"it says nothing", false, func(b *bench) { b.asked(); b.startsUp(); b.unknown(); b.offered() }},
		{"it says so, and is to be updated all the same", true, func(b *bench) { b.offered(); b.answers(newID) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(newID)
				b.update.Force = c.force
				b.session.Start(b.update)
				b.goesOn("it was said before the update")
				c.then(b)
				b.goesOn("that is no proof")
			})
		})
	}
}

// A version from before a restart does not end an update.
func TestOldReportIsNoProof(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(newID)
		b.reboots()
		b.startsUp()
		b.session.Start(b.update)
		b.answers(newID) // on its way already
		b.goesOn("it was said once since the restart")
		b.offered()
		b.goesOn("it was said once since the restart")
	})
}
