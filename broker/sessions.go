package broker

import (
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// eventWait bounds how long a CONNACK waits for a callback.
const eventWait = 5 * time.Second

// session is one authenticated connection from before its CONNACK until mochi
// has forgotten it.
type session struct {
	conn *conn
	done chan struct{} // closed when nothing of it is left in mochi
}

// presence is what the registry knows of one principal.
type presence struct {
	joining int        // connections on their way in
	live    []*session // oldest first
	// since is who the callbacks were told of; nil while it is offline.
	since *principal
	// leaving is closed when the last OnDisconnect has returned.
	leaving <-chan struct{}
}

// sessions is the registry of authenticated connections. A client id has at
// most one: the next waits until the one before has ended completely, so mochi
// never sees a take-over, with which it has three defects.
type sessions struct {
	disconnect func(*conn, packets.Code)
	events     *events

	mu     sync.Mutex
	byID   map[string]*session
	people map[string]*presence
	acting map[string]int // by device: principals with a connection that act for it
	count  int            // connections without the service's
}

func newSessions(e *events, disconnect func(*conn, packets.Code)) *sessions {
	return &sessions{disconnect: disconnect, events: e, byID: make(map[string]*session), people: make(map[string]*presence), acting: make(map[string]int)}
}

// len is how many connections devices and bridges have.
func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// join makes c the session of its client id, ending the one before. It
// returns how many connections it ended.
func (s *sessions) join(c *conn, perPrincipal int) (ended int) {
	s.mu.Lock()
	who := s.people[c.principal.name]
	if who == nil {
		who = &presence{}
		s.people[c.principal.name] = who
	}
	who.joining++ // so the end of the old connection is not the end of the principal
	if !c.principal.service && len(who.live) >= perPrincipal {
		oldest := who.live[0].conn
		s.mu.Unlock()
		s.disconnect(oldest, packets.ErrQuotaExceeded)
		ended++
		s.mu.Lock()
	}
	for {
		old := s.byID[c.id]
		if old == nil {
			break
		}
		s.mu.Unlock()
		s.disconnect(old.conn, packets.ErrSessionTakenOver)
		ended++
		<-old.done
		s.mu.Lock()
	}
	me := &session{conn: c, done: make(chan struct{})}
	s.byID[c.id] = me
	who.joining--
	who.live = append(who.live, me)
	if !c.principal.service {
		s.count++
	}
	wait := s.arrived(who, c.principal)
	s.mu.Unlock()
	if wait != nil {
		t := time.NewTimer(eventWait)
		defer t.Stop()
		select {
		case <-wait:
		case <-t.C:
		}
	}
	return ended
}

// arrived tells of the principal's first connection; s.mu is held. The channel
// is nil or closed when an earlier OnDisconnect has returned.
func (s *sessions) arrived(who *presence, p *principal) <-chan struct{} {
	if p.service || who.since == p {
		return nil
	}
	if who.since != nil { // its devices were changed while another connection lived on
		s.departed(who)
	}
	who.since = p
	for _, d := range p.devices {
		s.acting[d]++
	}
	s.events.put(true, p)
	return who.leaving
}

// departed tells of the end of a principal's last connection; s.mu is held.
func (s *sessions) departed(who *presence) {
	for _, d := range who.since.devices {
		if s.acting[d]--; s.acting[d] == 0 {
			delete(s.acting, d)
		}
	}
	who.leaving = s.events.put(false, who.since)
	who.since = nil
}

// anyFor says whether a principal with a connection acts for the device.
func (s *sessions) anyFor(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acting[device] > 0
}

// leave is called when mochi has forgotten c.
func (s *sessions) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	me := s.byID[c.id]
	if me == nil || me.conn != c {
		return
	}
	delete(s.byID, c.id)
	if !c.principal.service {
		s.count--
	}
	who := s.people[c.principal.name]
	who.live = slices.DeleteFunc(who.live, func(x *session) bool { return x == me })
	if len(who.live)+who.joining == 0 {
		if who.since != nil {
			s.departed(who)
		}
		s.forget(c.principal.name, who)
	}
	close(me.done)
}

// forget drops the record of a principal that is gone, unless a callback for
// it is still to return; s.mu is held.
func (s *sessions) forget(name string, who *presence) {
	if who.leaving == nil {
		delete(s.people, name)
		return
	}
	select {
	case <-who.leaving:
		delete(s.people, name)
	default: // the next leave or join of this principal finds it
	}
}

// of lists the live connections of a principal.
func (s *sessions) of(name string) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.people[name]
	if who == nil {
		return nil
	}
	conns := make([]*conn, len(who.live))
	for i, me := range who.live {
		conns[i] = me.conn
	}
	return conns
}

// all lists every live connection, the service's last, so that it hears the
// wills of the others if they are disconnected in this order.
func (s *sessions) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.byID))
	for _, me := range s.byID {
		conns = append(conns, me.conn)
	}
	slices.SortStableFunc(conns, func(a, b *conn) int { return rank(a) - rank(b) })
	return conns
}

func rank(c *conn) int {
	if c.principal.service {
		return 1
	}
	return 0
}
