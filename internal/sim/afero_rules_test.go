package sim

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/afpro"
)

// TestAferoMCUSpeaksTheDocumentedTransactions holds the MCU against the
// transactions of docs/afero-wire.md sections 2 and 4, byte by byte.
func TestAferoMCUSpeaksTheDocumentedTransactions(t *testing.T) {
	const (
		ready    = "32"
		zero     = "30 00 00 00 00 30"
		zeroAck  = "31 00 00 00 00 31"
		fromASR  = "30 00 00 0c 00 3c"
		asrAck   = "31 00 00 0c 00 3d"
		protocol = "0a 00 0d 00 b8 04 00 07 02 00 02 00"
		fromMCU  = "30 0c 00 00 00 3c"
		mcuAck   = "31 0c 00 00 00 3d"
		answer   = "0a 00 0d 01 b9 04 00 01 02 00 02 00"
		both     = "30 0c 00 0c 00 48"
	)
	synctest.Test(t, func(t *testing.T) {
		say, hear, done := onTheWire(t, NewAferoMCU(AferoConfig{}))
		defer done()
		say(ready) // a zero sync
		hear(zero)
		say(zero + ready)
		hear(zeroAck)
		say(ready)
		say("00 41 ff" + ready) // bytes that mean nothing, then the module sends
		hear(zero)
		say(ready + ready + fromASR) // ready bytes before the Response are skipped
		say(ready)
		hear(asrAck)
		say(ready + protocol)
		say(ready)
		hear(fromMCU) // what the MCU has to say to that, of its own accord
		say(both)     // a collision: the MCU insists
		say(ready)
		hear(fromMCU)
		say("30 0c 00 00 00 3d") // a Response that was damaged, and again at the next ready byte
		say(ready)
		hear(fromMCU)
		say(fromMCU + ready)
		hear(mcuAck)
		say(ready)
		hear(answer)
		say(ready)
		say(ready)
		hear(zero)
	})
}

// TestAferoMCUWaitsForTheStartUp: nothing leaves it before it has seen a version
// and the state that goes with it.
func TestAferoMCUWaitsForTheStartUp(t *testing.T) {
	const old, newer = afpro.ExtendedStates, afpro.ExtendedStates + 1
	for _, tc := range []struct {
		name        string
		application uint64
		state       byte
		opens       bool
	}{
		{"newer, initialized", newer, afpro.ASRInitialized, true},
		{"newer, linked", newer, afpro.ASRLinked, false},
		{"newer, rebooted", newer, afpro.ASRRebooted, false},
		{"old, linked", old, afpro.ASRLinked, true},
		{"old, initialized", old, afpro.ASRInitialized, false},
		{"no version", 0, afpro.ASRInitialized, false},
	} {
		for _, protocol := range []int{1, 2} {
			t.Run(tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newAferoRig(t, AferoConfig{Protocol: protocol, MCUConfig: MCUConfig{Traffic: time.Second}}, aferoLine())
					defer r.close()
					time.Sleep(5 * time.Second)
					if err := r.startUp(2, tc.application, tc.state); err != nil {
						t.Fatal(err)
					}
					_, err := r.await(time.Second, afpro.MCUCapabilities)
					opens := err == nil
					if opens != tc.opens {
						t.Errorf("protocol %d: lets traffic out: %v", protocol, opens)
					}
					if n := r.updates; !opens {
						if _, _ = r.await(20*time.Second, ownAttribute); r.updates != n {
							t.Errorf("protocol %d: %d messages came before it was let", protocol, r.updates-n)
						}
					}
					asked := r.told[afpro.MCUProtocol] != nil
					if asked != (protocol == 2) {
						t.Errorf("protocol %d: says its protocol version: %v", protocol, asked)
					}
				})
			})
		}
	}
}

