package afpro

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// pieceOfLine draws what may stand on the line: good and broken syncs, ready
// bytes, noise, in which bytes that begin something are frequent.
func pieceOfLine(t *rapid.T) []byte {
	noise := rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0x30, 0x31, 0x32, 0x00})), 0, 8)
	whole := AppendSync(nil, drawSync(t))
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		return whole
	case 1:
		whole[rapid.IntRange(0, SyncSize-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		return whole
	case 2:
		return whole[:rapid.IntRange(1, SyncSize-1).Draw(t, "cut")]
	case 3:
		return []byte{Ready}
	}
	return noise.Draw(t, "noise")
}

func drawOrder(t *rapid.T) order {
	switch rapid.IntRange(0, 3).Draw(t, "order") {
	case 0:
		return order{take: rapid.IntRange(1, 25).Draw(t, "take")}
	case 1:
		return order{pass: rapid.IntRange(1, 25).Draw(t, "pass")}
	}
	return order{}
}

// TestScannerAgainstPlain: whatever comes in whatever pieces, with whatever
// orders, the scanner hears what the plain one does; it never holds more than
// its limit, in the memory that it was made with.
func TestScannerAgainstPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := bytes.Join(rapid.SliceOfN(rapid.Custom(pieceOfLine), 0, 12).Draw(t, "line"), nil)
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		l := newListener(limit, rapid.SliceOfN(rapid.Custom(drawOrder), 0, 12).Draw(t, "plan"))
		memory := &l.s.buf[:1][0]
		for rest := stream; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			l.hear(rest[:n])
			rest = rest[n:]
			if l.s.in != nil || len(l.s.buf) > limit || cap(l.s.buf) != limit || &l.s.buf[:1][0] != memory {
				t.Fatalf("holds %d bytes of input and %d of %d of a message", len(l.s.in), len(l.s.buf), cap(l.s.buf))
			}
		}
		compare(t, l, stream)
	})
}

// TestScannerIsBackInStep: behind any noise, and when whatever seems to be under
// way has been given up, a good sync message is heard.
func TestScannerIsBackInStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newListener(20, rapid.SliceOfN(rapid.Custom(drawOrder), 0, 12).Draw(t, "plan"))
		l.hear(bytes.Join(rapid.SliceOfN(rapid.Custom(pieceOfLine), 0, 12).Draw(t, "noise"), nil))
		l.s.Hunt()
		l.plan, l.heard, l.bad = nil, nil, 0
		good := drawSync(t)
		l.hear(AppendSync(nil, good))
		if want := []string{saySync(good)}; !slices.Equal(l.heard, want) {
			t.Fatalf("heard %q, want %q", l.heard, want)
		}
	})
}

func TestExpectLimits(t *testing.T) {
	s := NewScanner(12)
	if s.Limit() != 12 {
		t.Errorf("the limit is %d", s.Limit())
	}
	for _, n := range []int{-1, 0, 13, 1 << 30} {
		if s.Expect(n) || s.Partial() {
			t.Errorf("a message of %d bytes is expected", n)
		}
	}
	for _, n := range []int{1, 12} {
		if !s.Expect(n) || !s.Partial() || s.Hunt() != 0 || s.Partial() {
			t.Errorf("a message of %d bytes is not expected, or not given up", n)
		}
	}
	if nothing := NewScanner(0); nothing.Expect(1) {
		t.Error("a scanner without room expects a message")
	}
}

// TestRefusedExpectChangesNothing: what is under way goes on.
func TestRefusedExpectChangesNothing(t *testing.T) {
	l := newListener(4, plan{{take: 3}})
	l.hear([]byte{1, 2})
	if l.s.Expect(5) {
		t.Fatal("5 of 4 bytes are expected")
	}
	l.hear([]byte{3, Ready})
	if want := []string{"message 01 02 03", "ready"}; !slices.Equal(l.heard, want) {
		t.Errorf("heard %q, want %q", l.heard, want)
	}
}

