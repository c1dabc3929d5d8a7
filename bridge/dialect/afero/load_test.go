package afero

import (
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// The MCU says where to go on: behind a chunk, further on if it has kept what it
// had, or back if something is missing.
func TestMCUSaysWhereToGoOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		wanted []int // offsets, the first is what an update begins with
	}{
		{"in order", []int{0, 8, 16, 24, 32}},
		{"has the beginning already", []int{0, 24, 32}},
		{"has all but the end", []int{0, 39}},
		{"takes less than a chunk", []int{0, 3, 4, 12, 13, 21, 29, 37}},
		{"goes back a little and on", []int{0, 8, 16, 8, 16, 24, 20, 28, 36}},
		{"goes back to the beginning", []int{0, 8, 16, 0, 8, 16, 24, 32}},
		{"stands still for a while", []int{0, 8, 8, 8, 8, 16, 16, 24, 32, 32}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.accepts()
				high := 0
				for i, offset := range c.wanted {
					if i > 0 {
						b.next(uint32(offset))
					}
					b.chunkAt(offset)
					if high = max(high, offset); b.Loaded() != uint64(high) {
						t.Errorf("%d bytes reported, the MCU has asked for byte %d", b.Loaded(), high)
					}
				}
				b.next(afpro.StopOffset)
				b.verify()
				b.wants(saysApply)
				if b.Loaded() != 40 || b.Count(dialect.BytesLoaded) > 40 {
					t.Errorf("%d bytes reported, %d counted", b.Loaded(), b.Count(dialect.BytesLoaded))
				}
			})
		})
	}
}

// What an earlier session knew is where the first chunk comes from, and the MCU
// may want another one.
func TestLoadThatGoesOn(t *testing.T) {
	for _, c := range []struct{ loaded, first int }{{0, 0}, {24, 24}, {25, 25}, {39, 39}, {40, 39}, {1000, 39}} {
		virtual(t, 40, func(b *bench) {
			b.update.Loaded = uint64(c.loaded)
			b.up(oldID)
			b.accepts()
			b.chunkAt(c.first)
			b.next(8)
			b.loads(8, 40)
			b.verify()
			b.wants(saysApply)
		})
	}
}

// An MCU may ask for what is behind the image in the place of a stop.
func TestOffsetOfTheEnd(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.loads(0, 2*chunk)
		b.chunkAt(2 * chunk)
		b.next(20)
		b.next(afpro.StopOffset) // says the same
		b.verify()
		b.wants(saysApply)
	})
}

// An MCU that wants no more says what it has, or has failed.
func TestStopBeforeTheEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(b *bench)
	}{
		{"nothing else", func(b *bench) {
			began := time.Now()
			b.ends(schemas.StateFailed, schemas.CauseFlash)
			if took := time.Since(began); took < DefaultVerdictTimeout-time.Second || took > DefaultVerdictTimeout {
				b.Errorf("ended after %v", took)
			}
		}},
		{"it has the image", func(b *bench) { b.verify(); b.wants(saysApply) }},
		{"it has something else", func(b *bench) {
			b.info(afpro.Info{State: afpro.InfoVerify, SHA256: [32]byte{1}})
			b.wants(saysFail)
			b.offered()
		}},
		{"it goes on", func(b *bench) { b.next(chunk); b.loads(chunk, 40); b.verify(); b.wants(saysApply) }},
		{"it says FAIL", func(b *bench) {
			b.fail()
			b.offeredAgain()
			b.chunkAt(0)
			b.fail()
			b.ends(schemas.StateFailed, schemas.CauseFlash)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.accepts()
				b.chunkAt(0)
				b.next(afpro.StopOffset)
				c.then(b)
			})
		})
	}
}

// An MCU that has all of the image and does not say its SHA-256 is offered it
// again.
func TestNoVerdict(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.loads(0, 20)
		b.pass(DefaultVerdictTimeout - time.Second)
		b.offeredAgain()
		b.chunkAt(2 * chunk) // where it was
		b.next(afpro.StopOffset)
		b.verify()
		b.wants(saysApply)
	})
}

// An offset behind the image may be a bit error: the MCU is heard again, but not
// for ever.
func TestOffsetBeyondTheEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		times int
	}{{"once", 1}, {"as often as it may", maxBeyond}, {"once more", maxBeyond + 1}} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.accepts()
				b.loads(0, chunk)
				for range c.times {
					b.chunkAt(chunk)
					b.next(41)
				}
				if c.times > maxBeyond {
					b.ends(schemas.StateFailed, schemas.CauseProtocol)
					return
				}
				b.loads(chunk, 40)
				b.verify()
				b.wants(saysApply)
			})
		})
	}
}