// TestAferoMCUQueueIsSmall: what finds it full is lost.
func TestAferoMCUQueueIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{Protocol: 1, MCUConfig: MCUConfig{Report: ReportOnRequest}}, aferoLine())
		defer r.close()
		for range aferoQueue + 4 {
			if err := r.message(afpro.Message{Type: afpro.Get, Attribute: ownAttribute}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if s := r.mcu.Stats(); s.Dropped != 4 || r.updates != 0 {
			t.Errorf("before the start-up: %d messages came, %+v", r.updates, s)
		}
		if err := r.startUp(2, newApplication, afpro.ASRInitialized); err != nil {
			t.Fatal(err)
		}
		_, _ = r.await(5*time.Second, afpro.MCUCapabilities) // which found no room
		if s := r.mcu.Stats(); s.Dropped != 6 || r.updates != aferoQueue {
			t.Errorf("after the start-up: %d messages came, %+v", r.updates, s)
		}
	})
}

// TestAferoMCUReportsOnce: after an update, and not at the start-ups that
// follow.
func TestAferoMCUReportsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Report: ReportAfterUpdate}}, aferoLine())
		defer r.close()
		reports := func() bool {
			t.Helper()
			if err := r.boot(); err != nil {
				t.Fatal(err)
			}
			_, err := r.await(20*time.Second, afpro.VersionAttribute(DefaultFirmwareType))
			return err == nil
		}
		if reports() {
			t.Error("reports after a plain start")
		}
		if err := r.load(7, BuildDemoImage("2.0.0", 3000, 1)); err != nil {
			t.Fatal(err)
		}
		if !reports() {
			t.Error("does not report after an update")
		}
		if reports() {
			t.Error("reports at the module's next start-up too")
		}
	})
}

func TestAferoMCUAnswersQuestions(t *testing.T) {
	version := afpro.VersionAttribute(DefaultFirmwareType)
	for _, tc := range []struct {
		name   string
		cfg    AferoConfig
		old    bool // a module of protocol version 1
		ask    afpro.Message
		state  afpro.State
		reason afpro.Reason
		value  []byte
	}{
		{name: "GET of its version", ask: afpro.Message{Type: afpro.Get, Attribute: version}, reason: afpro.ReasonGet, value: []byte{1, 0, 0, 0, 0, 0, 0, 0}},
		{name: "GET of its version, not supported", cfg: AferoConfig{NoGet: true}, ask: afpro.Message{Type: afpro.Get, Attribute: version}, state: afpro.StateUnknownAttribute, reason: afpro.ReasonGet, value: []byte{}},
		{name: "GET of another type's version", cfg: AferoConfig{Type: 103}, ask: afpro.Message{Type: afpro.Get, Attribute: version}, state: afpro.StateUnknownAttribute, reason: afpro.ReasonGet, value: []byte{}},
		{name: "GET of an attribute of the product", ask: afpro.Message{Type: afpro.Get, Attribute: ownAttribute}, reason: afpro.ReasonGet, value: []byte{17}},
		{name: "GET by an old module", old: true, ask: afpro.Message{Type: afpro.Get, Attribute: ownAttribute}, reason: afpro.ReasonUnsolicited, value: []byte{17}},
		{name: "SET", ask: afpro.Message{Type: afpro.Set, Attribute: ownAttribute, Value: []byte("on")}, reason: afpro.ReasonServiceSet, value: []byte("on")},
		{name: "SET of what is not its own", ask: afpro.Message{Type: afpro.Set, Attribute: 1024, Value: []byte("on")}, state: afpro.StateUnknownAttribute, reason: afpro.ReasonServiceSet, value: []byte{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.Report = ReportOnRequest
				r := newAferoRig(t, tc.cfg, aferoLine())
				defer r.close()
				protocol := uint16(2)
				if tc.old {
					protocol = 1
				}
				if err := r.startUp(protocol, newApplication, afpro.ASRInitialized); err != nil {
					t.Fatal(err)
				}
				tc.ask.Request = 99
				if err := r.message(tc.ask); err != nil {
					t.Fatal(err)
				}
				m, err := r.await(time.Second, tc.ask.Attribute)
				if err != nil || m.Request != 99 || m.State != tc.state || m.Reason != tc.reason || !bytes.Equal(m.Value, tc.value) {
					t.Errorf("answered %+v, %v", m, err)
				}
			})
		})
	}
}