// TestNewOrderReplacesTheOld: an order drops what an earlier one has collected.
func TestNewOrderReplacesTheOld(t *testing.T) {
	l := newListener(9, plan{{take: 3}})
	l.hear([]byte{1, 2})
	l.s.Expect(2)
	l.hear([]byte{3, 4})
	l.s.Skip(5)
	l.hear([]byte{5, 6})
	l.s.Expect(1)
	l.hear([]byte{7})
	if want := []string{"message 03 04", "message 07"}; !slices.Equal(l.heard, want) {
		t.Errorf("heard %q, want %q", l.heard, want)
	}
}

// TestHunt: what is under way is given up, and its bytes are counted.
func TestHunt(t *testing.T) {
	for _, tc := range []struct {
		name   string
		orders plan
		stream []byte
		come   int
	}{
		{"nothing", nil, nil, 0},
		{"nothing behind a ready byte", nil, []byte{Ready}, 0},
		{"nothing behind noise", nil, []byte{1, 2, 3}, 0},
		{"a sync", nil, []byte{0x30, 0, 0}, 3},
		{"a message without a byte", plan{{take: 9}}, nil, 0},
		{"a message", plan{{take: 9}}, []byte("12345678"), 8},
		{"a message passed over", plan{{pass: 900}}, []byte("12345678"), 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newListener(9, tc.orders)
			l.hear(tc.stream)
			if n := l.s.Hunt(); n != tc.come {
				t.Errorf("gave up %d bytes, want %d", n, tc.come)
			}
			if n := l.s.Hunt(); n != 0 || l.s.Partial() {
				t.Errorf("then gave up %d more; Partial is %v", n, l.s.Partial())
			}
			l.plan, l.heard, l.bad = nil, nil, 0
			l.hear(AppendSync(nil, Sync{Type: SyncAck, MCU: 11}))
			if want := []string{"sync 31 11 0"}; !slices.Equal(l.heard, want) {
				t.Errorf("then heard %q, want %q", l.heard, want)
			}
		})
	}
}

// TestHuntCountsWhatIsHeldForAMessage: bytes behind a ready byte that a false
// sync message held count as the message's, though they are not moved yet.
func TestHuntCountsWhatIsHeldForAMessage(t *testing.T) {
	s := NewScanner(9)
	s.Feed([]byte{0x30, Ready, 7, 8, 9, 10})
	for _, want := range []EventKind{EventBad, EventReady} {
		if !s.Next() || s.Event().Kind != want {
			t.Fatalf("heard %+v, want kind %d", s.Event(), want)
		}
	}
	s.Expect(9)
	if n := s.Hunt(); n != 4 || s.Partial() {
		t.Errorf("gave up %d bytes, want 4; Partial is %v", n, s.Partial())
	}
}

// TestReset drops the input and all that was under way.
func TestReset(t *testing.T) {
	s := NewScanner(9)
	s.Feed([]byte{Ready, Ready, 0x30, 0})
	if !s.Next() || s.Event().Kind != EventReady {
		t.Fatal("no ready byte")
	}
	s.Expect(5)
	s.Reset()
	if s.Partial() || s.Event().Kind != 0 || s.Next() {
		t.Errorf("after Reset: Partial is %v, event %+v", s.Partial(), s.Event())
	}
	s.Feed([]byte{Ready})
	if !s.Next() || s.Event().Kind != EventReady || s.Next() {
		t.Error("a scanner that was reset does not hear a ready byte")
	}
}

// TestPieceIsNotKept: once Next has returned false the piece may be overwritten.
func TestPieceIsNotKept(t *testing.T) {
	l := newListener(9, plan{{}, {take: 4}})
	piece := []byte{0x31, 4, 0, 0}
	l.hear(piece)
	copy(piece, []byte{0, 0x35, 1, 2})
	l.hear(piece)
	copy(piece, []byte{3, 4, Ready, Ready})
	l.hear(piece)
	if want := []string{"sync 31 4 0", "message 01 02 03 04", "ready", "ready"}; !slices.Equal(l.heard, want) {
		t.Errorf("heard %q, want %q", l.heard, want)
	}
}
