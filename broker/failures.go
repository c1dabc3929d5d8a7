package broker

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// longestDelay is the most that the answer to a wrong password is put off.
	longestDelay = 2 * time.Second
	// shortestDelay is the least, from when the CONNECT was looked at: more than a hash
	// takes, so that the time does not tell whether anybody has the name.
	shortestDelay = 2 * time.Millisecond
	// crowdedAfter is how far wrong passwords of an address may be ahead of the rate: those
	// who wait for their answers are ahead by less.
	crowdedAfter = 2 * longestDelay
)

// failures spaces out the answers to wrong passwords: who guesses, or a fleet
// with wrong ones, comes back no faster than it is answered, and leaves the
// processor to the others. A second's worth is answered without delay. Who does not
// wait for answers but opens more and more sockets is not heard any more: an address
// from which more than rate wrong passwords a second come is crowded as soon as they are
// crowdedAfter ahead of that. Then only rate sockets a second of it are read, which keeps it
// crowded while they are wrong ones, and the rest go to the tarpit. So modules behind the
// same address still get in, and one socket too many costs little more than to accept it.
type failures struct {
	rate int // answers a second
	most int // that may be put off at a time
	// came tells that an address has become crowded.
	came chan struct{}

	mu      sync.Mutex
	next    time.Time // when the next answer is due
	waiting int
	from    map[netip.Prefix]*crowd // whose wrong passwords were not long ago
	sweep   int                     // with how many in from those that are no more are looked for
}

// crowd is one address from which wrong passwords came.
type crowd struct {
	wrong, heard bucket
	sieved       bool // most of its attempts are not seen
	away         int  // of it that were sent away since one was heard
}

func newFailures(rate, most int) *failures {
	return &failures{rate: rate, most: most, came: make(chan struct{}, 1), from: make(map[netip.Prefix]*crowd)}
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
	f.note(from, now.Sub(epoch))
	if f.waiting >= f.most {
		f.mu.Unlock()
		return false
	}
	f.waiting++
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
	f.waiting--
	f.mu.Unlock()
	return true
}

// note counts a wrong password to its address; f.mu is held.
func (f *failures) note(from netip.Prefix, now time.Duration) {
	c := f.from[from]
	if c == nil {
		f.forget(now)
		c = &crowd{wrong: untouched, heard: untouched}
		f.from[from] = c
	}
	// It stands for those that were sent away before it, and for those that were dropped.
	cost := f.cost() * time.Duration(1+c.away)
	if c.away = 0; c.sieved {
		cost *= sievePasses
	}
	if c.wrong.take(now, cost, crowdedAfter) > 0 && !c.sieved {
		select {
		case f.came <- struct{}{}:
		default: // it is told already
		}
	}
	// However many they were, the address is crowded for no longer than so after the last.
	c.wrong = min(c.wrong, bucket(now+crowdedAfter+longestDelay))
}

// busy counts a connection that was sent away because too many come at once. What it
// would have said is taken for what the next one says that is heard of its address.
func (f *failures) busy(from netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.from[from]; c != nil {
		c.away = min(c.away+1, f.most)
	}
}

// right says that a password from an address was right.
func (f *failures) right(from netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.from[from]; c != nil {
		c.away = 0
	}
}

// forget removes addresses that have nothing against them any more, each time that their
// number has doubled; f.mu is held.
func (f *failures) forget(now time.Duration) {
	if len(f.from) < max(f.sweep, 64) {
		return
	}
	maps.DeleteFunc(f.from, func(_ netip.Prefix, c *crowd) bool { return c.wrong.owed(now, 0) == 0 })
	f.sweep = 2 * len(f.from)
}

// cost is the time that one wrong password takes.
func (f *failures) cost() time.Duration { return time.Second / time.Duration(f.rate) }

// crowded says whether a connection of an address is not to be heard: its wrong passwords
// are too many, and it has had its connections of this second. taken says that it is one
// of those.
func (f *failures) crowded(from netip.Prefix) (yes, taken bool) {
	now := time.Since(epoch)
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.from[from]
	if c == nil || !from.IsValid() || c.wrong.owed(now, crowdedAfter) == 0 {
		return false, false
	}
	heard := c.heard
	if heard.take(now, f.cost(), f.cost()) > 0 {
		return true, false
	}
	c.heard = heard
	return false, true
}

// crowds are addresses that are crowded, at most sieveMost of them, in order.
func (f *failures) crowds() []netip.Prefix {
	now := time.Since(epoch)
	f.mu.Lock()
	defer f.mu.Unlock()
	var crowds []netip.Prefix
	for from, c := range f.from {
		if from.IsValid() && c.wrong.owed(now, crowdedAfter) > 0 {
			crowds = append(crowds, from)
		}
	}
	slices.SortFunc(crowds, netip.Prefix.Compare)
	return crowds[:min(len(crowds), sieveMost)]
}

// sieved notes of which addresses most attempts are not seen.
func (f *failures) sieved(crowds []netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for from, c := range f.from {
		_, c.sieved = slices.BinarySearchFunc(crowds, from, netip.Prefix.Compare)
	}
}
