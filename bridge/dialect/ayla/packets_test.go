package ayla

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/tlv"
)

func TestPingIsEchoed(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.settle()
		b.drain(t)
		ping := append(tlv.AppendPing(nil, 0x1234), 0x0a, 2, 0x7e, 0x7d)
		b.send(ping)
		f := <-b.frames
		if !bytes.Equal(f.Payload, ping) {
			t.Errorf("answer % x, want % x", f.Payload, ping)
		}
	})
}

func TestUnknownPacketsAreRefused(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.send(tlv.AppendPing(nil, 1)) // seq 0 begins with a greeting
		b.settle()
		b.drain(t)
		for _, c := range []struct {
			packet []byte
			want   tlv.Op
			code   tlv.Code
		}{
			{tlv.AppendHeader(nil, 0x0042, 7), tlv.OpControlNAK, tlv.CodeInvalidOp},
			{tlv.AppendHeader(nil, 0x0142, 8), tlv.OpNAK, tlv.CodeInvalidOp},
			{append(tlv.AppendHeader(nil, tlv.OpSendTLV, 9), 1, 200, 'x'), tlv.OpNAK, tlv.CodeLength},
			{tlv.AppendHeader(nil, tlv.OpOTAStat, 10), tlv.OpControlNAK, tlv.CodeInvalidTLV},
		} {
			b.send(c.packet)
			p := b.next(t, time.Second)
			n, err := tlv.ParseNAK(p)
			if err != nil || p.Op != c.want || n.Code != c.code || p.Req != uint16(c.packet[3]) {
				t.Errorf("% x: answer %v %v, request %d, error %v", c.packet, p.Op, n.Code, p.Req, err)
			}
		}
		// A NAK, an unknown protocol and a packet without a header are not answered.
		b.send(tlv.AppendNAK(nil, tlv.OpControlNAK, 1, tlv.CodeInvalidOp))
		b.send(tlv.AppendNAK(nil, tlv.OpNAK, 1, tlv.CodeInvalidOp))
		b.send([]byte{9, 9, 0, 0})
		b.send([]byte{1})
		b.settle()
		if n := len(b.frames); n != 0 {
			t.Errorf("%d answers", n)
		}
	})
}

// say sends a string property, in several packets if it has to.
func (b *bench) say(name, text string) {
	for off := 0; ; {
		packet, next, err := tlv.AppendSendText(nil, 0x99, name, text, off)
		if err != nil {
			b.Fatal(err)
		}
		b.send(packet)
		b.settle()
		if off = next; off == len(text) {
			return
		}
	}
}

func TestVersionsAreTold(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.send(tlv.AppendFeatures(nil, 1, tlv.FeatureOTA|tlv.FeatureConfirm))
		b.settle()
		b.drain(t)
		b.say(DefaultVersionProperty, "1.2.3")
		b.say("log", strings.Repeat("a long string ", 60))
		b.say("log", strings.Repeat("longer than anybody puts together ", 60))
		b.say(DefaultVersionProperty, strings.Repeat("v", 255))
		b.say(DefaultVersionProperty, strings.Repeat("v", 256)) // no version has so many
		b.say(DefaultVersionProperty, "bell\a")
		b.send(append(tlv.AppendHeader(nil, tlv.OpSendTLV, 3), 1, 1, 'n', 2, 1, 5))
		b.settle()
		want := []string{DefaultVersionProperty + "=1.2.3", DefaultVersionProperty + "=" + strings.Repeat("v", 255)}
		if got := b.Said(); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("told %q, want %q", got, want)
		}
		confirms := 0
		for len(b.frames) > 0 {
			if p := b.next(t, time.Second); p.Op == tlv.OpConfirm {
				confirms++
			}
		}
		if confirms != 7 {
			t.Errorf("%d confirmations for 7 properties", confirms)
		}
	})
}

func TestNobodyIsConfirmedUnasked(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.settle()
		b.say("x", "y") // seq 0: greeted once more
		b.drain(t)
		b.say("x", "z")
		if n := len(b.frames); n != 0 {
			t.Errorf("%d frames in answer to a property", n)
		}
	})
}

// An MCU may answer CONNECT with LISTEN_ENB, and that must come to an end.
func TestListenEnable(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		var connects atomic.Int32
		go func() {
			for f := range b.frames {
				if p, err := tlv.ParsePacket(f.Payload); err == nil && p.Op == tlv.OpConnect {
					connects.Add(1)
					b.listenEnable()
				}
			}
		}()
		time.Sleep(time.Minute)
		if n := connects.Load(); n < 1 || n > 2 {
			t.Errorf("%d CONNECTs in a minute", n)
		}
	})
}

// Every frame is acknowledged, repeated ones too, and handled once.
func TestRepeatedFrames(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.settle()
		b.say("x", "y")
		b.drain(t)
		for len(b.acks) > 0 {
			<-b.acks
		}
		f := tlv.Frame{Type: tlv.FrameData, Seq: 9, Payload: tlv.AppendPing(nil, 5)}
		for range 3 {
			b.raw(f)
			b.settle()
		}
		if len(b.acks) != 3 || len(b.frames) != 1 {
			t.Errorf("%d acks and %d answers to a ping sent three times", len(b.acks), len(b.frames))
		}
	})
}

