package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas/afpro"
	"davit/schemas/tlv"
)

// evil is in all text that an attacking MCU makes up.
const evil = "evil"

// poison are texts that would do something in a log, a terminal, a topic or JSON.
var poison = []string{
	evil + "\nlevel=ERROR msg=forged", evil + "\r\n{\"level\":\"ERROR\"}", evil + "\x1b[2J\x1b]0;x\a", evil + `","online":true,"x":"`, evil + "/#/+/$SYS",
	evil + "\x00", evil + "\u009b2J", evil + `\u0000\n%s%n`, evil + " level=ERROR msg=forged", evil + "\u2028\u202e", evil + `"} davit_up 1`, evil + "\xff\xfe", evil,
}

// attack is what an MCU does with its line. next returns what it writes next; it
// also acknowledges what it is sent if acks is set, and waits a moment for an
// answer to every sync message if turns is set.
type attack struct {
	name    string
	dialect string
	baud    int // 115,200 if 0
	acks    bool
	turns   bool
	next    func(r *rand.Rand, n int) []byte
	// host stands in the place of next: an MCU that only talks too much.
	host func() sim.Host
}

// frame is a data frame on the Ayla-compatible wire, cut to what one holds.
func frame(seq byte, packet []byte) []byte {
	b, err := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet[:min(len(packet), tlv.MaxPayload)]})
	if err != nil {
		panic(err)
	}
	return b
}

// saying is a packet with a text property, whatever stands in it.
func saying(name, value string) []byte {
	b := append(tlv.AppendHeader(nil, tlv.OpSendTLV, 7), byte(tlv.TypeName), byte(len(name)))
	b = append(append(b, name...), byte(tlv.TypeText), byte(len(value)))
	return append(b, value...)
}

// noiseOf is n random bytes.
func noiseOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// anyPacket is a packet of the Ayla-compatible wire whose parts are all drawn.
func anyPacket(r *rand.Rand) []byte {
	ops := []tlv.Op{
		tlv.OpControlNAK, tlv.OpOTA, tlv.OpOTALoad, tlv.OpOTAStat, tlv.OpOTABoot, tlv.OpNAK, tlv.OpSendProp, tlv.OpSendTLV, tlv.OpConnect,
		tlv.OpListenEnable, tlv.OpConfirm, tlv.OpOf(tlv.ProtocolPing, 0), tlv.Op(r.Uint32()),
	}
	b := tlv.AppendHeader(nil, ops[r.IntN(len(ops))], uint16(r.IntN(20)))
	if r.IntN(4) == 0 {
		b = append(b, byte(tlv.TypeName), byte(len(versionProperty)))
		b = append(b, versionProperty...)
	}
	for range r.IntN(5) {
		t := []tlv.Type{
			tlv.TypeName, tlv.TypeInt, tlv.TypeBin, tlv.TypeText, tlv.TypeErr, tlv.TypeBool, tlv.TypeOff, tlv.TypeLen, tlv.TypeEOF, tlv.TypeFeatures, tlv.Type(r.Uint32()),
		}[r.IntN(11)]
		value := noiseOf(r, r.IntN(8))
		if r.IntN(3) == 0 {
			value = []byte(poison[r.IntN(len(poison))])
		}
		length := len(value)
		if r.IntN(10) == 0 {
			length = r.IntN(256)
		}
		b = append(append(b, byte(t), byte(length)), value...)
	}
	return b
}

