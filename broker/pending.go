package broker

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Times of sockets that have not said CONNECT.
const (
	// minSilence is how long a socket is left in peace however many wait for
	// its place. A module that is there has sent its CONNECT by then, or is in the
	// middle of a TLS handshake over a slow line.
	minSilence = time.Second
	// unreadPause is how long a socket is left alone whose bytes we have not come
	// to read: then we are the slow ones.
	unreadPause = 50 * time.Millisecond
)

// pending holds the sockets that have not said CONNECT, at most max. When it is
// full, a socket that has been silent for minSilence makes way: the oldest of the
// remote address that has most of them. So somebody who opens sockets and says
// nothing takes the place of his own, and modules that come at the same time wait
// in the kernel's queue for no longer than it takes to do so.
type pending struct {
	max int
	// room is told when a socket leaves; capacity 1.
	room chan struct{}

	mu    sync.Mutex
	count int
	from  map[netip.Prefix]*list.List // of *socket, oldest first
}

func newPending(most int) *pending {
	return &pending{max: most, room: make(chan struct{}, 1), from: make(map[netip.Prefix]*list.List)}
}

// origin is whom a socket is counted to: an IPv4 address, or the /64 of an IPv6
// address, of which one machine has as many as it likes.
func origin(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil { // an address that is none
		return netip.Prefix{}
	}
	return p
}

// enter waits until there is room for s; evicted is called with each socket
// that is closed to make it. It returns false when stop is closed.
func (p *pending) enter(s *socket, stop <-chan struct{}, evicted func(*socket)) bool {
	for {
		p.mu.Lock()
		if p.count < p.max {
			p.add(s)
			p.mu.Unlock()
			return true
		}
		victim, wait := p.victim(time.Now())
		if victim != nil {
			p.remove(victim)
		}
		p.mu.Unlock()
		if victim != nil {
			evicted(victim)
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-p.room:
		case <-t.C:
		case <-stop:
			t.Stop()
			return false
		}
		t.Stop()
	}
}

// add counts s; p.mu is held.
func (p *pending) add(s *socket) {
	l := p.from[s.origin]
	if l == nil {
		l = list.New()
		p.from[s.origin] = l
	}
	s.since = time.Now()
	s.place = l.PushBack(s)
	p.count++
}

// leave takes s out, if it is in.
func (p *pending) leave(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(s)
}

// remove is leave with p.mu held.
func (p *pending) remove(s *socket) {
	if s.place == nil {
		return
	}
	l := p.from[s.origin]
	l.Remove(s.place)
	s.place = nil
	if l.Len() == 0 {
		delete(p.from, s.origin)
	}
	p.count--
	select {
	case p.room <- struct{}{}:
	default: // enter looks again anyway
	}
}

// victim returns the socket that has to make way, or nil and how long nobody
// has to; p.mu is held.
func (p *pending) victim(now time.Time) (*socket, time.Duration) {
	var most *list.List
	for _, l := range p.from {
		if most == nil || l.Len() > most.Len() || l.Len() == most.Len() && oldest(l).since.Before(oldest(most).since) {
			most = l
		}
	}
	for range most.Len() {
		s := oldest(most)
		if left := minSilence - now.Sub(s.since); left > 0 {
			return nil, left
		}
		if !s.unread() {
			return s, 0
		}
		s.since = now.Add(unreadPause - minSilence)
		most.MoveToBack(s.place)
	}
	return nil, unreadPause
}

func oldest(l *list.List) *socket { return l.Front().Value.(*socket) }

// len is how many there are.
func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}
