package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"davit/schemas/afpro"
)

// asr is the smallest module that can drive an AferoMCU: one thing after the
// other, a nudge when nothing comes, nothing adaptive. It belongs to the test's
// goroutine.
type asr struct {
	t       *testing.T
	rw      io.ReadWriteCloser
	pieces  chan []byte
	in      *afpro.Scanner
	collide bool // answers the MCU's Request with counts of its own once
	mute    bool // answers no SET or GET
	chunk   int
	inbox   []afpro.Message
	told    map[afpro.Attribute][]byte // what the MCU said last
	request byte

	requests int // Sync Requests seen
	updates  int // messages of the MCU
	bad      int // and those that could not be read
}

func newASR(t *testing.T, rw io.ReadWriteCloser) *asr {
	a := &asr{
		t: t, rw: rw, pieces: make(chan []byte), in: afpro.NewScanner(4096),
		chunk: afpro.ChunkSize(afpro.DefaultAttributeSize), told: map[afpro.Attribute][]byte{},
	}
	go func() {
		defer close(a.pieces)
		for {
			buf := make([]byte, 256)
			n, err := rw.Read(buf)
			if err != nil {
				return
			}
			a.pieces <- buf[:n]
		}
	}()
	return a
}

func (a *asr) close() {
	_ = a.rw.Close()
	for range a.pieces {
	}
}

// nudgeAfter is longer than the MCU's patience with a message, so that a ready
// byte sent out of need is not taken for a part of one.
const nudgeAfter = 1200 * time.Millisecond

var (
	errSilence  = errors.New("the MCU says nothing")
	errConfused = errors.New("the MCU did something else")
)

func (a *asr) write(b ...byte) {
	if _, err := a.rw.Write(b); err != nil {
		a.t.Errorf("write: %v", err)
	}
}

// event waits for the next thing that the line brings.
func (a *asr) event(limit time.Duration) (afpro.Event, error) {
	timeout := time.After(limit)
	for {
		for a.in.Next() {
			if e := a.in.Event(); e.Kind != afpro.EventBad && e.Kind != afpro.EventReady {
				return e, nil
			}
		}
		select {
		case p, ok := <-a.pieces:
			if !ok {
				return afpro.Event{}, io.ErrClosedPipe
			}
			a.in.Feed(p)
		case <-timeout:
			return afpro.Event{}, errSilence
		}
	}
}

// insist is event with nudges.
func (a *asr) insist() (afpro.Event, error) {
	for range 3 {
		e, err := a.event(nudgeAfter)
		if !errors.Is(err, errSilence) {
			return e, err
		}
		a.write(afpro.Ready)
	}
	return afpro.Event{}, errSilence
}

// transact carries out the transaction that a Sync Request has begun; own is
// sent if the MCU has nothing to say. It returns whether own was taken.
func (a *asr) transact(s afpro.Sync, own []byte) (bool, error) {
	a.requests++
	if s.Type == afpro.SyncAck { // of a transaction that is over for us, or once more
		return false, errConfused
	}
	mine := uint16(0)
	if s.MCU == 0 {
		mine = uint16(len(own))
	} else if a.collide && own != nil {
		a.write(append(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncCounts, MCU: s.MCU, ASR: uint16(len(own))}), afpro.Ready)...)
		e, err := a.insist()
		if err != nil || e.Kind != afpro.EventSync || e.Sync != s {
			return false, errors.Join(err, errConfused)
		}
	}
	counts := afpro.Sync{Type: afpro.SyncCounts, MCU: s.MCU, ASR: mine}
	a.write(append(afpro.AppendSync(nil, counts), afpro.Ready)...)
	e, err := a.insist()
	if err == nil && e.Kind == afpro.EventSync && e.Sync == s {
		e, err = a.insist() // that was the Request once more
	}
	if err != nil {
		return false, err
	}
	if e.Kind != afpro.EventSync || e.Sync != (afpro.Sync{Type: afpro.SyncAck, MCU: counts.MCU, ASR: counts.ASR}) {
		return false, errConfused
	}
	a.write(afpro.Ready)
	switch {
	case s.MCU > 0:
		if err := a.receive(int(s.MCU)); err != nil {
			return false, err
		}
	case mine > 0:
		a.write(own...)
	default:
		return false, nil // a zero sync ends here
	}
	a.write(afpro.Ready)
	return mine > 0, nil
}

// receive reads the MCU's message and keeps it.
func (a *asr) receive(n int) error {
	b, err := a.take(n)
	if err == nil && len(b) >= afpro.SyncSize {
		if _, doubled := afpro.ParseSync(b[:afpro.SyncSize]); doubled == nil {
			var rest []byte
			rest, err = a.take(afpro.SyncSize)
			b = append(b[afpro.SyncSize:], rest...)
		}
	}
	if err != nil {
		return err
	}
	m, err := afpro.ParseMessage(b)
	if err != nil {
		a.bad++ // the MCU does not know
		return nil
	}
	a.updates++
	a.inbox = append(a.inbox, m)
	return nil
}

