package afero

import (
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/schemas/afpro"
)

// resets says how many restarts of the MCU were noticed so far.
func (b *bench) resets() int { return b.Count(dialect.MCUResets) }

// The order of the start-up is the protocol's: what comes early is not heard.
func TestStartUpOfProtocol2(t *testing.T) {
	for _, version := range []uint16{1, 2, 3, 0x1234} {
		virtual(t, 20, func(b *bench) {
			b.wants(saysProtocol)
			b.tells(afpro.MCUProtocol, uint16le(version)...)
			m := b.hear(time.Second)
			if v, err := afpro.ParseUint16(m.Value); m.Attribute != afpro.MCUProtocol || err != nil || v != version {
				t.Errorf("said %q, want the echo of %d", describe(m), version)
			}
			b.linked()
			b.asked()
		})
	}
}

func TestStartUpOfProtocol1(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.wants(saysProtocol)
		began := time.Now()
		b.ready(time.Minute)
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2*time.Second {
			t.Errorf("the start-up went on after %v", took)
		}
		b.linked()
		b.asked()
	})
}

// An MCU may be slow to say its protocol version, or say it unasked since it has
// restarted. Its gate is shut then, and what follows the echo is needed once more.
func TestLateAndUnaskedProtocolVersion(t *testing.T) {
	for _, c := range []struct {
		name string
		upTo func(b *bench)
	}{
		{"behind the application version", func(b *bench) { b.wants(saysProtocol); b.wants(saysApplication) }},
		{"behind the first state", func(b *bench) { b.wants(saysProtocol); b.wants(saysApplication); b.wants(saysLinked) }},
		{"behind the start-up", func(b *bench) { b.wants(saysProtocol); b.linked() }},
		{"long after it", func(b *bench) { b.up(oldID); b.pass(time.Minute) }},
		{"once more behind its echo", func(b *bench) { b.wants(saysProtocol); b.tells(afpro.MCUProtocol, 2, 0); b.wants(saysEcho) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				c.upTo(b)
				b.tells(afpro.MCUProtocol, 2, 0)
				if say := describe(b.hear(time.Minute)); say != saysEcho { // or what waited already
					b.wants(saysEcho)
				}
				b.linked()
			})
		})
	}
}

// One that the MCU says before it is asked is asked for all the same.
func TestProtocolVersionBeforeTheQuestion(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.tells(afpro.MCUProtocol, 2, 0)
		b.wants(saysProtocol)
		b.quiet(time.Second, "the MCU has yet to answer")
		b.tells(afpro.MCUProtocol, 2, 0)
		b.wants(saysEcho)
		b.linked()
	})
}

// A protocol version that is none is no answer.
func TestProtocolVersionOfAnotherLength(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.wants(saysProtocol)
		b.tells(afpro.MCUProtocol, 2)
		b.tells(afpro.MCUProtocol, 2, 0, 0, 0)
		b.linked()
	})
}

// GETs are answered with their request id, also before the start-up is through.
func TestAnswersToGET(t *testing.T) {
	for attribute, say := range map[afpro.Attribute]string{
		afpro.ASRCapabilities:   "UPDATE ASR capabilities: 80 (answer to GET)",
		afpro.ASRProtocol:       "UPDATE ASR protocol version: 2 (answer to GET)",
		afpro.ASRState:          "UPDATE ASR state: initialized (answer to GET)",
		1:                       "UPDATE attribute 1: unknown attribute (answer to GET)",
		0xffff:                  "UPDATE attribute 65535: unknown attribute (answer to GET)",
		afpro.MCUProtocol:       "UPDATE MCU protocol version: unknown attribute (answer to GET)",
		2000 + firmwareType:     "UPDATE version of type 101: unknown attribute (answer to GET)",
		2000 + afpro.MaxType:    "UPDATE version of type 200: unknown attribute (answer to GET)",
		afpro.MCUCapabilities:   "UPDATE afLib capabilities: unknown attribute (answer to GET)",
		afpro.OTAInfo:           "UPDATE OTA info: unknown attribute (answer to GET)",
		afpro.SystemCommand:     "UPDATE system command: unknown attribute (answer to GET)",
		afpro.SystemCommand - 1: "UPDATE attribute 65011: unknown attribute (answer to GET)",
	} {
		t.Run(attribute.String(), func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.wants(saysProtocol)
				for _, request := range []byte{0, 1, 0xff} {
					b.says(afpro.Message{Type: afpro.Get, Request: request, Attribute: attribute})
					if m := b.wants(say); m.Request != request {
						t.Errorf("request id %d, want %d", m.Request, request)
					}
				}
			})
		})
	}
}

