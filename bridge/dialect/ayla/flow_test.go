package ayla

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/tlv"
)

// The whole of an update, byte for byte: what leaves the bridge, acks
// included. The offer, the LOAD and the BOOT are those of docs/wire.md section
// 7 but for sequence number, request id and CRC.
func TestBytesOnTheLine(t *testing.T) {
	virtual(t, 4, func(b *bench) {
		copy(b.image, []byte{0x7e, 0x7d, 0x20, 0x00})
		b.version("1.0.0") // seq 0
		b.settle()
		b.session.Start(b.update)
		b.want(t, tlv.OpOTA)
		b.goAhead() // seq 1
		b.load(t, b.image)
		b.stat(tlv.CodeOK) // seq 2
		b.want(t, tlv.OpOTABoot)
		b.bootsTo(newVersion) // seq 0, 1
		b.wantEnd(schemas.StateSucceeded, "", 0)
		b.settle()
		want := []string{
			"7e 01 00 01110001 170101 8743 7e",                        // CONNECT, cloud reachable
			"7e 02 00 7b6d 7e",                                        // ack of the version
			"7e 01 01 01110002 170101 5b4c 7e",                        // CONNECT again: seq 0 says that the MCU has just started
			"7e 01 02 01060003 fb44 7e",                               // SEND_PROP without a name: features
			"7e 01 03 000d0004 0505322e312e30 120400000004 432b 7e",   // MCU_OTA
			"7e 02 01 6b4c 7e",                                        // ack of the go
			"7e 01 04 000e0005 110400000000 04047d5e7d5d2000 d1a7 7e", // MCU_OTA_LOAD
			"7e 02 02 5b2f 7e",                                        // ack of STAT(0)
			"7e 01 05 00100006 0505322e312e30 7163 7e",                // MCU_OTA_BOOT
			"7e 02 00 7b6d 7e",                                        // ack of LISTEN_ENB with seq 0
			"7e 01 06 01110007 170101 2011 7e",                        // CONNECT
		}
		got := b.heard()
		for i, w := range want {
			w = strings.ReplaceAll(w, " ", "")
			if i >= len(got) || got[i] != w {
				t.Fatalf("frame %d\n got %v\nwant %s", i+1, got[min(i, len(got)-1):], w)
			}
		}
	})
}

func TestUpdateFromOfferToVersion(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.session.Start(b.update)
		offer, err := tlv.ParseOffer(b.want(t, tlv.OpOTA))
		if err != nil || offer.Version != newVersion || offer.Size != 1000 {
			t.Fatalf("offer %+v, error %v", offer, err)
		}
		b.goAhead()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		if v, err := tlv.ParseBoot(b.want(t, tlv.OpOTABoot)); err != nil || v != newVersion {
			t.Fatalf("boot of %q, error %v", v, err)
		}
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

// begin carries the update to the moment after the go.
func (b *bench) begin() {
	b.Helper()
	b.session.Start(b.update)
	b.want(b.T, tlv.OpOTA)
	b.goAhead()
}

func TestStatEndsTheLoadAtAnyMoment(t *testing.T) {
	for _, c := range []struct {
		code  tlv.Code
		cause schemas.Cause
	}{
		{tlv.CodeInternal, schemas.CauseFlash}, {tlv.CodeChecksum, schemas.CauseChecksum}, {tlv.CodeConnection, schemas.CauseSerial},
		{tlv.CodeTimeout, schemas.CauseTimeout}, {0x77, schemas.CauseRejected},
	} {
		for _, at := range []int{0, 255, 1000} {
			t.Run(fmt.Sprintf("%v at %d", c.code, at), func(t *testing.T) {
				virtual(t, 1000, func(b *bench) {
					b.begin()
					b.loadFrom(t, b.image, 0, at)
					b.stat(c.code)
					b.wantEnd(schemas.StateFailed, c.cause, c.code)
				})
			})
		}
	}
}

func TestMCUThatLostItsPlaceIsOfferedAgain(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.begin()
		b.loadFrom(t, b.image, 0, 510)
		b.stat(tlv.CodeInvalidOffset)
		b.passLoads(t)
		b.goAhead()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

func TestMCUThatKeepsLosingItsPlace(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.begin()
		for range session.MaxRestarts {
			b.loadFrom(t, b.image, 0, 255)
			b.stat(tlv.CodeInvalidOffset)
			b.passLoads(t)
			b.goAhead()
		}
		b.loadFrom(t, b.image, 0, 255)
		b.stat(tlv.CodeInvalidOffset)
		b.wantEnd(schemas.StateFailed, schemas.CauseProtocol, tlv.CodeInvalidOffset)
	})
}

