package orchestrator

import (
	"context"
	"time"
)

// Bytes are under way from the moment they are sent until the device says in a
// fetch that it no longer awaits them, or reports that it has the image; where the
// connection is in our own hands, those that its far end has acknowledged are not
// under way, and the others are, whatever the device says. At most moduleCredit may
// be under way to one device, and totalCredit to all.
//
// A connection of ours begins with firstAllowance, which doubles whenever something
// has arrived, and is never more than what arrives in allowedTime: those that have
// asked for much and take little hold little of the total. A device of whose bytes
// none has arrived for forgetAfter has lapsed: what was under way to it counts no
// more, and it starts over with firstAllowance. Until provenBytes have, at the beginning and after a
// lapse, a device is on trial, and all of those together may have 1/trialShare of
// the total: however many ask and never read, the others go on.
const (
	forgetAfter    = 5 * time.Second
	firstAllowance = 64 << 10
	allowedTime    = 4 * time.Second
	provenBytes    = 256 << 10   // more than a receiver's socket takes of what nobody reads
	lapseMemory    = time.Minute // for how long it is remembered, without a fetch
	trialShare     = 2
)

// Flows that wait for credit are looked at after lookAfter, and again and again, so
// many at a time: what has arrived, and what is free now, gives them some.
const (
	lookAfter = 50 * time.Millisecond
	lookAt    = 256
)

// left is how many bytes more may be under way to the device; mu is held.
func (s *streamer) left(f *flow) int64 {
	return min(s.moduleCredit, f.allowance) - f.sent
}

// credit says whether the device may be sent n bytes more. One chunk at a time
// always may.
func (s *streamer) credit(f *flow, n int64) bool { return f.sent == 0 || n <= s.left(f) }

// underWay counts bytes that were sent; mu is held, as for all that follows.
func (s *streamer) underWay(f *flow, n int64) {
	if f.sent == 0 {
		f.moved = time.Now()
	}
	f.sent += n
	s.sent += n
	if f.trial {
		s.onTrial += n
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
func (s *streamer) confirm(f *flow, left int64) {
	if arrived := f.sent - max(0, left); arrived > 0 {
		s.arrived(f, arrived)
	}
}

// arrived counts n bytes as arrived.
func (s *streamer) arrived(f *flow, n int64) {
	s.underWay(f, -n)
	f.moved = time.Now()
	f.allow(n, s.moduleCredit)
	f.arrived += n
	if !f.trial || f.arrived < provenBytes {
		return
	}
	s.onTrial -= f.sent
	f.trial = false
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
		most = min(most, max(firstAllowance, rate*int64(allowedTime/time.Second)))
	}
	f.allowance = min(most, 2*f.allowance)
}

// lapse counts what is under way to a device no more.
func (s *streamer) lapse(f *flow) {
	s.underWay(f, -f.sent)
	f.trial, f.arrived, f.allowance = true, 0, min(s.moduleCredit, firstAllowance)
	f.second, f.before = 0, 0
	s.metrics.lapsed()
	if f.listed != nil { // among the proven
		f.remove()
	}
	s.schedule(f)
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
	last := s.starved.tail
	for n := 0; n < lookAt && s.starved.head != nil; n++ {
		f := s.starved.head
		if _, told := f.session.(Backlog); told {
			s.confirm(f, backlogOf(f.session))
		}
		s.schedule(f)
		if f == last {
			break
		}
	}
	s.signal()
	return s.starved.head != nil
}

func (s *streamer) sweepOnce(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, f := range s.devices {
		if f.sent > 0 {
			s.sweepSent(f, now)
		}
		kept := forgetAfter
		if f.allowance < s.moduleCredit {
			kept = lapseMemory
		}
		if f.idle() && f.sent == 0 && now.Sub(f.askedAt) >= forgetAfter && now.Sub(f.touched) >= kept {
			delete(s.devices, device)
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
			s.confirm(f, left)
			s.schedule(f)
			return
		}
	}
	if now.Sub(f.moved) >= forgetAfter {
		s.lapse(f)
	}
}
