package sniff

import (
	"slices"
	"testing"
	"time"

	"davit/bridge/recording"
	"davit/schemas/afpro"
	"davit/schemas/tlv"
)

// passage is what passes on a line at a time.
type passage struct {
	after time.Duration // since the one before
	from  recording.Side
	bytes []byte
}

// told is what a decoder says of passages: an exclamation mark stands before what
// is bad.
func told(d Decoder, all []passage) (said []string) {
	var at time.Duration
	for _, p := range all {
		at += p.after
		d.Decode(at, p.from, p.bytes, func(q Packet) {
			if q.Bad {
				q.Text = "! " + q.Text
			}
			said = append(said, q.Text)
		})
	}
	return said
}

func sync(t afpro.SyncType, mcu, asr uint16) []byte {
	return afpro.AppendSync(nil, afpro.Sync{Type: t, MCU: mcu, ASR: asr})
}

func message(t *testing.T, m afpro.Message) []byte {
	t.Helper()
	b, err := afpro.AppendMessage(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func join(all ...[]byte) []byte { return slices.Concat(all...) }

// TestAferoLines: where messages begin and end, whatever happens to them and
// whichever side is heard.
func TestAferoLines(t *testing.T) {
	const module, mcu = recording.FromModule, recording.FromMCU
	ready := []byte{afpro.Ready}
	get := message(t, afpro.Message{Type: afpro.Get, Request: 3, Attribute: afpro.ASRCapabilities})
	version := message(t, afpro.Message{Type: afpro.Update, Attribute: afpro.VersionAttribute(101), Reason: afpro.ReasonUnsolicited, Value: []byte{7, 0, 0, 0, 0, 0, 0, 0}})
	n := uint16(len(version))
	begin := []passage{
		{0, mcu, sync(afpro.SyncCounts, n, 0)}, {0, module, join(sync(afpro.SyncCounts, n, 0), ready)},
		{10 * time.Millisecond, mcu, sync(afpro.SyncAck, n, 0)}, {0, module, ready},
	}
	begun := []string{"Sync Request (18, 0)", "Sync Response (18, 0)", "ready", "Sync Ack (18, 0)", "ready"}
	anew := passage{0, mcu, sync(afpro.SyncCounts, 0, 0)}
	const breaks = "! a message that breaks off after 5 bytes: "
	for _, c := range []struct {
		name string
		baud int
		all  []passage
		want []string
	}{
		{
			"a message in pieces", 9600,
			append(slices.Clone(begin), passage{0, mcu, version[:5]}, passage{100 * time.Millisecond, mcu, version[5:]}),
			append(slices.Clone(begun), "UPDATE version of type 101: 7 (unsolicited)"),
		},
		{
			"the MCU restarts in the middle of a message", 9600,
			append(slices.Clone(begin), passage{0, mcu, version[:5]}, passage{125 * time.Millisecond, mcu, anew.bytes}),
			append(slices.Clone(begun), breaks+inHex(version[:5]), "Sync Request (0, 0)"),
		},
		{
			"a slow line has longer pauses", 300,
			append(slices.Clone(begin), passage{0, mcu, version[:5]}, passage{600 * time.Millisecond, mcu, version[5:]}),
			append(slices.Clone(begun), "UPDATE version of type 101: 7 (unsolicited)"),
		},
		{
			"the MCU restarts before the first byte of a message", 9600,
			append(slices.Clone(begin), anew),
			append(slices.Clone(begun), "Sync Request (0, 0)"),
		},
		{
			"the MCU alone", 9600,
			[]passage{{0, mcu, sync(afpro.SyncCounts, n, 0)}, {0, mcu, sync(afpro.SyncAck, n, 0)}, {0, mcu, version}},
			[]string{"Sync Request (18, 0)", "Sync Ack (18, 0)", "UPDATE version of type 101: 7 (unsolicited)"},
		},
		{
			"the module alone", 9600,
			[]passage{
				{0, module, ready}, {0, module, join(sync(afpro.SyncCounts, 0, 6), ready)}, {0, module, join(ready, get, ready)},
				{0, module, join(sync(afpro.SyncCounts, 0, 6), ready)}, {time.Second, module, ready}, {0, module, ready}, {0, module, get}, {0, module, ready},
				{0, module, join(sync(afpro.SyncCounts, n, 0), ready)}, {0, module, ready},
			},
			[]string{
				"ready", "Sync Response (0, 6)", "ready", "ready", "GET ASR capabilities, request 3", "ready",
				"Sync Response (0, 6)", "ready", "ready", "ready", "GET ASR capabilities, request 3", "ready",
				"Sync Response (18, 0)", "ready", "ready",
			},
		},
		{
			"an Ack of what was not announced lets nothing through", 9600,
			[]passage{
				{0, module, join(sync(afpro.SyncCounts, 0, 6), ready)}, {0, mcu, sync(afpro.SyncAck, 0, 8)}, {time.Second, module, ready},
				{0, mcu, sync(afpro.SyncCounts, 0, 0)}, {0, module, join(sync(afpro.SyncCounts, 0, 6), ready)},
			},
			[]string{"Sync Response (0, 6)", "ready", "Sync Ack (0, 8)", "ready", "Sync Request (0, 0)", "Sync Response (0, 6)", "ready"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(NewAfero(c.baud), c.all); !slices.Equal(got, c.want) {
				t.Errorf("said is\n%q, want\n%q", got, c.want)
			}
		})
	}
}

// TestAylaSharedFlags: a frame may begin with the flag that ended the one before,
// whatever the pause between them.
func TestAylaSharedFlags(t *testing.T) {
	add := func(b []byte, f tlv.Frame, shared bool) []byte {
		t.Helper()
		appended, err := tlv.AppendFrame(b, f)
		if shared {
			appended, err = tlv.AppendFrameShared(b, f)
		}
		if err != nil {
			t.Fatal(err)
		}
		return appended
	}
	goAhead := func(seq byte) tlv.Frame {
		return tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: tlv.AppendGo(nil, 1)}
	}
	got := told(NewAyla(), []passage{
		{0, recording.FromMCU, add(add(nil, tlv.Frame{Type: tlv.FrameAck, Seq: 1}, false), goAhead(2), true)},
		{time.Hour, recording.FromMCU, add(nil, goAhead(3), true)},
		{time.Hour, recording.FromMCU, add(nil, goAhead(3), true)},
		{time.Hour, recording.FromMCU, add(nil, goAhead(4), false)},
	})
	const what = ": MCU_OTA (request 1): go ahead"
	if want := []string{"ack 1", "data 2" + what, "data 3" + what, "data 3" + what + Again, "data 4" + what}; !slices.Equal(got, want) {
		t.Errorf("said is\n%q, want\n%q", got, want)
	}
}
