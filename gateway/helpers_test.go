package gateway_test

import (
	"log/slog"
	"testing"
	"time"

	"davit/internal/logtest"
)

// brokers are the brokers that the contract is tried on.
func brokers() map[string]func(testing.TB) testBroker {
	return map[string]func(testing.TB) testBroker{"embedded": newEmbedded, "mosquitto": newMosquitto}
}

// eventually polls for something that real sockets bring about.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

// testLog logs warnings to the test.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// logRecorder keeps what is logged.
type logRecorder struct{ logtest.Buffer }

func (l *logRecorder) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count says how many lines mention s.
func (l *logRecorder) count(s string) int { return len(l.Lines(s)) }
