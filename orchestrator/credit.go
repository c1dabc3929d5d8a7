package orchestrator

import (
	"context"
	"time"
)

// Bytes are under way from the moment they are sent until the device says in a
// fetch that it no longer awaits them, or reports that it has the image; where the
// connection is in our own hands, those that its far end has acknowledged are not
// under way, and the others are, whatever the device says. At most moduleCredit may
// be under way to one device, and totalCredit to all. What is under way over a
// connection of ours on which nothing moves does not count for the total; it is sent no
// more than that.
//
// A connection of ours begins with firstAllowance. When it is no longer on trial, that
// doubles whenever something has arrived, and is never more than what arrives in
// allowedTime: those that have asked for much and take little hold little of the total.
//
// A device of whose bytes none has arrived for forgetAfter has lapsed: what was under
// way to it counts no more, and it starts over with firstAllowance. Until provenBytes
// have arrived, at the beginning of a connection and after a lapse, a device is on trial,
// and all of those together may have 1/trialShare of the total: however many ask and never
// read, and come back over new connections, the others go on.
const (
	forgetAfter    = 5 * time.Second
	firstAllowance = 64 << 10
	allowedTime    = 4 * time.Second
	provenBytes    = 256 << 10   // more than a receiver's socket takes of what nobody reads
	lapseMemory    = time.Minute // for how long that is remembered, or a lapse, without a fetch
	trialShare     = 2
	creditStep     = 16 << 10 // what a device that waits for credit is sent at least, if it waits for as much
)

// Flows that wait for credit are looked at every lookAfter: what has arrived gives them
// some. Where nothing has, the next look comes after twice the time, up to lookAfter
// shifted by lookLeast, so that those who never read do not keep others waiting. At
// most lookThrough are gone through at a time.
const (
	lookAfter   = 20 * time.Millisecond
	lookLeast   = 6
	lookThrough = 4096
	// stalledLooks are so many in a row for nothing that a connection counts as stalled:
	// some 0.6 s.
	stalledLooks = 5
)

// left is how many bytes more may be under way to the device; mu is held.
func (s *streamer) left(f *flow) int64 {
	return min(s.moduleCredit, f.allowance) - f.sent
}

// room is how many bytes a turn may send to the device, or one chunk if that is more.
func (s *streamer) room(f *flow) int64 {
	n := min(s.left(f), s.totalCredit-s.sent)
	if f.trial {
		n = min(n, s.totalCredit/trialShare-s.onTrial)
	}
	return n
}

// credit says whether the device may be sent n bytes more. One chunk at a time
// always may.
func (s *streamer) credit(f *flow, n int64) bool { return f.sent == 0 || n <= s.left(f) }

// underWay counts bytes that were sent; mu is held, as for all that follows.
func (s *streamer) underWay(f *flow, n int64, now time.Time) {
	if f.sent == 0 {
		f.moved = now
	}
	f.sent += n
	if !f.stalled {
		s.count(f, n)
	}
}

// count counts n bytes to a device among those to all.
func (s *streamer) count(f *flow, n int64) {
	s.sent += n
	if f.trial {
		s.onTrial += n
	}
}

// stall leaves what is under way to a device out of the total, until some of it arrives.
func (s *streamer) stall(f *flow) {
	if !f.stalled {
		s.count(f, -f.sent)
		f.stalled = true
		s.signal()
	}
}

// backlogOf is what has certainly not arrived of what a session has taken, as far as
// it tells.
func backlogOf(s Session) int64 {
	if b, ok := s.(Backlog); ok {
		return int64(b.Backlog())
	}
	return 0
}

// confirm takes a device's word that of what is under way left bytes are still
// awaited.
func (s *streamer) confirm(f *flow, left int64, now time.Time) {
	if arrived := f.sent - max(0, left); arrived > 0 {
		s.arrived(f, arrived, now)
	}
}

// arrived counts n bytes as arrived.
func (s *streamer) arrived(f *flow, n int64, now time.Time) {
	if f.stalled {
		f.stalled = false
		s.count(f, f.sent)
	}
	s.underWay(f, -n, now)
	f.moved = now
	f.allow(n, s.moduleCredit)
	f.arrived += n
	f.looks = 0
	if !f.trial || f.arrived < provenBytes {
		return
	}
	s.onTrial -= f.sent
	f.trial = false
	f.allowance = min(s.moduleCredit, max(f.allowance, provenBytes))
	if f.listed != nil { // among those on trial
		f.remove()
		s.schedule(f)
	}
}

