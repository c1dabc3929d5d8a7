package broker

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
)

const (
	// burstSeconds is how many seconds' worth of a rate may come at once: what a device
	// says after a while without the network, and a bridge of all its devices.
	burstSeconds = 10
	// calm is how long a principal has to stay within its rates for what it did
	// before not to count any more.
	calm = 10 * time.Second
)

var errTooFast = errors.New("the client has sent too fast for too long")

// limit names what a client went over; the values are metric labels.
type limit string

const (
	limitPackets    limit = "packet_rate"
	limitMessages   limit = "message_rate"
	limitBytes      limit = "byte_rate"
	limitConnects   limit = "connect_rate"
	limitPacketSize limit = "packet_size"
)

// epoch is what buckets count from. Any moment does; one for all is smaller than one each.
var epoch = time.Now()

// bucket is a token bucket kept as one number: when it is full again, as the time
// since epoch. What is taken out moves that moment; its distance from now less the
// burst is what is owed.
type bucket time.Duration

// untouched is a bucket that nothing was taken out of. The clock of a test may be years
// before epoch.
const untouched bucket = math.MinInt64

// take takes out what takes cost to come back and returns how long the taker has
// to wait for it, or no time.
func (b *bucket) take(now, cost, burst time.Duration) time.Duration {
	*b = max(*b, bucket(now)) + bucket(cost)
	return max(0, time.Duration(*b)-now-burst)
}

// owed is take of nothing.
func (b *bucket) owed(now, burst time.Duration) time.Duration {
	return max(0, time.Duration(max(*b, bucket(now)))-now-burst)
}

// meter measures what all connections of one principal send together. It allocates
// nothing and lives as long as the principal does, so that connecting again is no
// way to begin with full buckets.
type meter struct {
	mu       sync.Mutex
	connects bucket
	packets  bucket
	messages bucket
	bytes    bucket
	slowFrom time.Duration // when it was first made to wait
	slowAt   time.Duration // and the last time
}

func newMeter() meter {
	return meter{connects: untouched, packets: untouched, messages: untouched, bytes: untouched}
}

// each is the time for one of so many a second.
func each(rate, devices int) time.Duration { return time.Second / time.Duration(rate*devices) }

// scale is how many devices' worth a principal may send.
func (p *principal) scale() int { return max(1, len(p.devices)) }

// connect takes one connection, or says in how long there is one. Who is refused has
// taken nothing: a client that tries again too soon is let in when it is time.
func (p *principal) connect(now time.Time, perMinute int) (wait time.Duration) {
	m := &p.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	at, cost := now.Sub(epoch), time.Minute/time.Duration(perMinute)
	tried := m.connects
	if wait = tried.take(at, cost, time.Minute); wait == 0 {
		m.connects = tried
	}
	return wait
}

// message takes n messages; the read loop waits for them before the next packet.
func (p *principal) message(now time.Time, n int, l *Limits) {
	m := &p.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages.take(now.Sub(epoch), time.Duration(n)*each(l.MessageRate, p.scale()), burstSeconds*time.Second)
}

// overrun says how long to wait before a packet is read and which limit wants that.
// persists says that the principal has been made to wait again and again for as long as
// Limits.TooFast. The zero value is of a packet that need not wait.
type overrun struct {
	wait     time.Duration
	which    limit
	persists bool
}

// packet takes one packet with its bytes, and says whether it has to wait.
func (p *principal) packet(now time.Time, size int, l *Limits) overrun {
	m := &p.meter
	const burst = burstSeconds * time.Second
	m.mu.Lock()
	defer m.mu.Unlock()
	at := now.Sub(epoch)
	wait, which := m.packets.take(at, each(l.PacketRate, p.scale()), burst), limitPackets
	second := time.Duration(l.ByteRate) * time.Duration(p.scale()) // bytes of it
	if w := m.bytes.take(at, time.Duration(size)*time.Second/second, burst); w > wait {
		wait, which = w, limitBytes
	}
	if w := m.messages.owed(at, burst); w > wait {
		wait, which = w, limitMessages
	}
	if wait == 0 {
		return overrun{}
	}
	if m.slowAt == 0 || at-m.slowAt > calm {
		m.slowFrom = at
	}
	m.slowAt = at + wait
	return overrun{wait, which, at-m.slowFrom >= l.TooFast}
}

// pace takes a packet of a client, which is not the service, and has it wait if need be.
// size is the packet's length behind its fixed header.
func (b *Broker) pace(c *conn, size int) error {
	if over := c.principal.packet(time.Now(), size, &b.cfg.Limits); over.wait > 0 {
		return b.slow(c, over)
	}
	return nil
}

// slow has the read loop of a connection that sends faster than its principal may wait
// before it reads on, so that TCP slows the client down and nothing is stored for
// it. Who goes on in spite of that is disconnected (MQTT 5, 3.14.2.1, reason 0x96).
//
//go:noinline
func (b *Broker) slow(c *conn, over overrun) error {
	which := string(over.which)
	b.metrics.limited(which)
	if over.persists {
		b.tellLimited(c, which, "it has sent too fast for too long; connection ended")
		b.disconnect(c, packets.ErrMessageRateTooHigh)
		return errTooFast
	}
	b.tellLimited(c, which, "it is slowed down")
	t := time.NewTimer(over.wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.closed:
	}
	b.expect(c)
	return nil
}

// tellLimited logs that a client went over a limit, once a minute for each principal
// and limit.
func (b *Broker) tellLimited(c *conn, which, what string) {
	if b.logged.Allow("limit/" + which + "/" + c.principal.name) {
		b.log.Warn("MQTT client goes over its limits: "+what, "event", logevent.BrokerLimited, "principal", c.principal.name, "limit", which, "remote", c.RemoteAddr().String())
	}
}

// tooSoon refuses a connection of a principal that connects over and over (MQTT 5,
// 3.2.2.2, reason 0x9F). Whose password is wrong takes nothing of it.
func (h *hook) tooSoon(p *principal) *no {
	wait := p.connect(time.Now(), h.b.cfg.Limits.ConnectRate)
	if wait == 0 {
		return nil
	}
	h.b.metrics.limited(string(limitConnects))
	return &no{code: packets.ErrConnectionRateExceeded, reason: string(limitConnects), retry: wait,
		detail: "it connects more often than --connect-rate allows; look whether two programs use its name, or whether it is cut off by something"}
}

// tooLarge ends a connection whose fixed header cannot be accepted, and says why.
func (b *Broker) tooLarge(c *conn, err error) error {
	var code packets.Code
	if !errors.As(err, &code) || code.Code < packets.ErrUnspecifiedError.Code {
		return err
	}
	if code == packets.ErrPacketTooLarge {
		b.metrics.limited(string(limitPacketSize))
		b.tellLimited(c, string(limitPacketSize), "a packet is too large; connection ended")
	}
	b.disconnect(c, code)
	return err
}
