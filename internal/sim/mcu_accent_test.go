package sim

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/tlv"
)

// TestMCUTooLong: what an MCU does with a frame that its receive buffer does not
// hold, counted as it stands on the line or without escapes.
func TestMCUTooLong(t *testing.T) {
	ping := func(n int, fill byte) []byte {
		return append(tlv.AppendPing(nil, 1), bytes.Repeat([]byte{fill}, n-4)...)
	}
	for _, tc := range []struct {
		name   string
		cfg    MCUConfig
		packet []byte
		lost   bool
		answer tlv.Op // 0 for the echo
		code   tlv.Code
	}{
		{name: "fits", packet: ping(100, 0)},
		{name: "lost", packet: ping(101, 0), lost: true},
		{name: "escapes do not count", packet: ping(100, 0x7e)},
		{name: "escapes count", cfg: MCUConfig{RxStuffed: true}, packet: ping(53, 0x7e), lost: true},
		{name: "escapes count, fits", cfg: MCUConfig{RxStuffed: true}, packet: ping(52, 0x7d)},
		{name: "STAT", cfg: MCUConfig{RxCode: tlv.CodeOverflow}, packet: ping(101, 0), answer: tlv.OpOTAStat, code: tlv.CodeOverflow},
		{name: "NAK", cfg: MCUConfig{RxCode: tlv.CodeLength, RxNAK: true}, packet: append(tlv.AppendHeader(nil, tlv.OpOTALoad, 1), make([]byte, 97)...), answer: tlv.OpControlNAK, code: tlv.CodeLength},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.RxLimit, tc.cfg.Report = 100, ReportOnRequest
				r := newRig(t, tc.cfg, LineConfig{})
				defer r.close()
				if err := r.send(tc.packet); errors.Is(err, errNoAck) != tc.lost {
					t.Fatalf("sent: %v", err)
				}
				switch {
				case tc.lost:
				case tc.answer == 0:
					if p, err := r.await(time.Second, tlv.Op(uint16(tlv.ProtocolPing)<<8)); err != nil || len(p.TLVs) != len(tc.packet)-4 {
						t.Errorf("echo of %d bytes, %v", len(p.TLVs), err)
					}
				default:
					p, err := r.await(time.Second, tc.answer)
					if err != nil {
						t.Fatal(err)
					}
					n, err := tlv.ParseNAK(tlv.Packet{Op: tlv.OpControlNAK, TLVs: p.TLVs}) // a STAT has the same
					if err != nil || n.Code != tc.code {
						t.Errorf("%v, %v", n.Code, err)
					}
				}
			})
		})
	}
}

// TestMCUAccent: what it says means the same in every form.
func TestMCUAccent(t *testing.T) {
	long, _, err := tlv.AppendSendText(nil, 7, "log", string(bytes.Repeat([]byte("x"), 700)), 255)
	if err != nil {
		t.Fatal(err)
	}
	stat := tlv.AppendStat(nil, 7, tlv.CodeInternal)
	for _, tc := range []struct {
		name   string
		cfg    MCUConfig
		packet []byte
		bytes  int // of the result
	}{
		{"as it is", MCUConfig{}, long, len(long)},
		{"short offset", MCUConfig{ShortOffsets: true}, long, len(long) - 2},
		{"extras where there is little room", MCUConfig{Extras: true}, long, len(long) + 5 + 4 + 2},
		{"extras", MCUConfig{Extras: true}, stat, len(stat) + 5 + 2 + 0x104 + 4 + 2},
		{"a ping", MCUConfig{Extras: true, ShortOffsets: true}, append(tlv.AppendPing(nil, 1), 0x11, 4, 0, 0), 8},
	} {
		got := NewMCU(tc.cfg).accent(tc.packet)
		if len(got) != tc.bytes {
			t.Errorf("%s: %d bytes, want %d: % x", tc.name, len(got), tc.bytes, got)
		}
		p, err := tlv.ParsePacket(got)
		if err != nil {
			t.Fatal(err)
		}
		switch p.Op {
		case tlv.OpOTAStat:
			if code, err := tlv.ParseStat(p); err != nil || code != tlv.CodeInternal {
				t.Errorf("%s: %v, %v", tc.name, code, err)
			}
		case tlv.OpSendTLV:
			if v, err := tlv.ParseProp(p); err != nil || v.Offset != 255 || len(v.Value) != 255 {
				t.Errorf("%s: %+v, %v", tc.name, v, err)
			}
		}
	}
}

// TestMCUFeatures: the answer to a SEND_PROP without a name.
func TestMCUFeatures(t *testing.T) {
	for _, tc := range []struct {
		cfg  MCUConfig
		want tlv.NAK
		ok   bool
	}{
		{MCUConfig{Features: tlv.FeatureOTA}, tlv.NAK{Features: tlv.FeatureOTA, HasFeatures: true}, true},
		{MCUConfig{Features: tlv.FeatureOTA, FeaturesCode: tlv.CodeUnknownVar}, tlv.NAK{Features: tlv.FeatureOTA, HasFeatures: true, Code: tlv.CodeUnknownVar}, true},
		{MCUConfig{NoFeatures: true, FeaturesCode: tlv.CodeInvalidOp}, tlv.NAK{Code: tlv.CodeInvalidOp}, true},
		{MCUConfig{NoFeatures: true}, tlv.NAK{}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			tc.cfg.Report = ReportOnRequest
			r := newRig(t, tc.cfg, LineConfig{})
			defer r.close()
			r.mustSend(tlv.AppendHeader(nil, tlv.OpSendProp, 1), nil)
			p, err := r.await(time.Second, tlv.OpNAK)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := tlv.ParseNAK(p); n != tc.want || (err == nil) != tc.ok {
				t.Errorf("%+v, %v; want %+v", n, err, tc.want)
			}
		})
	}
}

// TestMCUPings: it counts the pings that come back as they were, and does not echo
// them once more.
func TestMCUPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, MCUConfig{Ping: time.Second, Report: ReportOnRequest}, LineConfig{})
		defer r.close()
		p, err := r.await(10*time.Second, tlv.Op(uint16(tlv.ProtocolPing)<<8))
		if err != nil {
			t.Fatal(err)
		}
		r.mustSend(append(tlv.AppendPing(nil, p.Req), p.TLVs...), nil)
		r.mustSend(tlv.AppendPing(nil, p.Req), nil)
		if n := r.mcu.Stats().PingsEchoed; n != 1 {
			t.Errorf("%d pings came back", n)
		}
	})
}