// allow gives a device credit by what arrives: n bytes have.
func (f *flow) allow(n, most int64) {
	if f.moved.Sub(f.since) >= time.Second {
		f.before, f.second, f.since = f.second, 0, f.moved
	}
	f.second += n
	if _, told := f.session.(Backlog); told {
		rate := max(f.second, f.before) // bytes a second
		if most = min(most, max(firstAllowance, rate*int64(allowedTime/time.Second))); f.trial {
			most = min(most, firstAllowance)
		}
	}
	f.allowance = min(most, 2*f.allowance)
}

// lapse counts what is under way to a device no more.
func (s *streamer) lapse(f *flow, now time.Time) {
	s.tryAnew(f, min(s.moduleCredit, firstAllowance), now)
	s.metrics.lapsed()
	s.schedule(f)
}

// tryAnew puts a device on trial. What was under way to it is lost, or never leaves the
// sockets: in no case has it arrived.
func (s *streamer) tryAnew(f *flow, allowance int64, now time.Time) {
	s.underWay(f, -f.sent, now)
	f.stalled = false
	f.trial, f.arrived, f.allowance = true, 0, allowance
	f.second, f.before = 0, 0
	if f.listed != nil { // maybe among the proven
		f.remove()
	}
}

// next is the queue whose turn it is among those with something that may be sent;
// nil if there is none.
func (s *streamer) next() *flowQueue {
	if s.sent >= s.totalCredit {
		return nil
	}
	trial := s.trial.head != nil && s.onTrial < s.totalCredit/trialShare
	switch {
	case s.proven.head != nil && (!trial || s.turns%2 == 0):
		return &s.proven
	case trial:
		return &s.trial
	}
	return nil
}

// sweep looks for what has arrived without a word of the device, soon where a flow
// waits for that, and once a second for devices that have lapsed.
func (s *streamer) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	look := time.NewTimer(lookAfter)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweepOnce(now)
		case <-s.starving:
			look.Reset(lookAfter)
		case <-look.C:
			if s.look() {
				look.Reset(lookAfter)
			}
		}
	}
}

// starve lets a flow wait for credit; mu is held.
func (s *streamer) starve(f *flow) {
	if s.starved.head == nil {
		select {
		case s.starving <- struct{}{}:
		default:
		}
	}
	s.starved.push(f)
}

// look goes through flows that wait for credit. It returns whether some still do.
func (s *streamer) look() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, last := time.Now(), s.starved.tail
	for n := 0; n < lookThrough && s.starved.head != nil; n++ {
		f := s.starved.head
		if now.Before(f.lookAt) {
			f.remove()
			s.starved.push(f)
		} else {
			s.lookAt(f, now)
		}
		if f == last {
			break
		}
	}
	s.signal()
	return s.starved.head != nil
}

// lookAt gives a flow what credit it has by now; mu is held.
func (s *streamer) lookAt(f *flow, now time.Time) {
	f.looks = min(f.looks+1, lookLeast)
	if _, told := f.session.(Backlog); told {
		s.confirm(f, backlogOf(f.session), now) // resets looks
	}
	if f.looks >= stalledLooks {
		s.stall(f)
	}
	f.lookAt = now.Add(lookAfter << f.looks)
	s.schedule(f)
}

func (s *streamer) sweepOnce(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, f := range s.devices {
		if f.sent > 0 {
			s.sweepSent(f, now)
		}
		kept := forgetAfter
		if !f.trial || f.allowance < s.moduleCredit {
			kept = lapseMemory
		}
		if f.idle() && f.sent == 0 && now.Sub(f.askedAt) >= forgetAfter && now.Sub(f.touched) >= kept {
			f.gone = true
			delete(s.devices, device)
			if m := f.memory; m != nil && *m.Memory() == any(f) {
				*m.Memory() = nil // an idle connection costs nothing that is not needed
			}
		}
	}
	s.sweepShared(now)
	s.metrics.setOutstanding(s.sent)
	s.signal()
}

func (s *streamer) sweepSent(f *flow, now time.Time) {
	if now.Sub(f.moved) < time.Second {
		return
	}
	if _, told := f.session.(Backlog); told {
		if left := backlogOf(f.session); left < f.sent {
			s.confirm(f, left, now)
			s.schedule(f)
			return
		}
		s.stall(f)
	}
	if now.Sub(f.moved) >= forgetAfter {
		s.lapse(f, now)
	}
}
