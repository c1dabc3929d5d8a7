package logevent

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func TestLevelsAreRead(t *testing.T) {
	parts := []Part{PartBroker, PartHTTP}
	for spec, want := range map[string]string{
		"info": "info", "DEBUG": "debug", "broker=debug": "info,broker=debug", "warn,http=error,broker=debug": "warn,broker=debug,http=error",
		" info , broker=debug ": "info,broker=debug",
	} {
		l, err := NewLevels(spec, parts)
		if err != nil || l.String() != want {
			t.Errorf("%q: %v %v, want %s", spec, l, err, want)
			continue
		}
		if err := l.Set(l.String()); err != nil || l.String() != want {
			t.Errorf("%q does not read what it says: %v %v", spec, l, err)
		}
	}
	for spec, says := range map[string]string{
		"loud": "is not debug, info, warn or error", "": "is not debug", "info+2": "is not debug", "info,warn": "only the first may be", "info,sales=debug": "there are broker, http",
		"broker=debug,broker=info": "twice", "broker=": "is not debug", "info,": "not PART=LEVEL", "broker=debug,info": "only the first",
	} {
		l, err := NewLevels("warn", parts)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Set(spec); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want something with %q", spec, err, says)
		}
		if l.String() != "warn" {
			t.Errorf("%q has changed the levels to %s", spec, l)
		}
	}
}

func TestLevelsHoldForPartsWhileTheyChange(t *testing.T) {
	levels, err := NewLevels("info,broker=debug", []Part{PartBroker, PartHTTP})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(levels.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if LevelsOf(log.With("part", "http")) != levels || LevelsOf(slog.New(slog.DiscardHandler)) != nil {
		t.Error("LevelsOf")
	}
	broker := log.With("part", "broker").With("device", "d").WithGroup("g")
	http := log.With("part", "http")
	say := func() string {
		out.Reset()
		log.Debug("base-debug")
		log.Info("base-info")
		broker.Debug("broker-debug")
		http.Debug("http-debug")
		http.Warn("http-warn")
		var said []string
		for line := range strings.Lines(out.String()) {
			_, m, _ := strings.Cut(line, "msg=")
			said = append(said, strings.Fields(m)[0])
		}
		return strings.Join(said, " ")
	}
	for _, c := range [][2]string{
		{"info,broker=debug", "base-info broker-debug http-warn"}, {"debug", "base-debug base-info broker-debug http-debug http-warn"},
		{"error,http=debug", "http-debug http-warn"}, {"error", ""}, {"http=error", "base-info"},
	} {
		if err := levels.Set(c[0]); err != nil {
			t.Fatal(err)
		}
		if got := say(); got != c[1] {
			t.Errorf("%s says %q, want %q", c[0], got, c[1])
		}
	}
}

func TestWhatIsNotLoggedCostsNothing(t *testing.T) {
	levels, err := NewLevels("info,broker=debug", []Part{PartBroker, PartHTTP})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(levels.Handler(slog.NewTextHandler(&bytes.Buffer{}, nil))).With("part", "http")
	if n := testing.AllocsPerRun(100, func() { log.Debug("chunk", "event", ChunkNotSent, "device", "d") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				log.Debug("chunk", "event", ChunkNotSent)
				_ = levels.Set("warn,http=error")
				_ = levels.String()
			}
		})
	}
	all.Wait()
}

func TestEventsOfStates(t *testing.T) {
	for _, state := range []string{"queued", "offered", "accepted", "downloading", "downloaded", "installing", "booting", "succeeded", "rejected", "failed", "timed_out", "canceled"} {
		if got := Execution(state); string(got) != "execution."+state {
			t.Errorf("%s: %s", state, got)
		}
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "event", ExecutionFailed)
	if !strings.Contains(out.String(), `"event":"execution.failed"`) || ExecutionFailed.Attr().Value.String() != "execution.failed" {
		t.Error(out.String())
	}
}