// SETs are answered with their request id and their value. Some afLibs SET what
// others UPDATE, which has the same effect.
func TestAnswersToSET(t *testing.T) {
	for _, c := range []struct {
		attribute afpro.Attribute
		value     []byte
		say       string
	}{
		{afpro.MCUCapabilities, []byte{0}, "UPDATE afLib capabilities: 0 (answer to an MCU SET)"},
		{afpro.SystemCommand, []byte{2, 0, 0, 0}, "UPDATE system command: 02 00 00 00 (answer to an MCU SET)"},
		{2000 + firmwareType, uint64le(oldID), "UPDATE version of type 101: 6 (answer to an MCU SET)"},
		{2000 + afpro.MaxType, uint64le(1 << 60), "UPDATE version of type 200: 1152921504606846976 (answer to an MCU SET)"},
		{1, []byte{1}, "UPDATE attribute 1: unknown attribute (answer to an MCU SET)"},
		{2000, uint64le(1), "UPDATE attribute 2000: unknown attribute (answer to an MCU SET)"},
		{2000 + afpro.MinType - 1, uint64le(1), "UPDATE attribute 2100: unknown attribute (answer to an MCU SET)"},
		{2000 + afpro.MaxType + 1, uint64le(1), "UPDATE attribute 2201: unknown attribute (answer to an MCU SET)"},
		{1, nil, "UPDATE attribute 1: unknown attribute (answer to an MCU SET)"},
		{afpro.SystemCommand, make([]byte, 9), "UPDATE system command: length exceeded (answer to an MCU SET)"},
		{1, make([]byte, 255), "UPDATE attribute 1: length exceeded (answer to an MCU SET)"},
	} {
		t.Run(c.say, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.wants(saysProtocol)
				b.says(afpro.Message{Type: afpro.Set, Request: 0xa5, Attribute: c.attribute, Value: c.value})
				if m := b.wants(c.say); m.Request != 0xa5 {
					t.Errorf("request id %#x", m.Request)
				}
				b.tells(afpro.MCUProtocol, 2, 0)
				b.wants(saysEcho)
			})
		})
	}
}

func TestSETInThePlaceOfUPDATE(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.wants(saysProtocol)
		b.says(afpro.Message{Type: afpro.Set, Request: 9, Attribute: afpro.MCUProtocol, Value: []byte{2, 0}})
		if m := b.wants("UPDATE MCU protocol version: 2 (answer to an MCU SET)"); m.Request != 9 {
			t.Errorf("the answer has request id %d", m.Request)
		}
		if m := b.wants(saysEcho); m.Request != 0 {
			t.Errorf("the echo has request id %d", m.Request)
		}
		b.linked()
		for range 2 {
			b.says(afpro.Message{Type: afpro.Set, Request: 10, Attribute: 2000 + firmwareType, Value: uint64le(oldID)})
		}
		b.toldLast(property + "=6")
	})
}

// An MCU that asks faster than it listens has the oldest questions answered.
func TestMoreQuestionsThanAnswersFit(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		var owed replies
		room := len(owed.list) + 1 // one is with the transport
		for i := range 2 * room {
			b.says(afpro.Message{Type: afpro.Get, Request: byte(i), Attribute: afpro.ASRCapabilities})
		}
		for i := range room {
			if m := b.wants("UPDATE ASR capabilities: 80 (answer to GET)"); int(m.Request) != i {
				t.Errorf("answer %d is to request %d", i, m.Request)
			}
		}
		b.quiet(readyAfter-100*time.Millisecond, "the others are lost")
	})
}

// An MCU that has restarted says so by having the ASR reboot, with SET or UPDATE.
func TestReboot(t *testing.T) {
	reboot := afpro.Message{Type: afpro.Update, Request: 1, Attribute: afpro.SystemCommand, Value: []byte{afpro.CommandReboot}}
	for _, c := range []struct {
		name string
		upTo func(b *bench)
	}{
		{"when all is quiet", func(b *bench) { b.up(oldID) }},
		{"in the start-up", func(b *bench) {
			b.wants(saysProtocol)
			b.tells(afpro.MCUProtocol, 2, 0)
			b.wants(saysEcho)
			b.wants(saysApplication)
		}},
		{"before the start-up", func(b *bench) {}},
		{"with a question under way", func(b *bench) { b.startsUp(); b.asked() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				c.upTo(b)
				b.reboots()
				b.up(oldID)
				b.says(reboot)
				b.up(oldID)
				if n := b.resets(); n != 2 {
					t.Errorf("%d restarts noticed", n)
				}
			})
		})
	}
}

func TestOtherCommandsRebootNothing(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		for _, value := range [][]byte{nil, {0, 1, 0, 0}, {2, 0, 0, 0}} {
			b.tells(afpro.SystemCommand, value...)
			b.quiet(readyAfter-100*time.Millisecond, "no command to reboot")
		}
		if n := b.resets(); n != 0 {
			t.Errorf("%d restarts noticed", n)
		}
	})
}

// What only an ASR says, and what nobody does, means nothing.
func TestMessagesThatMeanNothing(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		for _, m := range []afpro.Message{
			{Type: afpro.UpdateRejected, Attribute: afpro.ChannelToASR},
			{Type: afpro.SetDefault, Attribute: afpro.SystemCommand, Value: []byte{1}},
			{Type: afpro.Update, Attribute: afpro.ChannelToMCU, Value: []byte{0x15, 5, 0}},
			{Type: afpro.Update, Attribute: afpro.ChannelToASR},
			{Type: afpro.Update, Attribute: afpro.ChannelToASR, Value: []byte{0x15, 5}},
			{Type: afpro.Update, Attribute: afpro.ChannelToASR, Value: []byte{0x16, 5, 0, 0}},
			{Type: afpro.Update, Attribute: afpro.ChannelToASR, Value: []byte{0x17, 5, 0, 0}},
			{Type: afpro.Update, Attribute: afpro.ASRState, Value: []byte{0}},
		} {
			b.says(m)
			b.quiet(readyAfter-100*time.Millisecond, describe(m))
		}
		b.accepts()
		b.loads(0, 20)
	})
}
