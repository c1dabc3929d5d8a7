package orchestrator

import (
	"context"
	"time"
)

// Bytes are under way from the moment they are sent until the device says in a
// fetch that it no longer awaits them, or reports that it has the image. At most
// moduleCredit may be under way to one device, and totalCredit to all.
//
// A device that does not ask again within forgetAfter has lapsed: what was under
// way to it counts no more, and it starts over with lapsedAllowance, which doubles
// with each fetch that confirms that something arrived. Until the first such fetch,
// and after a lapse, a device is on trial, and all of those together may have
// 1/trialShare of the total: however many ask and never read, the others go on.
const (
	forgetAfter     = 5 * time.Second
	lapsedAllowance = 64 << 10
	lapseMemory     = time.Minute // for how long it is remembered, without a fetch
	trialShare      = 2
)

// left is how many bytes more may be under way to the device.
func (f *flow) left(moduleCredit int64) int64 { return min(moduleCredit, f.allowance) - f.sent }

// credit says whether the device may be sent n bytes more. One chunk at a time
// always may.
func (f *flow) credit(moduleCredit, n int64) bool { return f.sent == 0 || n <= f.left(moduleCredit) }

// underWay counts bytes that were sent; mu is held, as for all that follows.
func (s *streamer) underWay(f *flow, n int64) {
	f.sent += n
	s.sent += n
	if f.trial {
		s.onTrial += n
	}
}

// confirm takes a device's word that of what is under way left bytes are still
// awaited.
func (s *streamer) confirm(f *flow, left int64) {
	arrived := f.sent - max(0, left)
	if arrived <= 0 {
		return
	}
	s.underWay(f, -arrived)
	f.allowance = min(s.moduleCredit, 2*f.allowance)
	if !f.trial {
		return
	}
	s.onTrial -= f.sent
	f.trial = false
	if f.listed != nil { // among those on trial
		f.remove()
		s.schedule(f)
	}
}

// lapse counts what is under way to a device no more.
func (s *streamer) lapse(f *flow) {
	s.underWay(f, -f.sent)
	f.trial, f.allowance = true, min(s.moduleCredit, lapsedAllowance)
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

// sweep looks for devices that have lapsed.
func (s *streamer) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweepOnce(now)
		}
	}
}

func (s *streamer) sweepOnce(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, f := range s.devices {
		if now.Sub(f.touched) < forgetAfter {
			continue
		}
		if f.sent > 0 {
			s.lapse(f)
		}
		kept := forgetAfter
		if f.allowance < s.moduleCredit {
			kept = lapseMemory
		}
		if f.idle() && now.Sub(f.askedAt) >= forgetAfter && now.Sub(f.touched) >= kept {
			delete(s.devices, device)
		}
	}
	s.metrics.setOutstanding(s.sent)
	s.signal()
}
