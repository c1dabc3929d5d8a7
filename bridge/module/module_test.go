package module

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board is a host MCU in memory.
type board struct {
	mu       sync.Mutex
	refuse   error
	bootErr  error
	silent   bool // it does not report when it has booted
	bootFor  time.Duration
	accepted int
	boots    int
	slot     *memory
	running  []byte
	version  string
	report   func(map[string]string) error
}

// memory is a slot.
type memory struct {
	mu    sync.Mutex
	bytes []byte
	fails error
}

func (s *memory) ReadAt(b []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(b, s.bytes[at:]), nil
}

func (s *memory) WriteAt(b []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return 0, s.fails
	}
	return copy(s.bytes[at:], b), nil
}

func (s *memory) Sync() error { return nil }

func (b *board) Accept(context.Context, schemas.Offer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted++
	return b.refuse
}

func (b *board) Slot(schemas.Offer) (Slot, error) { return b.slot, nil }

func (b *board) Boot(ctx context.Context, o schemas.Offer) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.bootFor):
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boots++
	if b.bootErr != nil {
		return b.bootErr
	}
	b.running, b.version = bytes.Clone(b.slot.bytes[:o.Size]), o.Version
	if b.silent {
		return nil
	}
	return b.report(b.versions())
}

func (b *board) versions() map[string]string { return map[string]string{"oem_host_version": b.version} }

// world is a module, its host and the service, in virtual time.
type world struct {
	*testing.T
	service *service
	board   *board
	state   []byte
	stop    func()
	cfg     Config
}

func inWorld(t *testing.T, size int, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, service: newService(t, size), board: &board{version: "1.0.0", slot: &memory{bytes: make([]byte, size)}}}
		w.start()
		f(w)
		w.stop()
		if w.service.look().online {
			t.Error("still online after its end")
		}
	})
}

func (w *world) start() {
	w.Helper()
	w.cfg.Device, w.cfg.Transport, w.cfg.Host, w.cfg.Versions = device, w.service, w.board, w.board.versions()
	w.cfg.State, w.cfg.Save = w.state, func(b []byte) error { w.state = bytes.Clone(b); return nil }
	m, err := New(w.cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.board.report = m.Report
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
}

func (w *world) await(what string, cond func() bool) {
	w.Helper()
	for range 100 * 3600 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	w.Fatalf("%s: not within an hour", what)
}

// sleep lets virtual time pass, and what is to happen in it.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) wantEnd(execution string, state schemas.State, cause schemas.Cause) schemas.Status {
	w.Helper()
	w.await("the end of "+execution, func() bool { _, ended := w.service.end(execution); return ended })
	st, _ := w.service.end(execution)
	if st.State != state || st.Cause != cause {
		w.Errorf("%s ended as %s, cause %q (%s); want %s, %q", execution, st.State, st.Cause, st.Detail, state, cause)
	}
	return st
}

func (w *world) wantSuccess() {
	w.Helper()
	st := w.wantEnd("ex-1", schemas.StateSucceeded, "")
	if st.HostVersion != "2.0.0" || !bytes.Equal(w.board.running, w.service.image) {
		w.Errorf("%+v, and it runs %d bytes of %q", st, len(w.board.running), w.board.version)
	}
}

func TestUpdate(t *testing.T) {
	inWorld(t, 200_000, func(w *world) {
		w.await("hello", func() bool { return w.service.look().hello.HostVersions["oem_host_version"] == "1.0.0" })
		w.service.offer(w.service.theOffer())
		w.wantSuccess()
		var states []string
		for _, st := range w.service.look().heard {
			if n := len(states); n == 0 || states[n-1] != string(st.State) {
				states = append(states, string(st.State))
			}
		}
		if got := strings.Join(states, " "); !strings.HasPrefix(got, "downloading ") || !strings.HasSuffix(got, " succeeded") { // newer ones replace those that wait for the connection
			t.Errorf("states %s", got)
		}
		w.sleep(time.Minute) // virtual
		if h := w.service.look().hello; h.HostVersions["oem_host_version"] != "2.0.0" || h.Execution != "" || !h.Streams {
			t.Errorf("hello after the update: %+v", h)
		}
		heard := len(w.service.look().heard)
		w.service.offer(w.service.theOffer()) // once more: the service did not hear the end
		w.await("the end to be said again", func() bool { return len(w.service.look().heard) > heard })
		if w.board.accepted != 1 || w.board.boots != 1 {
			t.Errorf("offered %d times, booted %d times", w.board.accepted, w.board.boots)
		}
	})
}

// The module ends and starts again at any moment.
func TestRestartedAtAnyMoment(t *testing.T) {
	for at := 10 * time.Millisecond; at < 2*time.Second; at += 60 * time.Millisecond {
		inWorld(t, 300_000, func(w *world) {
			w.board.bootFor = 300 * time.Millisecond
			w.service.offer(w.service.theOffer())
			w.sleep(at) // virtual
			w.stop()
			w.start()
			w.wantSuccess()
			if w.board.boots != 1 {
				t.Errorf("%s: booted %d times", at, w.board.boots)
			}
		})
	}
}

