package afpro

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawSync(t *rapid.T) Sync {
	return Sync{
		Type: rapid.SampledFrom([]SyncType{SyncCounts, SyncAck}).Draw(t, "type"),
		MCU:  rapid.Uint16().Draw(t, "MCU"),
		ASR:  rapid.Uint16().Draw(t, "ASR"),
	}
}

// drawMessage draws a message that has only what its type carries.
func drawMessage(t *rapid.T) Message {
	m := Message{
		Type:      rapid.SampledFrom([]MessageType{Set, Get, Update, UpdateRejected, SetDefault}).Draw(t, "type"),
		Request:   rapid.Byte().Draw(t, "request"),
		Attribute: Attribute(rapid.Uint16().Draw(t, "attribute")),
	}
	if m.Type == Update || m.Type == UpdateRejected {
		m.State, m.Reason = State(rapid.Byte().Draw(t, "state")), Reason(rapid.Byte().Draw(t, "reason"))
	}
	if m.Type != Get && m.Type != UpdateRejected {
		m.Value = rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "value")
	}
	return m
}

// appended fails the test unless b is prefix and something behind it, which it
// returns.
func appended(t *rapid.T, prefix, b []byte, err error) []byte {
	t.Helper()
	if err != nil || !bytes.HasPrefix(b, prefix) || len(b) == len(prefix) {
		t.Fatalf("% x became % x, %v", prefix, b, err)
	}
	return b[len(prefix):]
}

func drawPrefix(t *rapid.T) []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "prefix")
}

// TestSyncsRoundTrip: any sync message is read back, and one wrong bit is
// always found.
func TestSyncsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, prefix := drawSync(t), drawPrefix(t)
		b := appended(t, prefix, AppendSync(slices.Clone(prefix), s), nil)
		if got, err := ParseSync(b); err != nil || got != s || got.Collision() != (s.MCU != 0 && s.ASR != 0) {
			t.Fatalf("%+v became %+v, %v", s, got, err)
		}
		for i := range len(b) * 8 {
			b[i/8] ^= 1 << (i % 8)
			if got, err := ParseSync(b); err == nil {
				t.Fatalf("bit %d turned over: %+v became %+v", i, s, got)
			}
			b[i/8] ^= 1 << (i % 8)
		}
	})
}

// TestMessagesRoundTrip: any message is read back, and none of its beginnings is
// a message.
func TestMessagesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, prefix := drawMessage(t), drawPrefix(t)
		b, err := AppendMessage(slices.Clone(prefix), m)
		b = appended(t, prefix, b, err)
		if got, err := ParseMessage(b); err != nil || sayMessage(got) != sayMessage(m) {
			t.Fatalf("%s became %s, %v", sayMessage(m), sayMessage(got), err)
		}
		if m.Type == Update && len(b) != UpdateOverhead+len(m.Value) {
			t.Fatalf("an UPDATE of %d bytes of value has %d", len(m.Value), len(b))
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if got, err := ParseMessage(b[:cut]); err == nil {
			t.Fatalf("%d of %d bytes became %s", cut, len(b), sayMessage(got))
		}
	})
}

// tunnelled fails the test unless b is an UPDATE of channel with attribute, whose
// value it returns.
func tunnelled(t *rapid.T, b []byte, channel, attribute Attribute) []byte {
	t.Helper()
	m, err := ParseMessage(b)
	want := Message{Type: Update, Attribute: channel, Reason: ReasonUnsolicited, Value: m.Value}
	if err != nil || sayMessage(m) != sayMessage(want) {
		t.Fatalf("%s, %v", sayMessage(m), err)
	}
	got, value, err := ParseTunnel(m.Value)
	if err != nil || got != attribute {
		t.Fatalf("%v, %v", got, err)
	}
	if n := MaxMessage(len(value)); n != len(b) {
		t.Fatalf("MaxMessage of %d is %d, the message has %d", len(value), n, len(b))
	}
	return value
}

// drawInfo draws an info that has only what its state carries.
func drawInfo(t *rapid.T) Info {
	i := Info{State: InfoState(rapid.IntRange(0, 5).Draw(t, "state"))}
	switch i.State {
	case InfoBegin:
		i.Type, i.Size = rapid.Uint16().Draw(t, "type"), rapid.Uint32().Draw(t, "size")
		i.Version = rapid.Uint64().Draw(t, "version")
	case InfoVerify:
		copy(i.SHA256[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "SHA-256"))
	case InfoApply:
		i.Version = rapid.Uint64().Draw(t, "version")
	}
	return i
}

// TestInfosRoundTrip: any info is read back, with the rest of the struct behind
// it or not, and not when it is cut short.
func TestInfosRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i, prefix := drawInfo(t), drawPrefix(t)
		channel := rapid.SampledFrom([]Attribute{ChannelToMCU, ChannelToASR}).Draw(t, "channel")
		b, err := AppendInfo(slices.Clone(prefix), channel, i)
		value := tunnelled(t, appended(t, prefix, b, err), channel, OTAInfo)
		rest := rapid.SliceOfN(rapid.Byte(), 0, 33-len(value)).Draw(t, "rest")
		if got, err := ParseInfo(append(slices.Clone(value), rest...)); err != nil || got != i {
			t.Fatalf("%+v became %+v, %v", i, got, err)
		}
		cut := rapid.IntRange(0, len(value)-1).Draw(t, "cut")
		if got, err := ParseInfo(value[:cut]); err == nil {
			t.Fatalf("%d of %d bytes became %+v", cut, len(value), got)
		}
	})
}

// TestTransfersRoundTrip: any chunk and any answer are read back.
func TestTransfersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix, offset := drawPrefix(t), rapid.Uint32().Draw(t, "offset")
		data := rapid.SliceOfN(rapid.Byte(), 1, 2042).Draw(t, "data")
		b, err := AppendTransfer(slices.Clone(prefix), offset, data)
		value := tunnelled(t, appended(t, prefix, b, err), ChannelToMCU, OTATransfer)
		if ChunkSize(len(value)) != len(data) {
			t.Fatalf("an attribute of %d bytes holds %d, ChunkSize says %d", len(value), len(data), ChunkSize(len(value)))
		}
		if o, d, err := ParseTransfer(value); err != nil || o != offset || !bytes.Equal(d, data) {
			t.Fatalf("% x at %d became % x at %d, %v", data, offset, d, o, err)
		}
		b, err = AppendNext(slices.Clone(prefix), offset)
		value = tunnelled(t, appended(t, prefix, b, err), ChannelToASR, OTATransfer)
		if next, err := ParseNext(value); err != nil || next != offset {
			t.Fatalf("%d became %d, %v", offset, next, err)
		}
	})
}

// TestVersionAttributesRoundTrip: an attribute has a firmware type exactly if it
// is the version attribute of one that an MCU can have.
func TestVersionAttributesRoundTrip(t *testing.T) {
	for n := range 1 << 16 {
		a := Attribute(n)
		got, ok := a.FirmwareType()
		if known := n >= 2101 && n <= 2200; ok != known {
			t.Fatalf("attribute %d: %d, %v", n, got, ok)
		}
		if ok && VersionAttribute(got) != a {
			t.Fatalf("attribute %d is type %d, whose attribute is %d", n, got, VersionAttribute(got))
		}
	}
}