func (a *asr) take(n int) ([]byte, error) {
	if !a.in.Expect(n) {
		return nil, errConfused
	}
	e, err := a.insist()
	if err != nil || e.Kind != afpro.EventMessage {
		a.in.Hunt()
		return nil, errors.Join(err, errConfused)
	}
	return bytes.Clone(e.Message), nil
}

// send sends a message and returns when the MCU has taken it.
func (a *asr) send(b []byte, err error) error {
	if err != nil {
		return err
	}
	a.write(afpro.Ready)
	tries := 0
	for turns := 0; tries < 6 && turns < 200; turns++ {
		e, err := a.event(2 * nudgeAfter)
		switch {
		case errors.Is(err, errSilence):
			tries++
			a.in.Hunt()
			a.write(afpro.Ready)
			continue
		case err != nil:
			return err
		case e.Kind != afpro.EventSync:
			continue
		}
		taken, err := a.transact(e.Sync, b)
		if taken {
			return a.settle()
		}
		if err != nil {
			tries++
		}
		a.write(afpro.Ready)
	}
	return errSilence
}

func (a *asr) message(m afpro.Message) error { return a.send(afpro.AppendMessage(nil, m)) }

// settle answers what the MCU asked in between.
func (a *asr) settle() error {
	for i := 0; i < len(a.inbox); i++ {
		m := a.inbox[i]
		reply := afpro.Message{Type: afpro.Update, Request: m.Request, Attribute: m.Attribute, Value: m.Value}
		switch {
		case a.mute:
			continue
		case m.Type == afpro.Get:
			reply.Reason, reply.Value = afpro.ReasonGet, []byte{afpro.CapabilityOTA}
		case m.Type == afpro.Set:
			reply.Reason = afpro.ReasonMCUSet
			a.told[m.Attribute] = m.Value
		default:
			a.told[m.Attribute] = m.Value
			continue
		}
		a.inbox[i].Type = afpro.Update // so that it is answered once
		if err := a.message(reply); err != nil {
			return err
		}
	}
	return nil
}

// await serves the MCU until it has said something about an attribute.
func (a *asr) await(limit time.Duration, of afpro.Attribute) (afpro.Message, error) {
	deadline := time.Now().Add(limit)
	for {
		if err := a.settle(); err != nil {
			return afpro.Message{}, err
		}
		for i, m := range a.inbox {
			if m.Attribute == of {
				a.inbox = a.inbox[i+1:]
				return m, nil
			}
		}
		a.inbox = nil
		left := time.Until(deadline)
		if left <= 0 {
			return afpro.Message{}, errSilence
		}
		e, err := a.event(min(left, 3*nudgeAfter))
		switch {
		case errors.Is(err, errSilence):
			a.in.Hunt()
			a.write(afpro.Ready) // it may wait for one that was lost
		case err != nil:
			return afpro.Message{}, err
		case e.Kind == afpro.EventSync:
			_, _ = a.transact(e.Sync, nil)
		}
	}
}

func (a *asr) tell(of afpro.Attribute, value []byte) error {
	return a.message(afpro.Message{Type: afpro.Update, Attribute: of, Reason: afpro.ReasonRebooted, Value: value})
}

// startUp does what a module does after its power came on.
func (a *asr) startUp(protocol uint16, application uint64, state byte) error {
	if err := a.tell(afpro.ASRProtocol, binary.LittleEndian.AppendUint16(nil, protocol)); err != nil {
		return err
	}
	if m, err := a.await(3*time.Second, afpro.MCUProtocol); err == nil && m.Type == afpro.Update {
		if err := a.tell(afpro.MCUProtocol, m.Value); err != nil {
			return err
		}
	}
	if err := a.tell(afpro.ApplicationVersion, binary.LittleEndian.AppendUint64(nil, application)); err != nil {
		return err
	}
	return a.tell(afpro.ASRState, []byte{state})
}

// aferoRig is an AferoMCU that runs on a line with an asr at the other end.
type aferoRig struct {
	*asr
	mcu    *AferoMCU
	line   *Line
	cancel context.CancelFunc
	ended  chan error
}

// aferoLine is the line of the documents, at a speed that tests can wait for.
func aferoLine() LineConfig {
	return LineConfig{Baud: 115200, BitsPerByte: 10, NoFlowControl: true}
}

// newAferoRig must be called in a bubble and closed in it.
func newAferoRig(t *testing.T, mc AferoConfig, lc LineConfig) *aferoRig {
	r := &aferoRig{mcu: NewAferoMCU(mc), line: NewLine(lc)}
	r.asr = newASR(t, r.line.Module())
	r.powerOn()
	return r
}

func (r *aferoRig) powerOn() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan error, 1)
	end := r.line.MCU()
	go func() { r.ended <- r.mcu.Run(ctx, end) }()
}

func (r *aferoRig) powerOff() {
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

func (r *aferoRig) close() {
	r.powerOff()
	r.asr.close()
}