// What the slot holds is not fetched again.
func TestDownloadGoesOn(t *testing.T) {
	inWorld(t, 1_000_000, func(w *world) {
		w.service.offer(w.service.theOffer())
		for range 3 {
			had := w.service.look().chunks
			w.await("a part of the image", func() bool { return w.service.look().chunks > had+50 })
			w.stop()
			w.start()
		}
		w.wantSuccess()
		fetched := 0
		for _, f := range w.service.look().fetches {
			for _, r := range f.Ranges {
				fetched += int(r.Length)
			}
		}
		if limit := len(w.service.image) + 3*DefaultWindow; fetched > limit {
			t.Errorf("%d bytes were asked for, want at most %d", fetched, limit)
		}
	})
}

func TestConnectionLost(t *testing.T) {
	for at := 10 * time.Millisecond; at < time.Second; at += 90 * time.Millisecond {
		inWorld(t, 300_000, func(w *world) {
			w.service.offer(w.service.theOffer())
			w.sleep(at) // virtual
			w.service.disconnect()
			w.sleep(time.Minute)
			w.service.connect()
			w.wantSuccess()
		})
	}
}

func TestChunksLostAndWrong(t *testing.T) {
	inWorld(t, 300_000, func(w *world) {
		w.service.spoil = func(n int, b []byte) []byte {
			switch {
			case n%11 == 3:
				return nil
			case n == 20:
				b[len(b)-1] ^= 1 // the image has to be fetched anew
			case n%11 == 5:
				w.service.send(topicOf(schemas.KindChunk), b[:10])
				w.service.send(topicOf(schemas.KindChunk), append(bytes.Clone(b[:8]), bytes.Repeat([]byte{0xff}, 20)...))
			}
			return b
		}
		w.service.offer(w.service.theOffer())
		w.wantSuccess()
	})
	inWorld(t, 30_000, func(w *world) {
		w.service.spoil = func(_ int, b []byte) []byte { b[len(b)-1] ^= 1; return b }
		w.service.offer(w.service.theOffer())
		w.wantEnd("ex-1", schemas.StateFailed, schemas.CauseChecksum)
		if w.board.boots != 0 {
			t.Error("booted an image that was never verified")
		}
	})
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(w *world, o *schemas.Offer)
		state   schemas.State
		cause   schemas.Cause
		check   func(schemas.Status) bool
	}{
		{"refused", func(w *world, _ *schemas.Offer) {
			w.board.refuse = &Refusal{Cause: schemas.CauseSize, Code: 7, Detail: "Too\nlarge."}
		}, schemas.StateRejected, schemas.CauseSize, func(s schemas.Status) bool { return s.Code == 7 && s.Detail == "Too large." }},
		{"refused for no reason", func(w *world, _ *schemas.Offer) { w.board.refuse = errors.New("no") },
			schemas.StateRejected, schemas.CauseRejected, func(s schemas.Status) bool { return s.Detail == "no" }},
		{"put off", func(w *world, o *schemas.Offer) {
			o.Action, w.board.refuse = schemas.ActionSoft, &Refusal{Defer: time.Hour, Detail: "Busy."}
		}, schemas.StateRejected, schemas.CauseDeferred, func(s schemas.Status) bool { return s.DeferS == 3600 }},
		{"put off where that is not allowed", func(w *world, _ *schemas.Offer) { w.board.refuse = &Refusal{Defer: time.Hour} },
			schemas.StateRejected, schemas.CauseRejected, nil},
		{"an answer outside the contract", func(w *world, _ *schemas.Offer) { w.board.refuse = &Refusal{Cause: "whim"} },
			schemas.StateFailed, schemas.CauseInternal, nil},
		{"the boot fails", func(w *world, _ *schemas.Offer) { w.board.bootErr = errors.New("no answer") },
			schemas.StateFailed, schemas.CauseBoot, nil},
		{"the flash fails", func(w *world, _ *schemas.Offer) { w.board.bootErr = &Refusal{Cause: schemas.CauseFlash, Code: 12} },
			schemas.StateFailed, schemas.CauseFlash, func(s schemas.Status) bool { return s.Code == 12 }},
		{"no version", func(w *world, o *schemas.Offer) { w.board.silent, o.Host.BootTimeoutMS = true, 60_000 },
			schemas.StateFailed, schemas.CauseBoot, nil},
		{"another property", func(_ *world, o *schemas.Offer) { o.Host.VersionProperty = "other" },
			schemas.StateFailed, schemas.CauseBoot, nil},
		{"the slot fails", func(w *world, _ *schemas.Offer) { w.board.slot.fails = errors.New("worn out") },
			schemas.StateFailed, schemas.CauseStorage, nil},
		{"no data", func(w *world, _ *schemas.Offer) { w.service.spoil = func(int, []byte) []byte { return nil } },
			schemas.StateFailed, schemas.CauseNetwork, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, 20_000, func(w *world) {
				o := w.service.theOffer()
				c.prepare(w, &o)
				w.service.offer(o)
				st := w.wantEnd("ex-1", c.state, c.cause)
				if c.check != nil && !c.check(st) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A status is said until it is acknowledged, over restarts as well.
func TestResultIsRepeated(t *testing.T) {
	inWorld(t, 10_000, func(w *world) {
		w.service.deaf = true
		w.service.offer(w.service.theOffer())
		w.await("the end", func() bool {
			n := len(w.service.look().heard)
			return n > 0 && w.service.look().heard[n-1].State.Final()
		})
		before := len(w.service.look().heard)
		w.sleep(10 * time.Minute) // virtual
		if n := len(w.service.look().heard) - before; n < 8 || n > 20 {
			t.Errorf("repeated %d times in ten minutes", n)
		}
		w.service.withdraw()
		w.stop()
		w.service.deaf = false
		w.start()
		w.wantSuccess()
		w.sleep(time.Minute)
		n := len(w.service.look().heard)
		w.sleep(time.Hour)
		if len(w.service.look().heard) != n {
			t.Error("repeated after its ack")
		}
	})
}

// An image is fetched now and installed later, without a byte more, and after a restart.
func TestDownloadThenInstall(t *testing.T) {
	inWorld(t, 50_000, func(w *world) {
		o := w.service.theOffer()
		o.Action = schemas.ActionDownload
		w.service.offer(o)
		w.await("the image", func() bool { return w.service.look().acked["ex-1"].State == schemas.StateDownloaded })
		w.sleep(time.Second)
		if w.board.accepted != 0 || w.board.boots != 0 {
			t.Error("the host was asked")
		}
		w.stop()
		w.start()
		fetches := len(w.service.look().fetches)
		o.Action, o.Attempt = schemas.ActionInstall, 2
		w.service.offer(o)
		w.wantSuccess()
		if n := len(w.service.look().fetches); n != fetches {
			t.Errorf("%d fetches for an image that was there", n-fetches)
		}
	})
}

func TestWithdrawnAndReplaced(t *testing.T) {
	inWorld(t, 500_000, func(w *world) {
		w.service.offer(w.service.theOffer())
		w.await("chunks", func() bool { return w.service.look().chunks > 10 })
		w.service.withdraw()
		w.sleep(time.Minute) // virtual
		if st := w.service.look().acked["ex-1"]; st.State.Final() || w.service.look().hello.Execution != "" {
			t.Errorf("after it was withdrawn: %+v, hello %+v", st, w.service.look().hello)
		}
		o := w.service.theOffer()
		o.Execution = "ex-2"
		w.service.offer(o)
		w.await("chunks", func() bool { return w.service.look().hello.Execution == "ex-2" })
		o.Execution = "ex-3"
		w.service.offer(o)
		w.wantEnd("ex-3", schemas.StateSucceeded, "")
	})
}

// The shared stream is followed, its losses are repaired, and at the end it is left.
func TestSharedStream(t *testing.T) {
	inWorld(t, 300_000, func(w *world) {
		w.service.spoil = func(n int, b []byte) []byte {
			if n%10 == 3 {
				return nil
			}
			return b
		}
		o := w.service.theOffer()
		o.Stream = true
		w.service.offer(o)
		w.wantSuccess()
		followed, alone := 0, 0
		for _, f := range w.service.look().fetches {
			for _, r := range f.Ranges {
				if f.Follow {
					followed += int(r.Length)
				} else {
					alone += int(r.Length)
				}
			}
		}
		if followed != int(o.Size) || alone == 0 || alone > followed/4 {
			t.Errorf("%d bytes followed, %d asked for alone", followed, alone)
		}
		w.sleep(time.Minute)
		if w.service.look().topics[schemas.StreamTopic(o.SHA256)] {
			t.Error("the stream is still subscribed to")
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := Config{Device: "a", Transport: newService(t, 1), Host: &board{}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"device":       func(c *Config) { c.Device = "a/b" },
		"no transport": func(c *Config) { c.Transport = nil },
		"no host":      func(c *Config) { c.Host = nil },
		"versions":     func(c *Config) { c.Versions = map[string]string{"": "1"} },
		"max chunk":    func(c *Config) { c.MaxChunk = 10 },
		"state":        func(c *Config) { c.State = []byte("{") },
		"later state":  func(c *Config) { c.State = []byte(`{"v":2}`) },
		"open state":   func(c *Config) { c.State = []byte(`{"v":1,"open":{}}`) },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
