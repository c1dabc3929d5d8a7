package afero

import (
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
	"davit/schemas/afpro"
)

// What an MCU does in the fuzzer's script. Two bits of a byte say it, the others
// how many bytes belong to it.
const (
	doRaw  = iota // sends them as they are
	doSay         // sends them as a message, in a transaction as it should be
	doHear        // lets the machine speak, so many times
	doPass        // lets time go by
)

// longestPass begins and ends a time in which the line takes no bytes.
const longestPass = 63

func do(what, n int) byte { return byte(n<<2 | what) }

// script puts messages into a script, each of them heard before the next.
func script(messages ...[]byte) []byte {
	var s []byte
	for _, m := range messages {
		s = append(append(append(s, do(doHear, 1)), do(doSay, len(m))), m...)
	}
	return s
}

// seeds are scripts of MCUs that behave.
func seeds(f *testing.F) map[string][]byte {
	must := func(b []byte, err error) []byte {
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	say := func(m afpro.Message) []byte { return must(afpro.AppendMessage(nil, m)) }
	info := func(i afpro.Info) []byte { return must(afpro.AppendInfo(nil, afpro.ChannelToASR, i)) }
	next := func(offset uint32) []byte { return must(afpro.AppendNext(nil, offset)) }
	version := say(afpro.Message{Type: afpro.Update, Request: 1, Attribute: 2000 + firmwareType, Reason: afpro.ReasonGet, Value: uint64le(newID)})
	protocol := say(afpro.Message{Type: afpro.Update, Attribute: afpro.MCUProtocol, Value: []byte{2, 0}})
	reboot := say(afpro.Message{Type: afpro.Set, Attribute: afpro.SystemCommand, Value: []byte{1, 0, 0, 0}})
	begin := info(afpro.Info{State: afpro.InfoBegin, Type: firmwareType, Size: fuzzSize, Version: newID})
	idle := info(afpro.Info{State: afpro.InfoIdle})
	silence := []byte{do(doPass, 60), do(doPass, 60)}
	return map[string][]byte{
		"start-up":       script(protocol, version, version),
		"accepted":       script(begin, next(249), next(498), next(afpro.StopOffset)),
		"refused":        script(idle, idle),
		"back and forth": script(next(249), next(0), next(700), next(5000), next(fuzzSize)),
		"verdict":        script(info(afpro.Info{State: afpro.InfoVerify, SHA256: [32]byte{1}}), begin),
		"image":          script(info(afpro.Info{State: afpro.InfoVerify}), idle, version, version),
		"booted":         script(idle, reboot, protocol, version, version),
		"silence":        append(append(silence, script(protocol)...), silence...),
		"questions":      script(say(afpro.Message{Type: afpro.Get, Attribute: afpro.ASRCapabilities}), say(afpro.Message{Type: afpro.Get, Attribute: 1})),
		"line is stuck":  append(append([]byte{do(doPass, longestPass)}, script(idle, idle, idle)...), do(doPass, 60), do(doPass, longestPass)),
		"raw":            append([]byte{do(doRaw, 12)}, []byte{0x30, 5, 0, 0, 0, 0x35, 0x31, 5, 0, 0, 0, 0x36}...),
	}
}

// fuzzSize of the image in bytes.
const fuzzSize = 1000

// FuzzMachine: whatever an MCU sends in whatever phase, the machine does not
// panic, comes to rest, holds no more than its buffers, ends an update once and has
// nobody apply what is not recorded; and an MCU that behaves is led through the
// start-up afterwards.
func FuzzMachine(f *testing.F) {
	for _, s := range seeds(f) {
		for at := range phaseBoot + 1 {
			f.Add(s, byte(at))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, start byte) {
		d := drive(t, dialect.Update{Size: fuzzSize, Force: start&0x10 != 0}, dialect.Config{VersionProperties: []string{property}})
		if start&0x20 == 0 {
			d.start.step = startDone
		}
		d.u.phase, d.u.offered, d.u.offer = phase(start)%(phaseBoot+1), true, false
		d.u.Enter(time.Minute, d.now)
		if d.u.phase == phaseBoot && d.State(schemas.StateBooting, fuzzSize) == nil {
			d.u.Boot(d.now)
			d.u.apply = true
		}
		d.u.send = d.u.phase == phaseLoad
		d.settle()
		for len(in) > 0 {
			n := min(int(in[0]>>2), len(in)-1)
			d.act(int(in[0]&3), in[1:1+n], int(in[0]>>2))
			d.bounded()
			in = in[1+n:]
		}
		d.usable()
	})
}

// act does one thing of a script. The line is stuck from the longest pass on, until
// the next one.
func (d *driven) act(what int, piece []byte, n int) {
	switch what {
	case doRaw:
		d.hands(piece)
	case doSay:
		d.says(piece)
	case doHear:
		for range n%4 + 1 {
			d.hears()
		}
	case doPass:
		if d.stuck = n == longestPass && !d.stuck; !d.stuck {
			d.write()
		}
		d.pass(time.Duration(n*n) * 10 * time.Millisecond)
	}
}

// bounded fails the test if the machine holds more than it may.
func (d *driven) bounded() {
	for _, b := range d.t.bufs {
		if cap(b) != d.t.limit+2*afpro.SyncSize {
			d.Fatalf("%d bytes wait for the line", len(b))
		}
	}
	if cap(d.t.msg) != d.t.limit || cap(d.t.coming) != d.t.limit || len(d.claims) > afpro.MaxType-afpro.MinType+1 {
		d.Fatalf("messages of %d and %d bytes, %d claims", len(d.t.msg), len(d.t.coming), len(d.claims))
	}
	if d.ended > 1 || d.ended == 1 && d.u != nil {
		d.Fatalf("%d ends of one update", d.ended)
	}
}

// usable fails the test if an MCU that behaves is not led through the start-up.
func (d *driven) usable() {
	d.stuck = false
	d.write()
	d.pass(time.Minute)
	for range 60 {
		if d.start.done() && !d.lost {
			return
		}
		d.hears()
		d.pass(300 * time.Millisecond)
	}
	d.Fatalf("the start-up stands at step %d", d.start.step)
}