// attacks lists what is tried.
func attacks() []attack {
	seq := func(n int) byte { return byte(n%255) + 1 }
	stream := func(b []byte) func(*rand.Rand, int) []byte { return func(*rand.Rand, int) []byte { return b } }
	sync := func(s afpro.Sync) []byte { return afpro.AppendSync(nil, s) }
	message := func(m afpro.Message) []byte {
		b, err := afpro.AppendMessage(nil, m)
		if err != nil {
			panic(err)
		}
		return append(append(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(len(b))}), sync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(len(b))})...), b...)
	}
	return []attack{
		{name: "frames with anything in them", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(byte(r.IntN(256)), anyPacket(r)) }},
		{name: "packets of noise", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(seq(n), noiseOf(r, r.IntN(tlv.MaxPayload))) }},
		{name: "escapes without end", dialect: ayla.Name, next: stream(bytes.Repeat([]byte{0x7d}, 512))},
		{name: "no flag ever", dialect: ayla.Name, baud: 921_600, next: stream(bytes.Repeat([]byte{0x55}, 512))},
		{name: "nothing but flags", dialect: ayla.Name, next: stream(bytes.Repeat([]byte{0x7e}, 512))},
		{name: "versions of 255 random bytes", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(versionProperty, string(noiseOf(r, 255))))
		}},
		{name: "versions that are poison", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(versionProperty, poison[r.IntN(len(poison))]+fmt.Sprint(n)))
		}},
		{name: "properties without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), saying(fmt.Sprint(poison[r.IntN(len(poison))], n), poison[r.IntN(len(poison))]))
		}},
		{name: "goes without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte { return frame(seq(n), tlv.AppendGo(nil, uint16(n))) }},
		{name: "a restart with every frame", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(0, [][]byte{tlv.AppendGo(nil, 1), text(versionProperty, "1."+fmt.Sprint(n)), tlv.AppendListenEnable(nil, 1), tlv.AppendStat(nil, 1, 0)}[n%4])
		}},
		{name: "pings without end", dialect: ayla.Name, acks: true, next: func(r *rand.Rand, n int) []byte {
			return frame(seq(n), append(tlv.AppendPing(nil, 1), poison[n%13]...))
		}},

		{name: "a product that never stops talking", dialect: ayla.Name, host: func() sim.Host {
			return sim.NewMCU(sim.MCUConfig{Traffic: time.Millisecond, Ping: time.Millisecond, Features: tlv.FeatureConfirm})
		}},

		{name: "a product that never stops talking", dialect: afero.Name, host: func() sim.Host {
			return sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID, MCUConfig: sim.MCUConfig{Traffic: time.Millisecond}})
		}},
		{name: "noise", dialect: afero.Name, next: func(r *rand.Rand, n int) []byte { return noiseOf(r, 64) }},
		{name: "syncs with any counts", dialect: afero.Name, next: func(r *rand.Rand, n int) []byte {
			return sync(afpro.Sync{Type: []afpro.SyncType{afpro.SyncCounts, afpro.SyncAck}[r.IntN(2)], MCU: uint16(r.IntN(300)), ASR: uint16(r.IntN(300))})
		}},
		{name: "counts of 65535", dialect: afero.Name, next: stream(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: 65535}))},
		{name: "nothing but sync bytes", dialect: afero.Name, next: stream(bytes.Repeat([]byte{0x30}, 512))},
		{name: "a version for every number", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			return message(afpro.Message{Type: afpro.Update, Attribute: 2000 + firmwareType, Reason: afpro.ReasonUnsolicited, Value: []byte{byte(n), byte(n >> 8), 1, 0, 0, 0, 0, 0}})
		}},
		{name: "attributes without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			types := []afpro.MessageType{afpro.Update, afpro.Set, afpro.Get}
			m := afpro.Message{Type: types[n%3], Attribute: afpro.Attribute(r.Uint32()), Request: byte(n)}
			if m.Type != afpro.Get {
				m.Value = []byte(poison[r.IntN(len(poison))])
			}
			return message(m)
		}},
		{name: "restarts without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			if n%2 == 0 {
				return sync(afpro.Sync{Type: afpro.SyncCounts})
			}
			return message(afpro.Message{Type: afpro.Update, Attribute: afpro.MCUProtocol, Value: []byte{2, 0}})
		}},
		{name: "offsets without end", dialect: afero.Name, turns: true, next: func(r *rand.Rand, n int) []byte {
			b, err := afpro.AppendNext(nil, uint32(r.IntN(4000)))
			if err != nil {
				panic(err)
			}
			return append(append(sync(afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(len(b))}), sync(afpro.Sync{Type: afpro.SyncAck, MCU: uint16(len(b))})...), b...)
		}},
	}
}

// ear tells of each piece that is read.
type ear struct {
	io.Reader
	heard chan struct{}
}

func (e ear) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	select {
	case e.heard <- struct{}{}:
	default:
	}
	return n, err
}

// run attacks on end as fast as the line takes it, until it is closed.
func (a attack) run(end *sim.End, done chan struct{}) {
	defer close(done)
	acks, heard := make(chan byte, 64), make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		for r := tlv.NewReader(ear{end, heard}); ; {
			f, err := r.Next()
			switch {
			case err == nil && a.acks && f.Type == tlv.FrameData && len(acks) < cap(acks):
				acks <- f.Seq
			case err != nil && !errors.Is(err, tlv.ErrFrame):
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(1, 9))
	for n := 0; ; n++ {
		b := a.next(r, n)
		for len(acks) > 0 {
			ack, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameAck, Seq: <-acks})
			b = append(ack, b...)
		}
		if a.turns && b[0] == byte(afpro.SyncCounts) {
			if _, err := end.Write(b[:afpro.SyncSize]); err != nil {
				break
			}
			b = b[afpro.SyncSize:]
			select {
			case <-heard:
			case <-time.After(100 * time.Millisecond): // virtual
			}
		}
		if _, err := end.Write(b); err != nil {
			break
		}
	}
	reader.Wait()
}