// An MCU that gets nowhere is given up.
func TestMCUThatStandsStill(t *testing.T) {
	for _, c := range []struct {
		name string
		next func(i int) int
	}{
		{"asks for the same", func(int) int { return 24 }},
		{"goes to and fro", func(i int) int { return 16 + 8*(i%2) }},
		{"goes back bit by bit and on", func(i int) int { return 24 - i%4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.accepts()
				b.loads(0, 24)
				answers := 0
				for ; len(b.Done) == 0 && answers < 1000; answers++ {
					at := 24
					if answers > 0 {
						at = c.next(answers - 1)
					}
					b.chunkAt(at)
					b.next(uint32(c.next(answers)))
					synctest.Wait()
				}
				b.ends(schemas.StateFailed, schemas.CauseProtocol)
				if answers < maxStuck {
					t.Errorf("given up after %d answers", answers)
				}
			})
		})
	}
}

// A chunk whose answer does not come is sent again; the answer to the first one,
// which comes late, and that to the second ask for the same.
func TestAnswerToARepeatedChunk(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.chunkAt(0)
		b.quiet(900*time.Millisecond, "the MCU may be writing its flash")
		b.ready(200 * time.Millisecond) // in case it missed the last one: it is to say something
		b.chunkAt(0)
		b.next(chunk)
		b.chunkAt(chunk)
		b.next(chunk) // the answer to the second
		b.quiet(500*time.Millisecond, "it asked for what it has")
		b.next(2 * chunk)
		b.loads(2*chunk, 40)
		if n := b.Count(dialect.FramesRetried); n != 1 {
			t.Errorf("%d messages sent again", n)
		}
	})
}

// If that answer was meant as it was said, the chunk is sent once more after the
// wait for another one.
func TestWishThatLooksLikeAnOldAnswer(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.chunkAt(0)
		b.chunkAt(0) // the first one was lost
		b.next(chunk)
		b.chunkAt(chunk) // spoilt
		b.next(chunk)
		b.chunkAt(chunk)
		b.loadsOn(2*chunk, 40)
	})
}

// loadsOn asks for what is at an offset, and goes on from there.
func (b *bench) loadsOn(from, to int) { b.Helper(); b.next(uint32(from)); b.loads(from, to) }

// An MCU that does not answer chunks any more, but takes them, has restarted and
// its gate is shut: it is led through the start-up and goes on where it was.
func TestMCUThatAnswersNoChunk(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.loads(0, 16)
		for range maxTries {
			b.chunkAt(16)
		}
		b.offeredAgain()
		b.loads(16, 40)
		b.verify()
		b.wants(saysApply)
		b.toldStates("accepted", "installing", "accepted", "installing", "booting")
	})
}

// One that writes its flash for long but has something to say meanwhile is there.
func TestMCUThatTalksInTheMiddle(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.chunkAt(0)
		for range 4 {
			time.Sleep(answerWait / 2)
			b.send(message)
		}
		b.loadsOn(chunk, 40)
		if n := b.Count(dialect.FramesRetried); n != 0 {
			t.Errorf("%d messages sent again", n)
		}
	})
}

// Nor is one that is in the middle of a message longer than that takes.
func TestMCUThatSaysSomethingLong(t *testing.T) {
	long, err := afpro.AppendMessage(nil, afpro.Message{Type: afpro.Update, Attribute: 1, Value: make([]byte, 2000)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		then func(b *bench)
	}{
		{"instead of an answer to a chunk", func(b *bench) {
			b.accepts()
			b.chunkAt(0)
			b.sendSlowly(long)
			b.loadsOn(chunk, 40)
		}},
		{"instead of an answer to GET", func(b *bench) {
			b.reboots()
			b.startsUp()
			request := b.asked()
			b.sendSlowly(long)
			b.answer(request, oldID)
			b.answers(oldID)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				c.then(b)
				if n := b.Count(dialect.FramesRetried); n != 0 {
					t.Errorf("%d messages sent again", n)
				}
				if n := b.resets(); n > 1 {
					t.Errorf("%d restarts noticed", n)
				}
			})
		})
	}
}

