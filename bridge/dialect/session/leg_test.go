package session

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
)

// teller is a Reporter that keeps what it hears, and refuses if it has an error.
type teller struct {
	refuse error
	states []schemas.State
	ends   []dialect.Result
}

func (r *teller) State(s schemas.State, _ uint64) error {
	r.states = append(r.states, s)
	return r.refuse
}

func (r *teller) Ended(e dialect.Result) { r.ends = append(r.ends, e) }

var usual = Limits{Answer: time.Minute, Verdict: 2 * time.Minute, Boot: 3 * time.Minute, Version: 4 * time.Minute, VersionProperty: "v"}

func TestLegLimits(t *testing.T) {
	own := dialect.Update{AnswerTimeout: 1, VerdictTimeout: 2, BootTimeout: 3, VersionTimeout: 4, VersionProperty: "mine"}
	for _, c := range []struct {
		name string
		u    dialect.Update
		want Limits
	}{
		{"the family's", dialect.Update{}, usual},
		{"the update's", own, Limits{1, 2, 3, 4, "mine"}},
		{"negative ones are none", dialect.Update{AnswerTimeout: -1}, usual},
	} {
		l := NewLeg(c.u, usual)
		if got := (Limits{l.AnswerTimeout, l.VerdictTimeout, l.BootTimeout, l.VersionTimeout, l.VersionProperty}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestLegGoStands(t *testing.T) {
	for _, c := range []struct {
		said, now time.Time
		want      bool
	}{{time.Time{}, at(1), false}, {at(1), at(1), true}, {at(1), at(1).Add(GoStale), true}, {at(1), at(1).Add(GoStale + 1), false}} {
		l := Leg{GoAt: c.said}
		if got := l.GoStands(c.now); got != c.want {
			t.Errorf("a go %v old stands: %v", c.now.Sub(c.said), got)
		}
	}
}

func TestLegHasImage(t *testing.T) {
	ready := make(chan struct{})
	l := NewLeg(dialect.Update{Ready: ready}, usual)
	if l.HasImage() {
		t.Error("the image is there before it is")
	}
	close(ready)
	if !l.HasImage() {
		t.Error("the image is not there")
	}
}

func TestLegAgain(t *testing.T) {
	var l Leg
	for i := range MaxRestarts {
		if !l.Again() || l.Restarts() != i+1 {
			t.Fatalf("restart %d is not allowed, or counted as %d", i+1, l.Restarts())
		}
	}
	if l.Again() {
		t.Error("begins anew for ever")
	}
	if r := l.TooOften("the MCU hiccuped"); r.State != schemas.StateFailed || r.Cause != schemas.CauseSerial || !strings.HasSuffix(r.Detail, "the last time the MCU hiccuped.") {
		t.Errorf("%+v", r)
	}
}

// image of a few bytes, whose reading may fail.
type image struct {
	io.ReaderAt
	err error
}

func (i image) ReadAt(b []byte, off int64) (int, error) {
	if i.err != nil {
		return 0, i.err
	}
	return i.ReaderAt.ReadAt(b, off)
}

func TestLegLoad(t *testing.T) {
	broken := errors.New("input/output error")
	for _, c := range []struct {
		name   string
		offset uint64
		err    error
		want   string
	}{
		{"the beginning", 0, nil, "abc"},
		{"the end", 3, nil, "def"},
		{"a broken disk", 0, broken, ""},
	} {
		l := NewLeg(dialect.Update{Image: image{strings.NewReader("abcdef"), c.err}}, usual)
		b := make([]byte, 3)
		r, err := l.Load(b, c.offset)
		if !errors.Is(err, c.err) || c.err == nil && string(b) != c.want {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
		if c.err != nil && (r.State != schemas.StateFailed || r.Cause != schemas.CauseStorage || !strings.Contains(r.Detail, c.err.Error())) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestLegRecord(t *testing.T) {
	var r teller
	l := NewLeg(dialect.Update{Reporter: &r}, usual)
	if _, err := l.Record(schemas.StateAccepted, 0); err != nil {
		t.Error(err)
	}
	r.refuse = errors.New("disk full")
	e, err := l.Record(schemas.StateBooting, 7)
	if !errors.Is(err, r.refuse) || e.State != schemas.StateFailed || e.Cause != schemas.CauseStorage || !strings.Contains(e.Detail, "disk full") {
		t.Errorf("%+v, %v", e, err)
	}
	if !slices.Equal(r.states, []schemas.State{schemas.StateAccepted, schemas.StateBooting}) {
		t.Errorf("told %v", r.states)
	}
}

// The end says what the MCU reported last, a cause unless it is success, and a
// sentence.
func TestLegEnds(t *testing.T) {
	deaf := Leg{Bad: 3}
	heard := Leg{Good: 1}
	old := Leg{HostVersion: "old", Wanted: "new"}
	for _, c := range []struct {
		name  string
		r     dialect.Result
		state schemas.State
		cause schemas.Cause
		says  string
	}{
		{"success", Succeeded(), schemas.StateSucceeded, schemas.CauseNone, ""},
		{"failure", Failed(schemas.CauseFlash, "It has %d wings.", 3), schemas.StateFailed, schemas.CauseFlash, "It has 3 wings."},
		{"rejection", Rejected(schemas.CauseSize, "It has %d wings.", 3), schemas.StateRejected, schemas.CauseSize, "It has 3 wings."},
		{"silence", Silent("since noon"), schemas.StateTimedOut, schemas.CauseTimeout, "silent since noon."},
		{"nothing was understood", deaf.Unanswered("colour"), schemas.StateFailed, schemas.CauseSerial, "colour"},
		{"no answer", heard.Unanswered("colour"), schemas.StateTimedOut, schemas.CauseTimeout, "did not answer"},
		{"fell back", old.FellBack(), schemas.StateFailed, schemas.CauseBoot, `"old", not "new"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r teller
			l := NewLeg(dialect.Update{Reporter: &r}, usual)
			l.HostVersion = "1.2"
			l.End(c.r)
			if len(r.ends) != 1 {
				t.Fatalf("%d ends", len(r.ends))
			}
			e := r.ends[0]
			if e.State != c.state || e.Cause != c.cause || e.HostVersion != "1.2" || !strings.Contains(e.Detail, c.says) || c.says != "" && !strings.HasSuffix(e.Detail, ".") {
				t.Errorf("%+v", e)
			}
		})
	}
}