// A flood of questions costs answers, not memory, and not the update.
func TestFlood(t *testing.T) {
	virtual(t, 2000, func(b *bench) {
		b.begin()
		for i := range 200 {
			b.raw(tlv.Frame{Type: tlv.FrameData, Seq: byte(i%255) + 1, Payload: tlv.AppendPing(nil, uint16(i))})
		}
		for at := 0; at < len(b.image); {
			p := b.next(t, time.Minute)
			if p.Op != tlv.OpOTALoad {
				continue
			}
			l, err := tlv.ParseLoad(p)
			if err != nil || int(l.Offset) != at {
				t.Fatalf("LOAD at %d, want %d; error %v", l.Offset, at, err)
			}
			at += len(l.Data)
		}
	})
}

func TestFrameIsSentAgainAndGivenUp(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.hush(func(tlv.Frame) bool { return true })
		time.Sleep(patience + session.AckCeiling)
		if n := b.Count(dialect.FramesLost); n != 1 {
			t.Errorf("%d frames given up, want 1", n)
		}
		if first := b.Count(dialect.FramesSent); first != 1 {
			t.Errorf("%d frames sent while none was acknowledged", first)
		}
		if n := b.Count(dialect.FramesRetried); n < 3 || n > 12 {
			t.Errorf("sent again %d times", n)
		}
	})
}

func TestSilentMCUIsGreetedWhenItComes(t *testing.T) {
	virtual(t, 300, func(b *bench) {
		b.hush(func(tlv.Frame) bool { return true })
		time.Sleep(time.Hour)
		b.drain(t)
		b.hush(nil)
		b.send(tlv.AppendPing(nil, 1))
		b.want(t, tlv.OpSendProp)
	})
}

// Every code has a cause, and a failure's cause is never none.
func TestCauseOfEveryCode(t *testing.T) {
	want := map[tlv.Code][2]schemas.Cause{
		tlv.CodeTimeout:       {schemas.CauseTimeout, schemas.CauseTimeout},
		tlv.CodeLength:        {schemas.CauseSize, schemas.CauseSize},
		tlv.CodeUnknownType:   {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeUnknownVar:    {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidTLV:    {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidOp:     {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidDP:     {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidOffset: {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidReq:    {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeInvalidName:   {schemas.CauseRejected, schemas.CauseProtocol},
		tlv.CodeConnection:    {schemas.CauseRejected, schemas.CauseSerial},
		tlv.CodeServiceBusy:   {schemas.CauseRejected, schemas.CauseTimeout},
		tlv.CodeInternal:      {schemas.CauseFlash, schemas.CauseFlash},
		tlv.CodeChecksum:      {schemas.CauseChecksum, schemas.CauseChecksum},
		tlv.CodeAlready:       {schemas.CauseAlready, schemas.CauseAlready},
		tlv.CodeBoot:          {schemas.CauseRejected, schemas.CauseBoot},
		tlv.CodeOverflow:      {schemas.CauseSize, schemas.CauseProtocol},
		tlv.CodeBusyRetry:     {schemas.CauseRejected, schemas.CauseTimeout},
	}
	for n := 1; n < 256; n++ {
		code := tlv.Code(n)
		offer, later := causeOf(code)
		if w, ok := want[code]; ok != code.Known() {
			t.Errorf("%v: in the table %t, in the documents %t", code, ok, code.Known())
		} else if ok && (offer != w[0] || later != w[1]) {
			t.Errorf("%v: %s and %s, want %s and %s", code, offer, later, w[0], w[1])
		}
		if !offer.Valid() || !later.Valid() || offer == "" || later == "" {
			t.Errorf("%v: causes %q and %q", code, offer, later)
		}
	}
}

// Whatever an MCU sends, the session neither panics nor owes more than its
// buffers hold.
func FuzzSession(f *testing.F) {
	frame := func(seq byte, packet []byte) []byte {
		b, err := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(frame(0, tlv.AppendGo(nil, 1)), byte(1))
	f.Add(frame(4, tlv.AppendStat(nil, 1, tlv.CodeInternal)), byte(4))
	f.Add(append(frame(1, tlv.AppendGo(nil, 1)), frame(0, tlv.AppendListenEnable(nil, 2))...), byte(5))
	f.Add(frame(9, []byte{1, 9, 0, 1, 1, 16, 'o'}), byte(6))
	f.Add(bytes.Repeat([]byte{0x7d}, 2000), byte(0))
	f.Fuzz(func(t *testing.T, in []byte, start byte) {
		s := newMachine(dialect.Config{Baud: 115_200, VersionProperties: []string{DefaultVersionProperty}, OfferInterval: time.Minute}, dialecttest.NewRecorder())
		now := time.Unix(1000, 0)
		s.Begin(now)
		ready := make(chan struct{})
		close(ready)
		s.Order(&dialect.Update{Version: newVersion, Size: 1000, Image: zeros{}, Ready: ready, Reporter: quiet{}}, now)
		s.u.phase, s.u.offered, s.u.offer = phase(start)%(phaseBoot+1), true, false
		for len(in) > 0 {
			n := min(len(in), int(start)+1)
			s.Receive(in[:n], now)
			in, now = in[n:], now.Add(time.Second)
			if s.Step(now).Write != nil {
				s.Sent(now)
			}
			if s.link.owed > len(s.link.acks) || s.replies.n > len(s.replies.bufs) {
				t.Fatal("owes more than it can hold")
			}
		}
	})
}