// A second go says that the MCU begins at offset 0.
func TestSecondGoRewinds(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.begin()
		b.loadFrom(t, b.image, 0, 510)
		b.goAhead()
		b.rewound(t)
		b.loadFrom(t, b.image, 255, 1000)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

// The first frame of an MCU, seq 0, is sent again because its ack was lost: no
// restart.
func TestRepeatedFirstGo(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.begin() // the go has seq 0
		b.loadFrom(t, b.image, 0, 255)
		b.restart()
		b.goAhead()
		b.loadFrom(t, b.image, 255, 1000)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

// The image may take longer to fetch than an MCU's go is worth.
func TestImageThatIsReadyLate(t *testing.T) {
	for _, c := range []struct {
		late  time.Duration
		again bool
	}{{10 * time.Second, false}, {40 * time.Second, true}} {
		t.Run(c.late.String(), func(t *testing.T) {
			virtual(t, 300, func(b *bench) {
				ready := make(chan struct{})
				b.update.Ready = ready
				b.begin()
				time.Sleep(c.late)
				close(ready)
				if c.again {
					b.want(t, tlv.OpOTA)
					b.goAhead()
				}
				b.load(t, b.image)
			})
		})
	}
}

// The MCU restarts while the image is being fetched: it has forgotten the
// offer.
func TestRestartWhileTheImageIsFetched(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		ready := make(chan struct{})
		b.update.Ready = ready
		b.begin()
		b.settle()
		b.restart()
		b.listenEnable()
		b.settle()
		close(ready)
		b.want(t, tlv.OpOTA)
		b.goAhead()
		b.load(t, b.image)
	})
}

func TestUnansweredOfferIsRepeated(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.session.Start(b.update)
		b.want(t, tlv.OpOTA)
		began := time.Now()
		for range 3 {
			b.want(t, tlv.OpOTA)
		}
		if took := time.Since(began); took < 3*DefaultOfferInterval || took > 3*DefaultOfferInterval+time.Second {
			t.Errorf("three more offers within %v", took)
		}
		b.wantEnd(schemas.StateTimedOut, schemas.CauseTimeout, 0)
	})
}

// An MCU that is busy is asked again and again, and the end says that it was.
func TestBusyMCUIsAskedSoonAndNotForEver(t *testing.T) {
	for _, c := range []struct {
		code  tlv.Code
		cause schemas.Cause
		busy  bool
	}{
		{tlv.CodeBusyRetry, schemas.CauseRejected, true},
		{tlv.CodeInternal, schemas.CauseFlash, false},
	} {
		t.Run(c.code.String(), func(t *testing.T) {
			virtual(t, 300, func(b *bench) {
				b.session.Start(b.update)
				go func() {
					for f := range b.frames {
						if p, err := tlv.ParsePacket(f.Payload); err == nil && p.Op == tlv.OpOTA {
							b.stat(c.code)
						}
					}
				}()
				if r := b.wantEnd(schemas.StateRejected, c.cause, c.code); r.Busy != c.busy || r.Unexplained {
					t.Errorf("busy %t, unexplained %t", r.Busy, r.Unexplained)
				}
			})
		})
	}
}

// ADS_BUSY, and a NAK, end the update at once.
func TestBusyOnceAndForAll(t *testing.T) {
	for name, answer := range map[string]func(b *bench, req uint16) tlv.Code{
		"status": func(b *bench, _ uint16) tlv.Code { b.stat(tlv.CodeServiceBusy); return tlv.CodeServiceBusy },
		"NAK": func(b *bench, req uint16) tlv.Code {
			b.send(tlv.AppendNAK(nil, tlv.OpControlNAK, req, tlv.CodeBusyRetry))
			return tlv.CodeBusyRetry
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, 300, func(b *bench) {
				b.session.Start(b.update)
				p := b.want(t, tlv.OpOTA)
				code := answer(b, p.Req)
				if r := b.wantEnd(schemas.StateRejected, schemas.CauseRejected, code); !r.Busy {
					t.Error("not because it is busy")
				}
			})
		})
	}
}

func TestNAKOfTheOffer(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.session.Start(b.update)
		p := b.want(t, tlv.OpOTA)
		b.send(tlv.AppendNAK(nil, tlv.OpControlNAK, p.Req+100, tlv.CodeInvalidOp)) // of something else
		b.send(tlv.AppendNAK(nil, tlv.OpControlNAK, p.Req, tlv.CodeInvalidOp))
		b.wantEnd(schemas.StateRejected, schemas.CauseRejected, tlv.CodeInvalidOp)
	})
}

