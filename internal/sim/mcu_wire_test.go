package sim

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/tlv"
)

// TestMCUSpeaksTheDocumentedFrames holds the MCU against the frames of
// docs/wire.md section 7, byte by byte.
func TestMCUSpeaksTheDocumentedFrames(t *testing.T) {
	const (
		offer    = "7e 01 00 00 0d 00 01 05 05 32 2e 31 2e 30 12 04 00 01 00 00 b2 29 7e"
		shortLen = "05 05 32 2e 31 2e 30 12 02 80 00"
		ack0     = "7e 02 00 7b 6d 7e"
		goAhead  = "7e 01 00 00 0d 00 10 1b d0 7e"
		load     = "7e 01 01 00 0e 00 02 11 04 00 00 00 00 04 04 7d 5e 7d 5d 20 00 48 c5 7e"
		boot     = "7e 01 02 00 10 00 03 05 05 32 2e 31 2e 30 31 96 7e"
		checksum = "7e 01 01 00 0f 00 11 07 01 0e 4b fd 7e"
		sendProp = "7e 01 03 01 06 00 04 01 10 6f 65 6d 5f 68 6f 73 74 5f 76 65 72 73 69 6f 6e ab f6 7e"
	)
	synctest.Test(t, func(t *testing.T) {
		say, hear, done := onTheWire(t, NewMCU(MCUConfig{Report: ReportOnRequest}))
		defer done()
		say(offer)
		hear(ack0)
		hear(goAhead)
		say(ack(0))
		say(load)
		hear(ack(1))
		say(load) // once more with the same number, as if the ack had been lost: acknowledged, not loaded twice
		hear(ack(1))
		say(boot) // too early: the image is not complete
		hear(ack(2))
		hear(checksum)
		say(ack(1))
		say(sendProp)
		hear(ack(3))
		version, _, err := tlv.AppendSendText(nil, 4, DefaultVersionProperty, DefaultMCUVersion, 0)
		if err != nil {
			t.Fatal(err)
		}
		frame, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: 2, Payload: version})
		hear(hexOf(frame))
		hear(hexOf(frame)) // not acknowledged: sent again with the same number
		say(ack(2))
		short := append(tlv.AppendHeader(nil, tlv.OpOTA, 9), unhex(t, shortLen)...)
		frame, _ = tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: 4, Payload: short})
		say(hexOf(frame)) // a LEN of two bytes
		hear(ack(4))
		frame, _ = tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: 3, Payload: tlv.AppendGo(nil, 0x12)})
		hear(hexOf(frame))
	})
}

// onTheWire runs an MCU at the other end of a pipe. say writes bytes in hex to
// it, hear wants exactly these bytes from it.
func onTheWire(t *testing.T, mcu Host) (say, hear func(string), done func()) {
	module, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mcu.Run(ctx, far) }()
	say = func(s string) {
		t.Helper()
		if _, err := module.Write(unhex(t, s)); err != nil {
			t.Fatal(err)
		}
	}
	hear = func(s string) {
		t.Helper()
		want := unhex(t, s)
		got := make([]byte, len(want))
		_ = module.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(module, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("heard % x (%v), want % x", got, err, want)
		}
	}
	done = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = module.Close()
	}
	return say, hear, done
}

// ack is the frame that acknowledges seq.
func ack(seq byte) string {
	b, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameAck, Seq: seq})
	return hexOf(b)
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, c := range b {
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

func TestMCUAnswersQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := string(bytes.Repeat([]byte("0123456789 äöü "), 60))
		r := newRig(t, MCUConfig{
			Properties: map[string]string{"serial": "A-17", "notes": long},
			Features:   tlv.FeatureOTA | tlv.FeatureConfirm,
			Report:     ReportOnConnect,
		}, LineConfig{})
		defer r.close()

		r.mustSend(tlv.AppendConnect(nil, 1, tlv.NodeCloud), nil)
		if _, err := r.await(time.Second, tlv.OpListenEnable); err != nil {
			t.Error(err)
		}
		_, _ = r.await(time.Second, tlv.OpSendTLV)
		if v := r.props[DefaultVersionProperty]; v != DefaultMCUVersion {
			t.Errorf("version %q after CONNECT", v)
		}
		for name, want := range map[string]string{"serial": "A-17", "notes": long} {
			r.mustSend(tlv.AppendSendProp(nil, 7, name))
			for range 10 {
				if _, err := r.await(time.Second, tlv.OpSendTLV); err != nil || r.props[name] != "" {
					break
				}
			}
			if r.props[name] != want {
				t.Errorf("property %s is %q", name, r.props[name])
			}
		}
		nak := func(packet []byte, want tlv.NAK) {
			t.Helper()
			r.mustSend(packet, nil)
			p, err := r.await(time.Second, tlv.OpNAK, tlv.OpControlNAK)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := tlv.ParseNAK(p); err != nil || got != want {
				t.Errorf("NAK %+v (%v), want %+v", got, err, want)
			}
		}
		unknown, err := tlv.AppendSendProp(nil, 8, "nonsense")
		if err != nil {
			t.Fatal(err)
		}
		nak(unknown, tlv.NAK{Code: tlv.CodeInvalidName})
		nak(tlv.AppendHeader(nil, tlv.OpSendProp, 9), tlv.NAK{Features: tlv.FeatureOTA | tlv.FeatureConfirm, HasFeatures: true})
		nak(tlv.AppendHeader(nil, tlv.OpOf(tlv.ProtocolControl, 0x7f), 10), tlv.NAK{Code: tlv.CodeInvalidOp})
		nak(append(tlv.AppendHeader(nil, tlv.OpOTALoad, 11), byte(tlv.TypeBin), 200, 1), tlv.NAK{Code: tlv.CodeLength})

		ping := append(tlv.AppendPing(nil, 12), "any bytes at all"...)
		r.mustSend(ping, nil)
		p, err := r.await(time.Second, tlv.OpOf(tlv.ProtocolPing, 0))
		if err != nil || !bytes.Equal(p.TLVs, ping[tlv.HeaderSize:]) {
			t.Errorf("ping came back as %q, %v", p.TLVs, err)
		}
	})
}