// TestAferoMCUWaitsForAnswers: while a SET or GET has no answer nothing else is
// sent, for ten seconds at most.
func TestAferoMCUWaitsForAnswers(t *testing.T) {
	for _, mute := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, AferoConfig{SetVersion: true, Protocol: 1}, aferoLine())
			defer r.close()
			r.mute = mute
			begin := time.Now()
			if err := r.startUp(2, newApplication, afpro.ASRInitialized); err != nil {
				t.Fatal(err)
			}
			last := time.Duration(0)
			for _, of := range []afpro.Attribute{afpro.MCUCapabilities, afpro.ASRCapabilities, afpro.VersionAttribute(DefaultFirmwareType)} {
				if _, err := r.await(time.Minute, of); err != nil {
					t.Fatalf("%v: %v", of, err)
				}
				last = time.Since(begin)
			}
			if late := last >= 2*answerTimeout; late != mute || last > 2*answerTimeout+5*time.Second {
				t.Errorf("the third message came after %v", last)
			}
			time.Sleep(time.Minute)
			want := 0
			if mute {
				want = 3
			}
			if n := r.mcu.Stats().Unanswered; n != want {
				t.Errorf("%d went unanswered, want %d", n, want)
			}
		})
	}
}

// TestAferoMCUGivesUp: a Request without a Response is sent ten times, with a
// second of waiting and one of rest, and then the module's reset line is pulled.
func TestAferoMCUGivesUp(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, AferoConfig{KeepsModule: keeps, MCUConfig: MCUConfig{Traffic: time.Minute}}, aferoLine())
			defer r.close()
			if err := r.boot(); err != nil {
				t.Fatal(err)
			}
			var first time.Time
			for i := range DefaultSyncRetries {
				e, err := r.event(time.Minute)
				if err != nil || e.Kind != afpro.EventSync || e.Sync.MCU == 0 {
					t.Fatalf("Request %d: %+v, %v", i, e, err)
				}
				if i == 0 {
					first = time.Now()
				}
				if after := time.Since(first); after != time.Duration(i)*2*time.Second {
					t.Errorf("Request %d after %v", i, after)
				}
			}
			if _, err := r.event(10 * time.Minute); !errors.Is(err, errSilence) {
				t.Errorf("after the last Request: %v", err)
			}
			s := r.mcu.Stats()
			if resets := s.ModuleResets == 1; s.GivenUp != 1 || resets == keeps {
				t.Errorf("%+v", s)
			}
			r.write(afpro.Ready)
			if e, err := r.event(time.Second); err != nil || e.Kind != afpro.EventSync || (e.Sync.MCU > 0) != keeps {
				t.Errorf("at the next ready byte: %+v, %v", e, err)
			}
		})
	}
}

// TestAferoMCUStepsAtReadyBytesOnly: once a Request that failed has been sent
// again, the time for that is over.
func TestAferoMCUStepsAtReadyBytesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Traffic: time.Minute}}, aferoLine())
		defer r.close()
		if err := r.boot(); err != nil {
			t.Fatal(err)
		}
		e, err := r.event(time.Minute)
		if err != nil || e.Sync.MCU == 0 {
			t.Fatalf("%+v, %v", e, err)
		}
		r.write(append(make([]byte, afpro.SyncSize), afpro.Ready)...)
		if again, err := r.event(100 * time.Millisecond); err != nil || again.Sync != e.Sync {
			t.Fatalf("after a damaged Response: %+v, %v", again, err)
		}
		r.write(afpro.AppendSync(nil, e.Sync)...)
		if e, err := r.event(20 * time.Second); !errors.Is(err, errSilence) {
			t.Errorf("without a ready byte: %+v, %v", e, err)
		}
		r.write(afpro.Ready)
		if e, err := r.event(time.Second); err != nil || e.Sync.Type != afpro.SyncAck {
			t.Errorf("at a ready byte: %+v, %v", e, err)
		}
	})
}

