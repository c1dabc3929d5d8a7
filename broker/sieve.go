package broker

import (
	"net/netip"
	"slices"
	"time"

	"davit/internal/logevent"
)

const (
	// sievePasses is of how many attempts to connect from a crowded address one comes
	// through. The system of a client repeats its attempt after 1, 3 and 7 s (RFC 6298), so a
	// module behind such an address needs some seconds more, and gets in.
	sievePasses = 8
	// sieveLook is how often it is looked which addresses are crowded, while any is.
	sieveLook = 250 * time.Millisecond
	// sieveMost is for how many addresses the listeners have a sieve.
	sieveMost = 128
)

// sieve has the system drop most of the attempts to connect that come from crowded
// addresses, before there is a connection: one that is accepted and closed again costs the
// service a hundred times as much. Where the system cannot, they are all shed as
// before.
func (b *Broker) sieve() {
	look := time.NewTicker(sieveLook)
	defer look.Stop()
	var set []netip.Prefix
	for {
		if crowds := b.failures.crowds(); !slices.Equal(crowds, set) && b.sift(crowds) {
			set = crowds
		}
		wait := look.C
		if len(set) == 0 {
			wait = nil
		}
		select {
		case <-wait:
		case <-b.failures.came:
			look.Reset(sieveLook)
		case <-b.stopping:
			return
		}
	}
}

// sift sets what the listeners' sieves are for. It returns false if the system refuses it.
func (b *Broker) sift(crowds []netip.Prefix) bool {
	for _, l := range b.listeners {
		if err := sift(l, crowds); err != nil {
			b.failures.sieved(nil)
			if b.logged.Allow("sieve") {
				b.log.Warn("attempts to connect from addresses with too many wrong passwords cannot be dropped; they are accepted and closed", "event", logevent.BrokerNoSieve, "error", err)
			}
			return false
		}
	}
	b.failures.sieved(crowds)
	b.metrics.sieved(len(crowds))
	return true
}
