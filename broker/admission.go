package broker

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

const (
	// turnsPerCore is how many CONNECTs are served at a time for each core: some
	// of them wait for an older session to end.
	turnsPerCore = 8
	// failureHold is how long a CONNECT that was refused keeps its turn. It
	// takes no processor time, and leaves somebody who guesses passwords, or a fleet
	// with wrong ones, a small share of it.
	failureHold = 10 * time.Millisecond
	// pressureCheck is how often it is looked whether the service keeps up.
	pressureCheck = 5 * time.Millisecond
	// Bounds on the middle of what is drawn as advice when to come back. An eighth more
	// than the upper one is the longest that clients heed: what is longer would count as that,
	// and have many come back at one moment.
	minRetry = 500 * time.Millisecond
	maxRetry = schemas.MaxRetryAfter / 9 * 8
	// firstPace is taken for the time that a CONNECT needs until it is known.
	firstPace = time.Millisecond
	// firstServed is how many CONNECTs firstPace is worth when it is.
	firstServed = 100
	maxPace     = 100 * time.Millisecond
	// paceMemory is over how much time of serving the pace is measured: a service that
	// stood still for a moment is not slow, and whoever is told to stay away for too
	// long leaves it idle.
	paceMemory = 8 * time.Second
)

// admission decides which CONNECT is served next: checking a password, starting
// a session and what a module says first are the expensive part of a connection,
// and thousands at a time would all be too late. A few are served at a time; the
// others wait, in a line for each remote address, and the lines take turns. Who
// cannot be served in time is told at once, and when to come back: each at another
// moment, as far apart as CONNECTs are served.
type admission struct {
	// closed says whether nobody is to be let in now.
	closed func() bool
	gauge  func(waiting int)
	stop   <-chan struct{}

	mu       sync.Mutex
	free     int
	most     int // that may wait
	waiting  int
	lines    map[netip.Prefix]*line
	turns    []*line // those with somebody in them, next first
	checking bool    // a timer will call grant

	pace   time.Duration // from one CONNECT served to the next, while others wait
	since  time.Time     // when the last one was served; zero if nobody waited then
	spent  time.Duration // on served, while others waited
	served float64
	away   float64   // who was sent away and is not expected yet
	at     time.Time // when away was that
}

// line is who waits at one remote address, oldest first.
type line struct {
	from netip.Prefix
	who  []*turn
}

// turn is one CONNECT that waits or is served.
type turn struct {
	granted chan struct{} // closed when its turn has come
	taken   bool          // it is closed
}

func newAdmission(most int, closed func() bool, gauge func(int), stop <-chan struct{}) *admission {
	return &admission{
		closed: closed, gauge: gauge, stop: stop, free: max(2, turnsPerCore*runtime.GOMAXPROCS(0)), most: most,
		lines: make(map[netip.Prefix]*line), pace: firstPace,
		spent: firstServed * firstPace, served: firstServed,
	}
}

// enter waits for a turn until the deadline. If there is none it returns false
// and how long the client is to stay away. gone ends the wait as well.
func (a *admission) enter(from netip.Prefix, deadline time.Time, gone <-chan struct{}) (ok bool, retry time.Duration) {
	a.mu.Lock()
	wait := time.Until(deadline)
	if a.waiting >= a.most || time.Duration(a.waiting)*a.pace > wait {
		defer a.mu.Unlock()
		return false, a.promise()
	}
	t := a.queue(from)
	a.grant()
	a.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-t.granted:
		return true, 0
	case <-timer.C:
	case <-gone:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.taken {
		return true, 0
	}
	a.forget(from, t)
	return false, a.promise()
}

// queue puts a turn at the end of its line; a.mu is held.
func (a *admission) queue(from netip.Prefix) *turn {
	t := &turn{granted: make(chan struct{})}
	l := a.lines[from]
	if l == nil {
		l = &line{from: from}
		a.lines[from] = l
		a.turns = append(a.turns, l)
	}
	l.who = append(l.who, t)
	a.waiting++
	a.gauge(a.waiting)
	return t
}

// forget takes a turn that is not wanted any more out of its line; a.mu is held.
func (a *admission) forget(from netip.Prefix, t *turn) {
	l := a.lines[from]
	for i, o := range l.who {
		if o == t {
			l.who = append(l.who[:i], l.who[i+1:]...)
			a.waiting--
			a.gauge(a.waiting)
			break
		}
	}
	// An empty line goes when its turn comes.
}

// grant lets in whoever may; a.mu is held.
func (a *admission) grant() {
	for a.free > 0 && a.waiting > 0 {
		if a.closed() {
			a.checkLater()
			return
		}
		l := a.turns[0]
		a.turns[0] = nil
		a.turns = a.turns[1:]
		if len(l.who) > 0 {
			t := l.who[0]
			l.who[0] = nil
			l.who = l.who[1:]
			t.taken = true
			close(t.granted)
			a.free--
			a.waiting--
		}
		if len(l.who) > 0 {
			a.turns = append(a.turns, l)
		} else {
			delete(a.lines, l.from)
		}
	}
	a.gauge(a.waiting)
}

// checkLater looks again before long; a.mu is held.
func (a *admission) checkLater() {
	if a.checking {
		return
	}
	a.checking = true
	time.AfterFunc(pressureCheck, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.checking = false
		select {
		case <-a.stop:
		default:
			a.grant()
		}
	})
}

// leave ends a turn, if the CONNECT was refused a little later.
func (a *admission) leave(refused bool) {
	if refused {
		time.AfterFunc(failureHold, func() { a.leave(false) })
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.measure(time.Now())
	a.free++
	a.grant()
}

// measure notes that one CONNECT more has been served; a.mu is held.
func (a *admission) measure(now time.Time) {
	if a.waiting == 0 { // we are faster than they come
		a.since = time.Time{}
		return
	}
	if !a.since.IsZero() {
		a.spent += now.Sub(a.since)
		a.served++
		a.pace = min(time.Duration(float64(a.spent)/a.served), maxPace)
		if a.spent > paceMemory {
			a.spent, a.served = a.spent/2, a.served/2
		}
	}
	a.since = now
}

// promise finds the moment for one who is sent away; a.mu is held.
func (a *admission) promise() time.Duration {
	now := time.Now()
	a.away = max(0, a.away-float64(now.Sub(a.at))/float64(a.pace)) + 1
	a.at = now
	d := min(maxRetry, minRetry+time.Duration((float64(a.waiting)+a.away)*float64(a.pace)))
	return d - d/8 + rand.N(d/4)
}

// sendAway answers a CONNECT that cannot be served and ends the connection.
func (c *conn) sendAway(connect *packets.Packet, code packets.Code, retry time.Duration) {
	c.version = connect.ProtocolVersion
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: c.version,
		ReasonCode: connackCode(c.version, code).Code,
		Mods:       packets.Mods{MaxSize: connect.Properties.MaximumPacketSize},
		Properties: packets.Properties{
			ReasonString: code.Reason + "; try again in " + retry.Round(time.Millisecond).String(),
			User:         []packets.UserProperty{{Key: schemas.RetryAfterProperty, Val: schemas.FormatRetryAfter(retry)}},
		},
	}
	var p bytes.Buffer
	if err := pk.ConnackEncode(&p); err == nil { // it always is
		_, _ = c.Write(p.Bytes()) // the connection ends either way
	}
	_ = c.Close()
}
