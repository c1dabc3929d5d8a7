package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// deadlines is a ResponseWriter that records the read deadline.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }

// slowBody gives one byte every so often, and fails when its deadline passes.
type slowBody struct {
	d     *deadlines
	every time.Duration
	left  int
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if until := time.Until(s.d.read); until < s.every {
		time.Sleep(until)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(s.every)
	s.left--
	return 1, nil
}

func (*slowBody) Close() error { return nil }

// TestSlowBodies: a body that trickles or stops is given up within bounds, one
// that ends leaves no deadline behind.
func TestSlowBodies(t *testing.T) {
	for _, c := range []struct {
		name    string
		every   time.Duration
		bytes   int
		within  time.Duration
		stalled bool
	}{
		{"fast", 10 * time.Microsecond, 100_000, 2 * time.Second, false},
		{"stops", time.Hour, 1, bodyStall, true},
		{"trickles", time.Second, 1 << 20, bodyGrace + 2*time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
				b := &pacedBody{ReadCloser: &slowBody{d, c.every, c.bytes}, control: http.NewResponseController(d), start: time.Now()}
				begin := time.Now()
				_, err := io.Copy(io.Discard, b)
				if errors.Is(err, errBodyStalled) != c.stalled {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(begin); took > c.within {
					t.Errorf("took %v, want at most %v", took, c.within)
				}
				if !d.read.IsZero() {
					t.Error("a read deadline was left behind; it would cancel the handler")
				}
			})
		})
	}
}