// sendSlowly is send for a message that takes a while on the line.
func (b *bench) sendSlowly(message []byte) {
	b.Helper()
	b.open(len(message))
	b.raw(message...)
	b.ready(time.Minute)
}

// An MCU that wants something else before it has heard the chunk gets that.
func TestWishBeforeTheChunkIsHeard(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.loads(0, chunk) // the next chunk waits
		b.next(24)
		b.loads(24, 40)
		b.verify()
		b.wants(saysApply)
	})
}

// An MCU that gives up, restarts or falls silent in the middle is offered the image
// again, and goes on where it was.
func TestLoadThatBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		what func(b *bench)
	}{
		{"gives up", func(b *bench) { b.idle() }},
		{"restarts", func(b *bench) { b.reboots() }},
		{"falls silent", func(b *bench) { b.pass(patience + 5*time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.accepts()
				b.loads(0, 16)
				c.what(b)
				b.offeredAgain()
				b.loads(16, 40)
				b.verify()
				b.wants(saysApply)
				b.idle()
				b.reports(newID)
				b.answers(newID)
				b.ends(schemas.StateSucceeded, "")
			})
		})
	}
}

func TestLoadThatBeginsAnewForEver(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.chunkAt(0)
		for range session.MaxRestarts {
			b.idle()
			b.offeredAgain()
			b.chunkAt(0)
		}
		b.idle()
		b.ends(schemas.StateFailed, schemas.CauseSerial)
	})
}

// FAIL is one bit away from what an MCU may say: it counts when it is said twice.
func TestMCUThatReportsFAIL(t *testing.T) {
	for _, c := range []struct {
		name string
		upTo func(b *bench)
	}{
		{"offered", func(b *bench) {
			b.session.Start(b.update)
			b.offered()
			b.fail()
			b.startsUp()
			b.offered()
			b.answers(oldID)
		}},
		{"accepted", func(b *bench) {
			ready := make(chan struct{})
			b.update.Ready = ready
			b.accepts()
			b.fail()
			close(ready)
			b.offered() // it may not want it any more
			b.info(b.begin())
			b.chunkAt(0)
		}},
		{"between chunks", func(b *bench) { b.accepts(); b.loads(0, 16); b.fail(); b.offeredAgain(); b.chunkAt(16) }},
		{"all sent", func(b *bench) { b.accepts(); b.loads(0, 40); b.fail(); b.offeredAgain(); b.chunkAt(32) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				c.upTo(b)
				b.goesOn("it was said once")
				b.fail()
				b.ends(schemas.StateFailed, schemas.CauseFlash)
				b.saysNoMore()
			})
		})
	}
}

// A SHA-256 of something else: the MCU is to drop what it has, and gets all of it
// again. On a line on which nothing went wrong that is not worth many attempts.
func TestMismatch(t *testing.T) {
	other := afpro.Info{State: afpro.InfoVerify, SHA256: [32]byte{1}}
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.session.Start(b.update)
		for range maxMismatches {
			b.offered()
			b.info(b.begin())
			b.loads(0, 40)
			b.info(other)
			b.wants(saysFail)
		}
		b.ends(schemas.StateFailed, schemas.CauseChecksum)
	})
}

func TestMismatchOnALineWithNoise(t *testing.T) {
	other := afpro.Info{State: afpro.InfoVerify, SHA256: [32]byte{1}}
	for _, c := range []struct {
		name string
		n    int
	}{{"and then the image", maxMismatches}, {"for ever", session.MaxRestarts + 1}} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 40, func(b *bench) {
				b.up(oldID)
				b.session.Start(b.update)
				for range c.n {
					b.offered()
					b.info(b.begin())
					b.raw(0xff) // noise
					b.loads(0, 40)
					b.info(other)
					b.wants(saysFail)
				}
				if c.n > session.MaxRestarts {
					b.ends(schemas.StateFailed, schemas.CauseChecksum)
					return
				}
				b.offered()
				b.info(b.begin())
				b.loads(0, 40)
				b.verify()
				b.wants(saysApply)
			})
		})
	}
}

// Messages longer than any attribute end the update, if there are many.
func TestOversizedMessages(t *testing.T) {
	virtual(t, 40, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.chunkAt(0)
		for range maxOversized {
			b.goesOn("it was not said often")
			b.open(longest + 1)
			b.raw(message...)
			b.ready(time.Second)
		}
		b.ends(schemas.StateFailed, schemas.CauseProtocol)
	})
}
