package broker

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// longestDelay is the most that the answer to a wrong password is put off.
	longestDelay = 2 * time.Second
	// shortestDelay is the least, from when the CONNECT was looked at: more than a hash
	// takes, so that the time does not tell whether anybody has the name.
	shortestDelay = 2 * time.Millisecond
)

// failures spaces out the answers to wrong passwords: who guesses, or a fleet
// with wrong ones, comes back no faster than it is answered, and leaves the
// processor to the others. A second's worth is answered without delay. Who does not
// wait for answers but opens more and more sockets is not heard any more: while
// as many answers to an address are put off as are given in longestDelay, only rate
// sockets a second of it are read, and the rest go to the tarpit. So modules behind the same
// address still get in, and one socket too many costs little more than to accept it.
type failures struct {
	rate int // answers a second
	most int // that may be put off at a time

	mu      sync.Mutex
	next    time.Time // when the next answer is due
	waiting int
	from    map[netip.Prefix]*crowd // who has answers waiting
}

// crowd is one address whose wrong passwords are to be answered.
type crowd struct {
	waiting int
	epoch   time.Time
	heard   bucket
}

// delay waits before a wrong password is answered, until cut is closed. since is when
// the CONNECT was looked at. It returns false if too many wait already: then there
// is no answer.
func (f *failures) delay(from netip.Prefix, since time.Time, cut <-chan struct{}) bool {
	f.mu.Lock()
	now := time.Now()
	if early := now.Add(-time.Second); f.next.Before(early) {
		f.next = early
	}
	f.next = f.next.Add(time.Second / time.Duration(f.rate))
	d := min(f.next.Sub(now), longestDelay)
	if d > 0 {
		f.next = now.Add(d)
	}
	if f.waiting >= f.most {
		f.mu.Unlock()
		return false
	}
	f.enter(from, now)
	f.mu.Unlock()
	if d = max(d, shortestDelay-now.Sub(since)); d > 0 {
		t := time.NewTimer(d)
		select {
		case <-t.C:
		case <-cut:
			t.Stop()
		}
	}
	f.mu.Lock()
	f.leave(from)
	f.mu.Unlock()
	return true
}

// enter counts one whose answer is put off; f.mu is held.
func (f *failures) enter(from netip.Prefix, now time.Time) {
	f.waiting++
	c := f.from[from]
	if c == nil {
		c = &crowd{epoch: now}
		if f.from == nil {
			f.from = make(map[netip.Prefix]*crowd)
		}
		f.from[from] = c
	}
	c.waiting++
}

// leave is the end of enter; f.mu is held.
func (f *failures) leave(from netip.Prefix) {
	f.waiting--
	c := f.from[from]
	if c.waiting--; c.waiting == 0 {
		delete(f.from, from)
	}
}

// crowded says whether a connection of an address is not to be heard: as many of its
// answers wait as are given in longestDelay, and it has had its connections of this
// second. taken says that it is one of those.
func (f *failures) crowded(from netip.Prefix) (yes, taken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.from[from]
	if c == nil || c.waiting < f.rate*int(longestDelay/time.Second) || !from.IsValid() {
		return false, false
	}
	heard, cost := c.heard, time.Second/time.Duration(f.rate)
	if heard.take(time.Since(c.epoch), cost, cost) > 0 {
		return true, false
	}
	c.heard = heard
	return false, true
}