func TestAlreadyIsBelievedOnlyWithTheVersion(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.session.Start(b.update)
		b.want(t, tlv.OpOTA)
		b.stat(tlv.CodeAlready)
		b.want(t, tlv.OpSendProp)
		b.version(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

// An MCU that runs the version already is not loaded, unless that is forced.
func TestVersionThatRunsAlready(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.version(newVersion)
		b.settle()
		b.drain(t)
		b.session.Start(b.update)
		b.want(t, tlv.OpSendProp)
		b.settle()
		if slices.Contains(b.Said(), "succeeded") || len(b.frames) > 0 {
			t.Error("what was reported before the update was taken for proof, or the image was offered")
		}
		b.version(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
		b.update.Force = true
		b.begin()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.version(newVersion) // before the restart: proves nothing
		b.settle()
		if slices.Contains(b.Said()[3:], "succeeded") {
			t.Error("succeeded before the MCU restarted")
		}
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

func TestResumeBooted(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		b.want(t, tlv.OpConnect)
		b.version(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
		b.settle()
		for len(b.frames) > 0 {
			if p := b.next(t, time.Second); p.Op == tlv.OpOTA {
				t.Error("offered after success")
			}
		}
	})
}

func TestResumeNotBooted(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		began := time.Now()
		b.version("1.0.0")
		b.want(t, tlv.OpOTA)
		if took := time.Since(began); took < session.Settle {
			t.Errorf("offered after %v: it may be about to boot", took)
		}
	})
}

func TestResumeStillOldForAMoment(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		b.version("1.0.0")
		time.Sleep(3 * time.Second)
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}

func TestResumeRefused(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		b.settle()
		b.stat(tlv.CodeChecksum)
		b.wantEnd(schemas.StateFailed, schemas.CauseChecksum, tlv.CodeChecksum)
	})
}

func TestResumeMCUThatSaysNothing(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		for b.next(t, 10*time.Minute).Op != tlv.OpOTA {
		}
	})
}

func TestResumeMCUThatIsGone(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.hush(func(tlv.Frame) bool { return true })
		b.update.ResumeAt = schemas.StateBooting
		b.session.Start(b.update)
		b.wantEnd(schemas.StateTimedOut, schemas.CauseTimeout, 0)
	})
}

// What cannot be recorded is not done.
func TestNoBootWithoutItsRecord(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.begin()
		b.load(t, b.image)
		b.Refuse(errors.New("disk full"))
		b.stat(tlv.CodeOK)
		b.wantEnd(schemas.StateFailed, schemas.CauseStorage, 0)
		time.Sleep(time.Minute)
		for len(b.frames) > 0 {
			if p := b.next(t, time.Second); p.Op == tlv.OpOTABoot {
				t.Error("the MCU was told to boot")
			}
		}
	})
}

func TestCancelAndReplace(t *testing.T) {
	virtual(t, 3000, func(b *bench) {
		b.begin()
		b.loadFrom(t, b.image, 0, 510)
		b.session.Cancel()
		time.Sleep(time.Minute)
		if loads := len(b.frames); loads > 1 {
			t.Errorf("%d frames after the cancelation", loads)
		}
		for len(b.frames) > 0 {
			b.next(t, time.Second)
		}
		other := dialecttest.NewRecorder()
		second := b.update
		second.Version, second.Reporter = "3.0.0", other
		b.session.Start(b.update)
		b.want(t, tlv.OpOTA)
		b.session.Start(second)
		synctest.Wait()
		if o, err := tlv.ParseOffer(b.want(t, tlv.OpOTA)); err != nil || o.Version != "3.0.0" {
			t.Errorf("offer %+v, error %v", o, err)
		}
		b.goAhead()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		b.want(t, tlv.OpOTABoot)
		b.bootsTo("3.0.0")
		if e := <-other.Done; e.State != schemas.StateSucceeded {
			t.Errorf("the second update: %+v", e)
		}
		if len(b.Done) != 0 {
			t.Error("the first one reported an end")
		}
	})
}

func TestImageThatCannotBeRead(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.update.Image = broken{}
		b.begin()
		b.wantEnd(schemas.StateFailed, schemas.CauseStorage, 0)
	})
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestUpdateThatDoesNotFitTheWire(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.update.Version = strings.Repeat("x", 256)
		b.session.Start(b.update)
		b.wantEnd(schemas.StateFailed, schemas.CauseProtocol, 0)
	})
}

func TestOnlyNoise(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.hush(func(tlv.Frame) bool { return true })
		b.update.AnswerTimeout = time.Minute
		b.session.Start(b.update)
		for range 20 {
			time.Sleep(time.Second)
			_, _ = b.end.Write([]byte{0x7e, 1, 2, 3, 4, 5, 0x7e})
		}
		b.wantEnd(schemas.StateFailed, schemas.CauseSerial, 0)
		if n := b.Count(dialect.FramesBad); n != 20 {
			t.Errorf("%d bad frames counted, 20 were sent", n)
		}
	})
}

func TestHeard(t *testing.T) {
	// The bench's own reading of the line, against a vector of docs/wire.md section 7.
	d, err := hex.DecodeString("7e02007b6d7e")
	if err != nil {
		t.Fatal(err)
	}
	if got := split(append(d, d[1:]...)); len(got) != 2 || got[1] != "7e02007b6d7e" {
		t.Errorf("split: %v", got)
	}
}
