package schemas

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "A", "0", "_", "-", "a.b", "...", ".a", "pump-7", strings.Repeat("x", 64)} {
		if err := ValidateID(id); err != nil {
			t.Errorf("%q is refused: %v", id, err)
		}
	}
	for id, says := range map[string]string{
		"": "empty", strings.Repeat("x", 65): "65 characters", ".": "path", "..": "path", "a/b": "position 2", "a+": "position 2", "#": "position 1",
		"$share": "position 1", "a b": "position 2", "ü": "position 1", "a\x00": "position 2", "a\n": "position 2", `a\b`: "position 2",
	} {
		if err := ValidateID(id); !errors.Is(err, ErrID) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want something with %q", id, err, says)
		}
	}
}

func TestStreamTopics(t *testing.T) {
	const sum = "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31"
	topic := StreamTopic(sum)
	if got, ok := ParseStreamTopic(topic); !ok || got != sum || topic != "davit/v1/@/"+sum {
		t.Errorf("%s: %s, %v", topic, got, ok)
	}
	if _, err := ParseTopic(topic); !errors.Is(err, ErrTopic) {
		t.Errorf("a shared stream passes for a device's topic: %v", err)
	}
	for _, s := range []string{"", "davit/v1/@/", "davit/v1/@/+", "davit/v1/@/#", "davit/v1/@/" + sum[1:], "davit/v1/@/" + strings.ToUpper(sum), "davit/v1/pump-7/" + sum, topic + "/"} {
		if got, ok := ParseStreamTopic(s); ok {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestTopics(t *testing.T) {
	for _, k := range allKinds() {
		topic := Topic{"pump-7", k}
		if got := topic.String(); got != "davit/v1/pump-7/"+string(k) {
			t.Errorf("%s: %q", k, got)
		}
		if got := Filter(k); got != "davit/v1/+/"+string(k) {
			t.Errorf("%s: filter %q", k, got)
		}
		if got := SharedFilter("davit", k); got != "$share/davit/davit/v1/+/"+string(k) {
			t.Errorf("%s: shared filter %q", k, got)
		}
	}
	for _, s := range []string{
		"", "davit", "davit/v1", "davit/v1/", "davit/v1/pump-7", "davit/v1/pump-7/", "davit/v1//offer", "davit/v1/pump-7/offers",
		"davit/v1/pump-7/Offer", "davit/v1/pump-7/offer/", "davit/v1/pump-7/offer/x", "davit/v2/pump-7/offer", "/davit/v1/pump-7/offer",
		"Davit/v1/pump-7/offer", "davit/v1/+/offer", "davit/v1/#", "davit/v1/pump-7/#", "davit/v1/pump-7/+", "davit/v1/../offer",
		"davit/v1/pump 7/offer", "$share/davit/davit/v1/+/offer", "davit/v1/" + strings.Repeat("x", 65) + "/offer", "davit/v1/pump-7/offer\x00",
	} {
		if topic, err := ParseTopic(s); !errors.Is(err, ErrTopic) || topic != (Topic{}) {
			t.Errorf("%q: %v, %v", s, topic, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := Topic{drawID(t, "device"), rapid.SampledFrom(allKinds()).Draw(t, "kind")}
		if got, err := ParseTopic(want.String()); err != nil || got != want {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
	})
}

// TestStates holds the order of the states: 12 of them, forward only.
func TestStates(t *testing.T) {
	open := []State{StateQueued, StateOffered, StateAccepted, StateDownloading, StateDownloaded, StateInstalling, StateBooting}
	final := []State{StateSucceeded, StateRejected, StateFailed, StateTimedOut, StateCanceled}
	if got := len(States()); got != len(open)+len(final) {
		t.Errorf("%d states", got)
	}
	for i, s := range open {
		if s.Rank() != i || s.Final() || !s.Valid() || s.Reportable() != (i >= 2) {
			t.Errorf("%s: rank %d, final %v, valid %v, reportable %v", s, s.Rank(), s.Final(), s.Valid(), s.Reportable())
		}
	}
	for _, s := range final {
		if s.Rank() != len(open) || !s.Final() || !s.Valid() || !s.Reportable() {
			t.Errorf("%s: rank %d, final %v, valid %v, reportable %v", s, s.Rank(), s.Final(), s.Valid(), s.Reportable())
		}
	}
	for _, s := range []State{"", "done", "Queued"} {
		if s.Valid() || s.Final() || s.Reportable() || s.Rank() != -1 {
			t.Errorf("%q: rank %d, final %v, valid %v", s, s.Rank(), s.Final(), s.Valid())
		}
	}
	States()[0] = "changed"
	if States()[0] != StateQueued {
		t.Error("a caller can change the list of states")
	}
}

func TestCauses(t *testing.T) {
	seen := map[Cause]bool{}
	for _, c := range Causes() {
		if !c.Valid() || c == CauseNone || seen[c] {
			t.Errorf("%q: valid %v, twice %v", c, c.Valid(), seen[c])
		}
		seen[c] = true
	}
	if !CauseNone.Valid() || Cause("bad_luck").Valid() || len(seen) != 16 {
		t.Errorf("none valid %v, %d causes", CauseNone.Valid(), len(seen))
	}
}

// TestLwM2MResult holds the values of the Update Result resource that are used.
func TestLwM2MResult(t *testing.T) {
	for _, c := range []struct {
		state State
		cause Cause
		want  int
	}{
		{StateQueued, CauseNone, 0}, {StateBooting, CauseNone, 0}, {StateSucceeded, CauseNone, 1}, {StateRejected, CauseSize, 2},
		{StateFailed, CauseStorage, 2}, {StateFailed, CauseNetwork, 4}, {StateFailed, CauseChecksum, 5}, {StateFailed, CauseSignature, 5},
		{StateRejected, CauseAlready, 6}, {StateRejected, CauseMinVersion, 6}, {StateRejected, CauseRejected, 6}, {StateFailed, CauseBoot, 8},
		{StateFailed, CauseFlash, 8}, {StateTimedOut, CauseTimeout, 8}, {StateCanceled, CauseCanceled, 10}, {StateRejected, CauseDeferred, 11},
	} {
		if got := LwM2MResult(c.state, c.cause); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.state, c.cause, got, c.want)
		}
	}
}

func TestTagOf(t *testing.T) {
	sum := "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31"
	if tag, ok := TagOf(sum); !ok || tag != 0xde2f2560 {
		t.Errorf("%08x, %v", tag, ok)
	}
	for _, bad := range []string{"", sum[:63], sum + "0", strings.ToUpper(sum), "x" + sum[1:], sum[:63] + "g"} {
		if tag, ok := TagOf(bad); ok || tag != 0 {
			t.Errorf("%q: %08x, %v", bad, tag, ok)
		}
	}
}

func TestChunk(t *testing.T) {
	// Written out by hand: the golden of the header.
	golden := []byte{1, 1, 0x12, 0x34, 0xde, 0x2f, 0x25, 0x60, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe, 'x'}
	h, data, err := ParseChunk(golden)
	want := ChunkHeader{Flags: ChunkFlagLast, Transfer: 0x1234, Image: 0xde2f2560, Offset: 0xfffffffe}
	if err != nil || h != want || string(data) != "x" {
		t.Fatalf("%+v %q, %v", h, data, err)
	}
	if got := append(want.AppendTo(nil), 'x'); !bytes.Equal(got, golden) {
		t.Errorf("AppendTo = % x", got)
	}
	change := func(at int, to byte) []byte {
		b := bytes.Clone(golden)
		b[at] = to
		return b
	}
	full := append(ChunkHeader{}.AppendTo(nil), make([]byte, MaxChunkSize)...)
	if _, data, err := ParseChunk(full); err != nil || len(data) != MaxChunkSize {
		t.Errorf("the largest chunk: %d bytes, %v", len(data), err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"empty":           {nil, "0 bytes"},
		"header cut off":  {golden[:15], "15 bytes"},
		"no data":         {golden[:16], "no data"},
		"version 0":       {change(0, 0), "version 0"},
		"version 2":       {change(0, 2), "version 2"},
		"unknown flag":    {change(1, 2), "unknown flags 0x02"},
		"all flags":       {change(1, 0xff), "unknown flags 0xff"},
		"too much data":   {append(full, 0), "131073 bytes of data"},
		"past 4 GiB":      {change(15, 0xff), "past the largest image"},
		"offset of 2^63":  {change(8, 0x80), "past the largest image"},
		"offset of 2^32":  {change(11, 1), "past the largest image"},
		"offset overflow": {append(ChunkHeader{Offset: math.MaxUint64}.AppendTo(nil), 0), "past the largest image"},
	} {
		if h, data, err := ParseChunk(c.raw); !errors.Is(err, ErrChunk) || !strings.Contains(err.Error(), c.says) || data != nil || h != (ChunkHeader{}) {
			t.Errorf("%s: %+v, %d bytes, %v", name, h, len(data), err)
		}
	}
}

// TestChunkDoesNotAllocate: the hot path of both ends.
func TestChunkDoesNotAllocate(t *testing.T) {
	raw := append(ChunkHeader{Transfer: 1, Offset: 4096}.AppendTo(nil), make([]byte, DefaultChunkSize)...)
	buf := make([]byte, 0, len(raw))
	if n := testing.AllocsPerRun(100, func() {
		h, _, err := ParseChunk(raw)
		if err != nil {
			t.Fatal(err)
		}
		h.AppendTo(buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