// TestAferoMCUKeepsAModuleThatAnswers: rubbish, ten times in no time, ends the
// transaction but is no reason to reset the module.
func TestAferoMCUKeepsAModuleThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{}, aferoLine())
		defer r.close()
		for range DefaultSyncRetries {
			r.write(afpro.Ready)
			if _, err := r.event(100 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			r.write(make([]byte, afpro.SyncSize)...)
		}
		time.Sleep(time.Second)
		if s := r.mcu.Stats(); s.BadSyncs != DefaultSyncRetries || s.GivenUp != 1 || s.ModuleResets != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAferoMCUGivesUpReading: bytes that do not come bring it back to where it
// can be asked again, and a ready byte too many is a byte like any other.
func TestAferoMCUGivesUpReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{}, aferoLine())
		defer r.close()
		message, _ := afpro.AppendMessage(nil, afpro.Message{Type: afpro.Get, Attribute: ownAttribute})
		r.write(afpro.Ready)
		if _, err := r.event(time.Second); err != nil {
			t.Fatal(err)
		}
		r.write(append(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncCounts, ASR: uint16(len(message))}), afpro.Ready)...)
		if e, err := r.event(time.Second); err != nil || e.Sync.Type != afpro.SyncAck {
			t.Fatalf("%+v, %v", e, err)
		}
		r.write(append([]byte{afpro.Ready}, message[:3]...)...)
		time.Sleep(DefaultResponseTimeout - 10*time.Millisecond)
		r.write(afpro.Ready) // in the place of a byte that was lost
		time.Sleep(2 * DefaultResponseTimeout)
		r.write(afpro.Ready)
		if e, err := r.event(time.Second); err != nil || e.Sync != (afpro.Sync{Type: afpro.SyncCounts}) {
			t.Errorf("after half a message: %+v, %v", e, err)
		}
		if s := r.mcu.Stats(); s.Timeouts != 1 || s.MessagesIn != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAferoMCUDropsLongChunks: the profile says how long the attribute is.
func TestAferoMCUDropsLongChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{}, aferoLine())
		defer r.close()
		image := make([]byte, 1000)
		if err := errors.Join(r.boot(), r.begin(afpro.Info{Type: DefaultFirmwareType, Size: 1000, Version: 7})); err != nil {
			t.Fatal(err)
		}
		r.chunk++
		if n, err := r.transfer(image, 0); !errors.Is(err, errSilence) || r.mcu.Stats().TooLong != n || n == 0 {
			t.Errorf("%d chunks sent, %v; %+v", n, err, r.mcu.Stats())
		}
	})
}

// TestAferoMCUFaultsOnTheWire: what each fault of the syncs looks like.
func TestAferoMCUFaultsOnTheWire(t *testing.T) {
	const zero, ack = "30 00 00 00 00 30", "31 00 00 00 00 31"
	for _, tc := range []struct {
		name     string
		fault    Fault
		request  string // at a ready byte
		ack      string // at Response and ready byte
		slowness time.Duration
	}{
		{name: "none", request: zero, ack: ack},
		{name: "twice", fault: Fault{DoubleAcks: true}, request: zero + zero, ack: ack + ack},
		{name: "bad", fault: Fault{Afero: AferoFault{BadSyncs: true}}, request: "30 00 00 00 00 65", ack: "31 00 00 00 00 64"},
		{name: "late", fault: Fault{AckDelay: 3 * time.Second}, request: zero, ack: ack, slowness: 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				say, hear, done := onTheWire(t, NewAferoMCU(AferoConfig{MCUConfig: MCUConfig{Fault: tc.fault}}))
				defer done()
				begin := time.Now()
				say("32")
				hear(tc.request)
				say(zero + "32")
				hear(tc.ack)
				if took := time.Since(begin); took != 2*tc.slowness {
					t.Errorf("two steps took %v", took)
				}
			})
		})
	}
}
